"""The pictures that show several runs side by side."""

from collections.abc import Sequence

from widthwise.report import figures
from widthwise.report.data import Summary
from widthwise.report.pictures import Picture
from widthwise.report.words import points

__all__ = ["comparison_pictures"]


def comparison_pictures(runs: Sequence[Summary]) -> list[Picture]:
    """What shows several runs side by side."""
    found = []
    known = [(run.name, run.accuracy) for run in runs if run.accuracy is not None]
    if known:
        found.append(
            Picture(
                name="accuracies",
                section="comparison",
                title="Accuracy before and after",
                caption="Of the full network (ring) and of the small one (dot).",
                alt="; ".join(f"{name} {change.after:.2f}% ({points(change.gain)} points)" for name, change in known)
                + ".",
                figure=figures.accuracy_figure(runs),
            )
        )
    if any(run.total for run in runs):
        found.append(
            Picture(
                name="times",
                section="comparison",
                title="Time by phase",
                caption="Wall time of every phase, over all processes that worked on the run.",
                alt="; ".join(f"{run.name} {run.total:.0f} seconds" for run in runs) + ".",
                figure=figures.time_figure(runs),
            )
        )
    return found
