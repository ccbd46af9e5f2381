"""Exploration and estimation: how the keep probabilities of channels moved, and what the samples scored."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean
from typing import Any

import numpy as np

from widthwise.methods import RunRecord

__all__ = ["Box", "Probabilities", "Samples", "Snapshot", "probabilities_of", "samples_of", "snapshots_of"]

HALF = 0.5
"""A channel that is likelier kept than not stays."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """The probabilities of the channels of one group in five numbers."""

    least: float
    lower: float
    """First quartile."""
    median: float
    upper: float
    """Third quartile."""
    most: float
    likely: int
    """Channels with a probability above one half."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The probabilities at one moment of the search."""

    step: int
    boxes: tuple[Box, ...]
    """One for each group."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probabilities:
    """The probabilities at the start, in the middle and at the end (so far)."""

    groups: tuple[str, ...]
    snapshots: tuple[Snapshot, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """What the sampled sub-networks scored."""

    count: int
    """How many were run."""
    steps: tuple[int, ...]
    loss: tuple[float, ...]
    """Mean cross-entropy of each step's samples."""
    accuracy: tuple[float, ...]
    """Mean top-1 of each step's samples, in percent of the step's images."""
    shown: tuple[int, ...]
    """The steps of the two that follow."""
    used: tuple[float, ...]
    """Expected share of the budget that a network drawn from the probabilities uses, in percent."""
    undecided: tuple[float, ...]
    """Share of the channels with a probability between 0.1 and 0.9, in percent."""


def probabilities_of(run: RunRecord) -> Probabilities | None:
    """The box plots of a run; None where there are no probabilities.

    Which channels make a group is known at the end of a run; until then all are one.
    """
    events = run.of("probabilities")
    if not events:
        return None
    groups = (run.result or {}).get("groups") or [{"name": "all channels", "width": len(events[0]["p"])}]
    return snapshots_of(events, {group["name"]: group["width"] for group in groups})


def snapshots_of(events: Sequence[Mapping[str, Any]], groups: Mapping[str, int]) -> Probabilities:
    """The box plots of what a search wrote down.

    Args:
        events: of the kind ``probabilities``, at least one.
        groups: widths by name, in the order of the channels.
    """
    first, last = events[0], events[-1]
    middle = min(events, key=lambda e: abs(2 * e["step"] - first["step"] - last["step"]))
    moments = {event["step"]: event for event in (first, middle, last)}
    ends = [0, *accumulate(groups.values())]
    return Probabilities(
        groups=tuple(groups),
        snapshots=tuple(
            Snapshot(step=step, boxes=tuple(box(event["p"][a:b]) for a, b in pairwise(ends)))
            for step, event in moments.items()
        ),
    )


def box(values: Sequence[float]) -> Box:
    """Five numbers of some probabilities."""
    least, lower, median, upper, most = np.quantile(np.array(values), [0, 0.25, 0.5, 0.75, 1]).tolist()
    likely = sum(value > HALF for value in values)
    return Box(least=least, lower=lower, median=median, upper=upper, most=most, likely=likely)


def samples_of(run: RunRecord) -> Samples | None:
    """What the samples of a run scored; None without any."""
    steps: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in run.of("samples"):
        steps[event["step"]].append(event)
    if not steps:
        return None
    records = [event for event in run.of("probabilities") if event.get("record")]
    return Samples(
        count=sum(len(event["losses"]) for events in steps.values() for event in events),
        steps=tuple(steps),
        loss=tuple(fmean(loss for event in events for loss in event["losses"]) for events in steps.values()),
        accuracy=tuple(100 * fmean(a for event in events for a in event["accuracies"]) for events in steps.values()),
        shown=tuple(event["step"] for event in records),
        used=tuple(100 * event["record"]["used"] for event in records),
        undecided=tuple(100 * event["record"]["undecided"] for event in records),
    )
