"""The proof: every group that a graph offers is removed in part, run and compared with the reference.

The reference is the full network whose consumers have zero weights for the removed channels (``gated``), which is
exact whatever stands in between. Groups are tested together; where that fails they are halved, so a model without
surprises costs two runs per round, and each surprise a few more. The first round leaves a single channel, where
squeezed dimensions and accidental broadcasting show.
"""

import torch
from torch import Tensor

from widthwise.channels.graph import ChannelGraph, Group
from widthwise.channels.subnet import Subnet
from widthwise.subnet.gated import gated
from widthwise.subnet.materialize import materialize
from widthwise.tracing.build import Draft
from widthwise.tracing.probe import Probe

__all__ = ["difference", "prove"]

ROUNDS = 3
"""Random sub-networks that every accepted group has been part of; in the first it keeps one channel."""


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


def _random_subnet(graph: ChannelGraph, groups: list[Group], seed: int, narrow: bool) -> Subnet:
    """Remove a random share, at least one channel, or all but one, of each of these groups; keep the others whole."""
    generator = torch.Generator().manual_seed(seed)
    keep = torch.ones(graph.num_channels, dtype=torch.bool)
    for group in groups:
        gone = group.width - 1 if narrow else int(torch.randint(1, group.width, (), generator=generator))
        keep[group.ids[torch.randperm(group.width, generator=generator)[:gone]]] = False
    return Subnet(keep)


def _failure(graph: ChannelGraph, probe: Probe, groups: list[Group], seed: int, narrow: bool) -> str | None:
    """Why the sub-network without part of these groups is not what it should be; None if it is."""
    subnet = _random_subnet(graph, groups, seed, narrow)
    pruned = "pruned to one channel" if narrow else "pruned"
    try:
        expected = probe.run(gated(probe.model, graph, subnet.keep.to(torch.float64)))
        small = materialize(probe.model, graph, subnet)
        found = probe.run(small)
        if probe.trains:
            probe.run_in_training(small)
    except Exception as error:
        first_line = (str(error) or "no message").splitlines()[0]
        return f"breaks the forward when {pruned} ({type(error).__name__}: {first_line})"
    worst = difference(found, expected)
    if worst <= probe.tolerance:
        return None
    return f"computes something else when {pruned} (relative difference {worst:.1e})"


def _accept(
    graph: ChannelGraph, probe: Probe, accepted: list[Group], groups: list[Group], seed: int, narrow: bool
) -> list[tuple[Group, str]]:
    """Add to ``accepted`` each group that works together with those before it; return the others."""
    if not groups:
        return []
    failure = _failure(graph, probe, accepted + groups, seed, narrow)
    if failure is None:
        accepted.extend(groups)
        return []
    if len(groups) == 1:
        return [(groups[0], failure)]
    half = len(groups) // 2
    return [
        *_accept(graph, probe, accepted, groups[:half], seed, narrow),
        *_accept(graph, probe, accepted, groups[half:], seed, narrow),
    ]


def prove(draft: Draft, graph: ChannelGraph, probe: Probe) -> ChannelGraph:
    """The graph with every group pinned that does not hold, until ``ROUNDS`` random sub-networks of the rest do."""
    seed = 0
    for turn in range(ROUNDS):
        while True:
            seed += 1
            refused = _accept(graph, probe, [], list(graph.prunable), seed, turn == 0)
            if not refused:
                break
            for group, reason in refused:
                draft.pin(group, reason)
            graph = draft.graph(graph.model)
    return graph
