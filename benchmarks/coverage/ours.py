"""Widthwise on one network: the trace, its cost, and five random sub-networks against the reference."""

from collections import Counter
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.coverage.build import Built
from benchmarks.coverage.compare import Comparison, compare, full_outputs
from benchmarks.coverage.memory import model_bytes, peak_growth
from benchmarks.coverage.notes import Notes
from benchmarks.coverage.weights import randomise
from widthwise import ChannelGraph, CostModel, Group, Subnet, trace
from widthwise.report import PinnedFor, explain

__all__ = ["DRAWS", "measure", "rows"]

DRAWS = 5
"""Random sub-networks that are compared."""

FORWARDS = 3
"""Timed forward passes; the fastest counts."""

REASONS = 6
"""Reasons for pinning that are kept, those with the most channels first."""


def measure(built: Built, notes: Notes, detection: bool) -> None:
    """Write down everything about one network.

    Args:
        built: the network; its weights are changed.
        notes: filled stage by stage.
        detection: whether to compare in double precision, with the numbers behind each decision.
    """
    randomise(built.model)
    built.model.requires_grad_(False)  # FlopCounterMode stumbles over parameters that want gradients under no_grad
    notes.stage("forward")
    seconds = _forward(built, notes)
    notes.stage("trace")
    graph = _trace(built, notes, seconds)
    cost = CostModel(graph)
    notes.stage("cost")
    notes.add(**_extent(graph, cost))
    notes.stage("compare")
    if graph.prunable:
        notes.add(**_proof(built, graph, cost, detection))


def _forward(built: Built, notes: Notes) -> float:
    """Time and memory of the model's own forward pass, after one that loads libraries and fills caches."""
    with torch.no_grad():
        built.model(*built.args)
        _, growth = peak_growth(lambda: built.model(*built.args))
        times = []
        for _ in range(FORWARDS):
            start = perf_counter()
            built.model(*built.args)
            times.append(perf_counter() - start)
    params = sum(parameter.numel() for parameter in built.model.parameters())
    notes.add(forward_s=min(times), forward_bytes=growth, model_bytes=model_bytes(built.model), params=params)
    return min(times)


def _trace(built: Built, notes: Notes, forward_s: float) -> ChannelGraph:
    """The trace with its proof, once, after one of a tiny network that loads what tracing needs."""
    trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)), torch.randn(1, 3, 8, 8))

    def timed() -> tuple[ChannelGraph, float]:  # what measures the memory takes time of its own
        start = perf_counter()
        graph = trace(built.model, built.args)
        return graph, perf_counter() - start

    (graph, seconds), growth = peak_growth(timed)
    notes.add(trace_s=seconds, trace_passes=seconds / forward_s, trace_bytes=growth)
    return graph


def _extent(graph: ChannelGraph, cost: CostModel) -> dict[str, Any]:
    """How much of the network may be pruned, and why not the rest."""
    facts = explain(graph, cost)
    return {
        "groups": len(facts.prunable),
        "channels": sum(rows(group) for group in graph.prunable),
        "units": facts.channels,
        "macs": facts.macs,
        "macs_share": facts.macs_share,
        "params_share": facts.params_share,
        "least_share": facts.smallest.macs / max(1, facts.macs),
        "layers": sum(isinstance(m, nn.Linear | nn.modules.conv._ConvNd) for m in graph.model.modules()),
        "pinned": len(graph.pinned),
        "reasons": _reasons(facts.pinned),
        "notes": list(facts.notes),
    }


def rows(group: Group) -> int:
    """Channels as layers make them: rows of one layer's weight that go with the group.

    A channel of ours may stand at several positions (the same channel of every group of a grouped convolution, a
    whole attention head). Peers count positions, so for a comparison we do.
    """
    made = [member.per_channel for member in group.members if member.role == "out"]
    return group.width * max(made, default=1)


def _reasons(pinned: Sequence[PinnedFor]) -> list[tuple[int, str]]:
    """(channels, reason with its operation) of pinned groups, the most channels first."""
    count: Counter[str] = Counter()
    for reason in pinned:
        count[reason.what.splitlines()[0][:200] + f": {reason.operation}" * bool(reason.operation)] += reason.channels
    return [(channels, reason) for reason, channels in count.most_common(REASONS)]


def _proof(built: Built, graph: ChannelGraph, cost: CostModel, detection: bool) -> dict[str, Any]:
    """The worst of ``DRAWS`` random sub-networks: every width random, and random channels of each group."""
    if detection:
        built = Built(built.model.double(), _doubled(built.args))
    generator = torch.Generator().manual_seed(1)
    full = full_outputs(built, decisions=detection)
    found: list[Comparison] = []
    for _ in range(DRAWS):
        found.append(compare(built, graph, cost, _random_subnet(graph, generator), full, decisions=detection))
    return {
        "draws": len(found),
        "error": max(c.error for c in found),
        "effect": min(c.effect for c in found),
        "numbers": all(c.numbers for c in found),
        "macs_exact": sum(c.macs == c.counted_macs for c in found),
        "unfused_macs_exact": sum(c.macs == c.unfused_macs for c in found),
        "params_exact": sum(c.params == c.counted_params for c in found),
        "last_macs": [found[-1].macs, found[-1].counted_macs, found[-1].unfused_macs],
    }


def _random_subnet(graph: ChannelGraph, generator: torch.Generator) -> Subnet:
    widths = [int(torch.randint(1, group.width + 1, (), generator=generator)) for group in graph.prunable]
    ranking = torch.rand(graph.num_channels, generator=generator, dtype=torch.float64)
    return graph.top(ranking, torch.tensor(widths, dtype=torch.int64))


def _doubled(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double()
    return type(value)(_doubled(item) for item in value)
