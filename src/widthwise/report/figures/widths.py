"""Widths of groups and multiply-adds of layers, before and after."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from widthwise.report.data import Layers, Row
from widthwise.report.figures.style import (
    BLUE,
    GHOST,
    INK,
    MUTED,
    SIZE,
    canvas,
    dress,
    figure_of,
    large_numbers,
    legend,
    shortened,
    styled,
)

__all__ = ["macs_figure", "widths_figure"]

ROWS = 64
"""More bars than these are drawn as a profile without names."""


@styled
def widths_figure(layers: Layers) -> Figure:
    """Channels of each group: what is left of it in front of what it was."""
    return _drawn(layers.groups, "channels", "group of channels, in the order of the model")


@styled
def macs_figure(layers: Layers) -> Figure:
    """Multiply-adds of each operation: what is left of them in front of what they were."""
    return _drawn(layers.macs, "multiply-adds", "operation, in the order of the forward pass")


def _drawn(rows: Sequence[Row], unit: str, what: str) -> Figure:
    few = len(rows) <= ROWS
    (panel,) = canvas(0.9 + 0.26 * max(2, len(rows)) if few else 3.4)
    if few:
        _bars(panel, rows)
        panel.set_xlabel(unit)
    else:
        _profile(panel, rows)
        panel.set(xlabel=what, ylabel=unit)
    large_numbers(panel.xaxis if few else panel.yaxis)
    legend(panel, 2)
    return figure_of(panel)


def _bars(panel: Axes, rows: Sequence[Row]) -> None:
    """One bar for each row, from the top, with the share that is left behind it."""
    dress(panel, "x")
    panel.spines["bottom"].set_visible(False)
    places = np.arange(len(rows))
    panel.barh(places, [row.before for row in rows], height=0.74, color=GHOST, alpha=0.55, label="full network")
    panel.barh(places, [row.after for row in rows], height=0.74, color=BLUE, label="small network")
    for place, row in enumerate(rows):
        panel.annotate(
            f"{row.kept:.0%}",
            (row.before, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=SIZE - 1.5,
            color=INK if row.after < row.before else MUTED,
        )
    panel.set_yticks(places, [shortened(row.name) for row in rows])
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_xlim(0, 1.16 * max((row.before for row in rows), default=1))


def _profile(panel: Axes, rows: Sequence[Row]) -> None:
    """All rows as two areas, where bars would be too many to read."""
    edges = np.arange(len(rows) + 1) - 0.5
    panel.stairs([row.before for row in rows], edges, fill=True, color=GHOST, alpha=0.55, label="full network")
    panel.stairs([row.after for row in rows], edges, fill=True, color=BLUE, label="small network")
    panel.set_xlim(-0.5, len(rows) - 0.5)
    panel.set_ylim(0, None)
