"""What the page of the comparison shows as pictures."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.peers.rows import Found, Summary, by_budget, undominated
from benchmarks.peers.variants import Kind
from benchmarks.report import INK, drawn

__all__ = ["accuracies", "accuracy_for_time"]

COLOURS: dict[Kind, str] = {"method": INK[0], "baseline": INK[2], "peer": INK[1]}

MARKERS = "osD^v"
"""One for each settings."""

POINTS = 12
"""What is so many points below the best row is not drawn: it would press all others together."""


def accuracies(found: Found) -> Figure:
    """Accuracy by seed and the means, a panel for each budget, the best on top."""
    return drawn(found, _dots, len(found), (12.5, 6.0))


def accuracy_for_time(found: Mapping[str, Found]) -> Figure:
    """Accuracy beside the total time, a panel for each budget; numbered are the rows that no other beats in both.

    Args:
        found: by the name of the settings.
    """
    panels = by_budget(found)
    return drawn(panels, _times, len(panels), (12.5, 5.5))


def _dots(found: Found, axes: Sequence[Axes]) -> None:
    for panel, (budget, of) in zip(axes, found.items(), strict=True):
        for place, summary in enumerate(reversed(of)):
            scores, colour = [100 * score for score in summary.values(summary.metric)], COLOURS[summary.kind]
            panel.scatter(scores, [place] * len(scores), s=14, color=colour, alpha=0.7)
            panel.vlines(100 * summary.score, place - 0.3, place + 0.3, color=colour)
        panel.set_yticks(range(len(of)), [summary.name for summary in reversed(of)], fontsize=7)
        _say(panel, f"{of[0].metric} accuracy (%), {budget:.0%}", "")


def _times(found: Mapping[float, Mapping[str, Sequence[Summary]]], axes: Sequence[Axes]) -> None:
    for panel, (budget, by_settings) in zip(axes, found.items(), strict=True):
        everything = [summary for of in by_settings.values() for summary in of]
        least = max(100 * summary.score for summary in everything) - POINTS
        shown = [summary for summary in everything if 100 * summary.score >= least]
        front = undominated(shown)
        for marker, of in zip(MARKERS, by_settings.values(), strict=False):
            for summary in of:
                if 100 * summary.score >= least:
                    dot = (summary.total_seconds, 100 * summary.score)
                    panel.scatter(*dot, s=22, marker=marker, color=COLOURS[summary.kind])
        panel.plot([s.total_seconds for s in front], [100 * s.score for s in front], color="0.6", lw=0.8, zorder=0)
        for number, summary in enumerate(front, 1):
            above = 100 * summary.score + 0.03 * (panel.get_ylim()[1] - panel.get_ylim()[0])
            panel.scatter(summary.total_seconds, above, s=40, marker=f"${number}$", color="0.3", label=summary.name)
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_locator(NullLocator())
        panel.legend(fontsize=7)
        left_out = len(everything) - len(shown)
        note = f" (not shown: {left_out} below {least:.0f} %)" if left_out else ""
        _say(panel, f"search and fine-tuning (s), {budget:.0%}{note}", f"{everything[0].metric} accuracy (%)")


def _say(panel: Axes, below: str, beside: str) -> None:
    panel.set_xlabel(below, fontsize=8)
    panel.set_ylabel(beside, fontsize=8)
    panel.tick_params(axis="x", labelsize=8)
