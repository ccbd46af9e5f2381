"""Stage-wise pruning: what was looked at in each stage, and how the budget was divided over them."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from widthwise.cost.latency import TICKS
from widthwise.methods import RunRecord
from widthwise.search.division.pareto import undominated

__all__ = ["Division", "Gene", "Stage", "division_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gene:
    """Widths of one stage that were looked at."""

    widths: tuple[int, ...]
    loss: float
    cost: int | None
    """Of the stage by the division's metric, with whole input; None where the run did not write it down."""
    front: bool
    """Whether no other one costs no more and loses no more."""
    chosen: bool
    """Whether the network that was found has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage."""

    name: str
    """Path of the module that ends it."""
    genes: tuple[Gene, ...]
    loss: float | None
    """Of the network that was found; None before the end of the search."""
    before: int | None
    """What the stage costs in the full network, with what is counted with it (stem, head)."""
    after: int | None
    """What it costs in the network that was found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Division:
    """The stages, and what ties them together."""

    stages: tuple[Stage, ...]
    metric: str
    """What costs are counted in: ``macs``, or ``params`` or ``latency`` (ns) where only that is limited."""
    looked_at: int
    """Genes, all stages together."""
    gap: float | None
    """No combination of the genes that were looked at has a sum of losses smaller by more than this; None if that is
    not known."""
    over: bool
    """Whether the budget was divided already."""
    loss: float | None
    """The smallest sum of the stages' losses that was found; None before the end."""


def division_of(run: RunRecord) -> Division | None:
    """The stages of a run; None of a method that has none."""
    losses: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in run.of("stage_loss"):
        losses[event["stage"]].append(event)
    if not losses:
        return None
    ends = run.of("division")
    end = ends[-1] if ends else {}
    metric = _metric(run)
    names = end.get("stages") or [f"stage {number + 1}" for number in range(max(losses) + 1)]
    stages = [_stage(number, name, losses[number], end, metric) for number, name in enumerate(names)]
    return Division(
        stages=tuple(stages),
        metric=metric,
        looked_at=sum(map(len, losses.values())),
        gap=end.get("found", {}).get("gap"),
        over=bool(end),
        loss=sum(end["found"]["losses"]) if end else None,
    )


def _metric(run: RunRecord) -> str:
    """The first that is limited."""
    budget = run.config.get("budget") or {}
    if budget.get("macs") is not None:
        return "macs"
    if budget.get("params") is not None:
        return "params"
    return "macs" if budget.get("latency") is None and budget.get("latency_ms") is None else "latency"


def _shown(cost: int | None, metric: str) -> int | None:
    """Times in whole nanoseconds."""
    return cost if cost is None or metric != "latency" else cost * 10**9 // TICKS


def _stage(number: int, name: str, events: list[dict[str, Any]], end: Mapping[str, Any], metric: str) -> Stage:
    losses = end.get("chosen", {}).get("losses")
    costs = {part: end.get("costs", {}).get(part, {}).get(metric) for part in ("before", "after")}
    own = end.get("own")
    gene = None if own is None else tuple(end["chosen"]["widths"][group] for group in own[number])
    return Stage(
        name=name,
        genes=_genes(events, gene, metric),
        loss=None if losses is None else losses[number],
        before=None if costs["before"] is None else _shown(costs["before"][number], metric),
        after=None if costs["after"] is None else _shown(costs["after"][number], metric),
    )


def _genes(events: list[dict[str, Any]], chosen: tuple[int, ...] | None, metric: str) -> tuple[Gene, ...]:
    costs = [_shown(event.get("cost", {}).get(metric), metric) for event in events]
    front: set[int] = set()
    if events and None not in costs:
        table, losses = np.array(costs, dtype=np.int64)[:, None], np.array([event["loss"] for event in events])
        front = set(undominated(np.zeros(len(events), dtype=np.int64), losses, table).tolist())
    return tuple(
        Gene(
            widths=tuple(event["widths"]),
            loss=event["loss"],
            cost=cost,
            front=place in front,
            chosen=tuple(event["widths"]) == chosen,
        )
        for place, (event, cost) in enumerate(zip(events, costs, strict=True))
    )
