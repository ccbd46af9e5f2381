"""The look that all figures share: colours that the colour-blind can tell apart, in a light and a dark theme.

A figure is drawn in the colours of the light theme. When it is written as SVG each of them becomes a CSS variable, so
that the same file follows the theme of whoever looks at it; that is why no colour may stand for two things.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from widthwise.report.words import tick

__all__ = [
    "AMBER",
    "BLUE",
    "FAINT",
    "FONT",
    "GHOST",
    "GREEN",
    "INK",
    "LEGEND",
    "MUTED",
    "ORANGE",
    "PURPLE",
    "SERIES",
    "SIZE",
    "SURFACE",
    "THEME",
    "WIDTH",
    "canvas",
    "dress",
    "figure_of",
    "large_numbers",
    "legend",
    "logarithmic",
    "shortened",
    "styled",
    "thinned",
    "whole_numbers",
]

SURFACE, INK, MUTED, FAINT, GHOST = "#ffffff", "#1c2430", "#566070", "#dfe3e8", "#b4bdc9"
BLUE, ORANGE, GREEN, PURPLE, AMBER = "#0072b2", "#d55e00", "#00855f", "#9b4f86", "#a87600"

THEME: dict[str, tuple[str, str, str]] = {
    "surface": (SURFACE, "#1a2029", "what figures and cards stand on"),
    "ink": (INK, "#e8ecf1", "text"),
    "muted": (MUTED, "#a3adba", "text of less weight"),
    "faint": (FAINT, "#343d49", "grids and lines between things"),
    "ghost": (GHOST, "#5c6878", "the full network, and candidates among many"),
    "blue": (BLUE, "#5cb8f0", "the small network; the first of several series"),
    "orange": (ORANGE, "#ff9d57", "the choice; the second series"),
    "green": (GREEN, "#3ccf9f", "the third series"),
    "purple": (PURPLE, "#dd9bc9", "the fourth"),
    "amber": (AMBER, "#e8bd4a", "the fifth"),
}
"""Name of a colour: light theme, dark theme, what it is for."""

SERIES = (BLUE, ORANGE, GREEN, PURPLE, AMBER)

WIDTH = 4.8
"""Inches: what fits a phone without its text becoming too small."""

FONT = "DejaVu Sans"
"""What text is laid out with; it comes with matplotlib."""

SIZE = 10.5
"""Points, of most text."""

LABEL = 24
"""Characters of a module's path that are shown."""

POINTS = 1500
"""Points of one kind that are drawn; more would make the page heavy, and no difference to the eye."""

LEGEND: dict[str, Any] = {
    "frameon": False,
    "fontsize": SIZE - 0.5,
    "labelcolor": INK,
    "handlelength": 1.2,
    "handletextpad": 0.5,
    "columnspacing": 1.2,
}
"""The look of a legend."""

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": [FONT],
    "font.size": SIZE,
    "axes.titlesize": SIZE + 1,
    "axes.labelsize": SIZE,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.edgecolor": FAINT,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}

Arguments = ParamSpec("Arguments")


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Draw in our style, whatever the caller's settings of matplotlib are; they are as before afterwards."""

    @wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return drawn


def canvas(height: float, rows: int = 1, columns: int = 1, **options: Any) -> list[Axes]:
    """The panels of a new figure of the usual width, row by row; ``panels[0].figure`` is the figure."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr, call-arg]
    panels = figure.subplots(rows, columns, squeeze=False, **options).flatten().tolist()
    for panel in panels:
        dress(panel)
    return list(panels)


def dress(panel: Axes, grid: str = "y") -> None:
    """No frame but a faint base line, and a faint grid behind everything."""
    panel.set_axisbelow(True)
    for side, spine in panel.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(FAINT)
    panel.tick_params(colors=MUTED, labelcolor=MUTED, labelsize=SIZE - 0.5, length=0)
    panel.grid(False)
    panel.grid(True, axis=grid, color=FAINT, linewidth=0.8)  # type: ignore[arg-type]


def figure_of(panel: Axes) -> Figure:
    """The figure that a panel of ours is in."""
    figure = panel.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure


def legend(panel: Axes, columns: int) -> None:
    """A legend without a frame, above the panel."""
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.3}
    panel.legend(**place, **LEGEND, ncols=columns)


def large_numbers(axis: Axis) -> None:
    """``50 k`` instead of ``50000``, and few of them."""
    axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))


def logarithmic(panel: Axes) -> None:
    """A logarithmic vertical axis with plain numbers."""
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def whole_numbers(panel: Axes) -> None:
    """Only whole numbers along the horizontal axis."""
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))


def shortened(path: str, most: int = LABEL) -> str:
    """The end of a name, which tells it apart, as matplotlib writes it: a dollar sign begins no formula."""
    end = path if len(path) <= most else "\N{HORIZONTAL ELLIPSIS}" + path[-(most - 1) :]
    return end.replace("$", r"\$")


def thinned(count: int, keep: set[int], most: int = POINTS) -> list[int]:
    """The places of at most about ``most`` of many points, evenly spread, and of all that must be shown."""
    step = -(-count // most)
    return sorted({*range(0, count, step), *keep}) if count else []
