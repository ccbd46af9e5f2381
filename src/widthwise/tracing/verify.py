"""The proof: every group that a graph offers is removed in part, run and compared with the reference.

The reference is the full network whose consumers have zero weights for the removed channels (``gated``), which is
exact whatever stands in between. Groups are tested together; where that fails they are halved, so a model without
surprises costs two runs per round, and each surprise a few more. Over the rounds every group is left with a single
channel once (squeezed dimensions and accidental broadcasting show there), loses a single one once (hard-coded sizes
do) and loses a random share once.
"""

from collections.abc import Callable
from typing import Any
from zlib import crc32

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from widthwise.channels.graph import ChannelGraph, Group
from widthwise.channels.subnet import Subnet
from widthwise.subnet.gated import gated
from widthwise.subnet.materialize import materialize
from widthwise.tracing.build import Draft
from widthwise.tracing.probe import Probe

__all__ = ["difference", "prove"]

ROUNDS = 3
"""Sub-networks that every accepted group has been part of: all but one channel gone, one gone, a random share gone."""


class _Decisions(TorchDispatchMode):
    """Keeps the numbers behind results that are no numbers (a class, a mask): those hide most mistakes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.grounds: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        results = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        if results and not any(t.is_floating_point() or t.is_complex() for t in results):
            inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
            self.grounds.extend(t.clone() for t in inputs if t.is_floating_point())
        return out


def _run(probe: Probe, network: Callable[..., Any]) -> tuple[list[Tensor], list[Tensor]]:
    """What a network returns, and the numbers behind it where it returns decisions."""
    if all(t.is_floating_point() or t.is_complex() for t in probe.outputs):
        return probe.run(network), []
    with _Decisions() as decisions:
        return probe.run(network), decisions.grounds


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """Largest difference of any output, relative to the largest value of that output; infinite if shapes differ."""
    if [t.shape for t in found] != [t.shape for t in expected]:
        return float("inf")
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        if a.numel() and (a.is_floating_point() or a.is_complex()):
            usual = b.isfinite()  # masked scores are infinite on purpose: those must be the same
            if not torch.equal(a.isfinite(), usual) or not torch.equal(a[~usual].nan_to_num(), b[~usual].nan_to_num()):
                return float("inf")
            a, b = a.where(usual, 0), b.where(usual, 0)
            scale = b.abs().amax().item()
            error = (a - b).abs().amax().item() / (scale or 1.0)
            worst = max(worst, error if error == error else float("inf"))
        elif not torch.equal(a, b):
            worst = float("inf")
    return worst


def _random_subnet(graph: ChannelGraph, groups: list[Group], seed: int, turn: int) -> Subnet:
    """Remove all but one channel, or one, or a random share of each of these groups, in turns; keep the others.

    Whose turn it is hangs on the name, so that the groups pinned between two rounds do not make one miss a turn.
    """
    generator = torch.Generator().manual_seed(seed)
    keep = torch.ones(graph.num_channels, dtype=torch.bool)
    for group in groups:
        share = int(torch.randint(1, group.width, (), generator=generator))
        gone = (group.width - 1, 1, share)[(crc32(group.name.encode()) + turn) % 3]
        keep[group.ids[torch.randperm(group.width, generator=generator)[:gone]]] = False
    return Subnet(keep)


def _failure(graph: ChannelGraph, probe: Probe, groups: list[Group], seed: int, turn: int) -> str | None:
    """Why the sub-network without part of these groups is not what it should be; None if it is."""
    subnet = _random_subnet(graph, groups, seed, turn)
    try:
        expected, wanted = _run(probe, gated(probe.model, graph, subnet.keep.to(torch.float64)))
        small = materialize(probe.model, graph, subnet)
        found, made = _run(probe, small)
        if probe.trains:
            probe.run_in_training(small)
    except Exception as error:
        first_line = (str(error) or "no message").splitlines()[0]
        return f"breaks the forward when pruned ({type(error).__name__}: {first_line})"
    pairs = zip(made, wanted, strict=False)
    worst = max([difference(found, expected), *(difference([a], [b]) for a, b in pairs if a.shape == b.shape)])
    if worst <= probe.tolerance:
        return None
    return f"computes something else when pruned (relative difference {worst:.1e})"


def _accept(
    graph: ChannelGraph, probe: Probe, accepted: list[Group], groups: list[Group], seed: int, turn: int
) -> list[tuple[Group, str]]:
    """Add to ``accepted`` each group that works together with those before it; return the others."""
    if not groups:
        return []
    failure = _failure(graph, probe, accepted + groups, seed, turn)
    if failure is None:
        accepted.extend(groups)
        return []
    if len(groups) == 1:
        return [(groups[0], failure)]
    half = len(groups) // 2
    return [
        *_accept(graph, probe, accepted, groups[:half], seed, turn),
        *_accept(graph, probe, accepted, groups[half:], seed, turn),
    ]


def prove(draft: Draft, graph: ChannelGraph, probe: Probe) -> ChannelGraph:
    """The graph with every group pinned that does not hold, until ``ROUNDS`` random sub-networks of the rest do."""
    seed = 0
    for turn in range(ROUNDS):
        while True:
            seed += 1
            refused = _accept(graph, probe, [], list(graph.prunable), seed, turn)
            if not refused:
                break
            for group, reason in refused:
                draft.pin(group, reason)
            graph = draft.graph(graph.model)
    return graph
