"""What must hold for a random network: whatever is offered for pruning can be pruned, at the cost that was promised."""

import copy
from collections import Counter

import torch
from torch import Tensor

import oracle
import widthwise
from random_networks.network import RandomNet, Spec
from widthwise import ChannelGraph

__all__ = ["Case", "build", "check_network", "failure", "shortest"]

Case = tuple[Spec, int, int, int]
"""Steps, head, shape of the images, and the number behind what is drawn at random."""

TOLERANCE = 1e-9
"""Relative, in double precision."""

EDGES = 5
"""Of the keep vectors at the edges: one channel of each group, all but one, one at random."""

EXAMPLES = (torch.clone, torch.clone, torch.zeros_like, torch.ones_like)
"""What is traced with: noise, as the sub-networks are compared on, and the blank images that people pass as well."""

SCALES = (1.0, 4.0)
"""Sizes of the numbers that sub-networks are compared on: large ones reach limits that usual ones do not."""

EINSUM = {"attention", "products", "stateful"}
"""Steps with an einsum: over a single position it is an element-wise product, which PyTorch does not count."""


def build(spec: Spec, head: int = 0, shape: int = 0, draw: int = 0) -> tuple[RandomNet, Tensor]:
    """A network in double precision with random weights, and images; the same for the same numbers."""
    torch.manual_seed(draw)
    model = oracle.randomise(RandomNet(spec, head, shape).double(), draw).eval()
    return model, model.example().double()


def check_network(case: Case, tally: Counter[str]) -> None:
    """Trace, then compare the whole network, random sub-networks and those at the edges with the oracle and PyTorch."""
    (spec, *_, draw), (model, example) = case, build(*case)
    tally["networks"] += 1
    graph = widthwise.trace(model, EXAMPLES[draw % len(EXAMPLES)](example))
    example = example * SCALES[draw % len(SCALES)]
    tally["with prunable groups"] += bool(graph.prunable)
    tally["prunable groups"] += len(graph.prunable)
    tally["groups"] += len(graph.groups)
    keeps = [torch.ones(graph.num_channels, dtype=torch.bool)]
    if graph.prunable:
        keeps += [oracle.random_keep(graph, draw), oracle.random_keep(graph, draw + 1)]
        keeps += [keep for _, keep in list(oracle.edge_keeps(graph, draw))[:EDGES]]
    for keep in keeps:
        tally["sub-networks"] += 1
        oracle.check_subnet(model, graph, keep, example, TOLERANCE)
        if not (EINSUM & {name for name, _, _ in spec} and bool((graph.widths(graph.subnet(keep)) == 1).any())):
            oracle.check_cost(model, graph, keep, example)
    if model.kind == "auxiliary":
        _check_training(model, graph, keeps[-1], example)


def _check_training(model: RandomNet, graph: ChannelGraph, keep: Tensor, example: Tensor) -> None:
    """The small network returns in training mode what the full one does: as many tensors of the same shapes."""
    small = widthwise.materialize(model, graph, graph.subnet(keep)).train()
    full = copy.deepcopy(model).train()
    batch = torch.cat([example, example])
    assert [t.shape for t in small(batch)] == [t.shape for t in full(batch)]


def failure(case: Case, tally: Counter[str]) -> str | None:
    """What is wrong with a network, on one line; None if nothing is."""
    try:
        check_network(case, tally)
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())[:400]
    return None


def shortest(case: Case) -> Case:
    """A failing case of which no step can be left out."""
    spec, *rest = case
    for i in range(len(spec)):
        fewer = (spec[:i] + spec[i + 1 :], *rest)
        if failure(fewer, Counter()) is not None:
            return shortest(fewer)
    return case
