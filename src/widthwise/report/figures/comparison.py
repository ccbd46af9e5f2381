"""Several runs side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from widthwise.report.data import Summary
from widthwise.report.figures.style import (
    BLUE,
    GHOST,
    INK,
    MUTED,
    SERIES,
    SIZE,
    SURFACE,
    canvas,
    dress,
    figure_of,
    large_numbers,
    legend,
    shortened,
    styled,
)
from widthwise.report.words import PHASES, duration

__all__ = ["accuracy_figure", "scatter_figure", "time_figure"]

LARGE = 1e4
"""From here on numbers on an axis are shortened."""


@styled
def accuracy_figure(runs: Sequence[Summary]) -> Figure:
    """The accuracy of each full network and of each small one, a line for each run."""
    (panel,) = canvas(0.95 + 0.34 * max(2, len(runs)))
    dress(panel, "x")
    rows = [(place, run.accuracy) for place, run in enumerate(runs) if run.accuracy is not None]
    for place, change in rows:
        panel.plot([change.before, change.after], [place, place], color=GHOST, linewidth=2, solid_capstyle="round")
    places = [place for place, _ in rows]
    full, small = [change.before for _, change in rows], [change.after for _, change in rows]
    ring: dict[str, Any] = {"facecolors": SURFACE, "edgecolors": MUTED, "linewidths": 1.5, "zorder": 2.5}
    panel.scatter(full, places, s=44, **ring, label="full network")
    panel.scatter(small, places, s=52, color=BLUE, zorder=3, label="small network")
    for place, change in rows:
        right = change.after >= change.before
        panel.annotate(
            f"{change.after:.1f}",
            (change.after, place),
            (8 if right else -8, 0),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            fontsize=SIZE - 0.5,
            color=INK,
        )
    panel.set_yticks(range(len(runs)), [shortened(run.name, 22) for run in runs])
    panel.set_ylim(len(runs) - 0.5, -0.5)
    panel.margins(x=0.2)  # room for the figures beside the dots
    tested = all(run.test is not None for run in runs if run.accuracy is not None)
    panel.set_xlabel("test accuracy (%)" if tested else "accuracy (%), on test images where there are any")
    legend(panel, 2)
    return figure_of(panel)


@styled
def time_figure(runs: Sequence[Summary]) -> Figure:
    """The time of each run by phase."""
    (panel,) = canvas(0.95 + 0.34 * max(2, len(runs)))
    dress(panel, "x")
    panel.spines["bottom"].set_visible(False)
    longest = max(run.total for run in runs)
    unit, size = ("hours", 3600.0) if longest > 3 * 3600 else ("minutes", 60.0) if longest > 180 else ("seconds", 1.0)
    phases = list(dict.fromkeys(phase for run in runs for phase in run.seconds))
    ends = np.zeros(len(runs))
    for place, phase in enumerate(phases):
        name = PHASES.get(phase, phase)
        lengths = np.array([run.seconds.get(phase, 0.0) for run in runs]) / size
        panel.barh(
            range(len(runs)),
            lengths,
            left=ends,
            height=0.66,
            color=SERIES[place % len(SERIES)],
            label=name,
        )
        ends += lengths
    for place, run in enumerate(runs):
        panel.annotate(
            (f"\N{GREATER-THAN OR EQUAL TO} {duration(run.total)}" if run.total else "not over")
            if run.at_least
            else duration(run.total),
            (ends[place], place),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=SIZE - 0.5,
            color=INK,
        )
    panel.set_yticks(range(len(runs)), [shortened(run.name, 22) for run in runs])
    panel.set_ylim(len(runs) - 0.5, -0.5)
    panel.margins(x=0.16)
    panel.set_xlim(0, None)
    panel.set_xlabel(unit)
    legend(panel, 4)
    return figure_of(panel)


@styled
def scatter_figure(
    accuracies: Sequence[float], scores: Mapping[str, Sequence[float | None]], taus: Mapping[str, str]
) -> Figure:
    """The accuracy of networks after training against what each proxy said of them, a panel for each.

    Args:
        accuracies: in [0, 1].
        scores: by proxy, one per network; None where it said nothing.
        taus: by proxy, Kendall's tau in words.
    """
    columns = min(2, len(scores))
    rows = -(-len(scores) // columns)
    panels = canvas(0.5 + 2.6 * rows, rows, columns, sharey=True)
    for panel, (name, values) in zip(panels, scores.items(), strict=False):
        points = [
            (score, 100 * accuracy) for score, accuracy in zip(values, accuracies, strict=True) if score is not None
        ]
        panel.scatter([x for x, _ in points], [y for _, y in points], s=20, color=BLUE, linewidths=0)
        panel.set_title(shortened(name, 40))
        panel.set_xlabel(f"Kendall {taus[name]}")
        panel.locator_params(axis="x", nbins=4)
        if max((abs(x) for x, _ in points), default=0.0) >= LARGE:
            large_numbers(panel.xaxis)
    for panel in panels[len(scores) :]:
        panel.set_visible(False)
    for panel in panels[::columns]:
        panel.set_ylabel("accuracy after training (%)")
    return figure_of(panels[0])
