"""What the page of the comparison shows as pictures."""

from collections.abc import Mapping, Sequence
from itertools import cycle

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
        shown, note = _together(of)
        for place, summary in enumerate(reversed(shown)):
            scores, colour = [100 * score for score in summary.values(summary.metric)], COLOURS[summary.kind]
            panel.scatter(scores, [place] * len(scores), s=14, color=colour, alpha=0.7)
            panel.vlines(100 * summary.score, place - 0.3, place + 0.3, color=colour)
        panel.set_yticks(range(len(shown)), [summary.name for summary in reversed(shown)], fontsize=7)
        _say(panel, f"{of[0].metric} accuracy (%), {budget:.0%}{note}", "")


def _times(found: Mapping[float, Mapping[str, Sequence[Summary]]], axes: Sequence[Axes]) -> None:
    for panel, (budget, by_settings) in zip(axes, found.items(), strict=True):
        shown, note = _together([summary for of in by_settings.values() for summary in of])
        front, markers = undominated(shown), dict(zip(by_settings, cycle(MARKERS), strict=False))
        for summary in shown:
            dot, colour = (summary.total_seconds, 100 * summary.score), COLOURS[summary.kind]
            panel.scatter(*dot, s=22, marker=markers[summary.settings], color=colour)
        panel.plot([s.total_seconds for s in front], [100 * s.score for s in front], color="0.6", lw=0.8, zorder=0)
        for number, summary in enumerate(front, 1):
            above = 100 * summary.score + 0.03 * (panel.get_ylim()[1] - panel.get_ylim()[0])
            panel.scatter(summary.total_seconds, above, s=40, marker=f"${number}$", color="0.3", label=summary.name)
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_locator(NullLocator())
        panel.legend(fontsize=7)
        _say(panel, f"search and fine-tuning (s), {budget:.0%}{note}", f"{shown[0].metric} accuracy (%)")


def _together(of: Sequence[Summary]) -> tuple[list[Summary], str]:
    """The rows near the best one, and a remark about the others."""
    least = max(summary.score for summary in of) - POINTS / 100
    shown = [summary for summary in of if summary.score >= least]
    left_out = len(of) - len(shown)
    return shown, f" (not shown: {left_out} below {least:.0%})" if left_out else ""


def _say(panel: Axes, below: str, beside: str) -> None:
    panel.set_xlabel(below, fontsize=8)
    panel.set_ylabel(beside, fontsize=8)
    panel.tick_params(axis="x", labelsize=8)
