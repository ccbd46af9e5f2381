"""Torch-Pruning on one network: remove half of every layer but the output layers, and run the result."""

from time import perf_counter

import torch
import torch_pruning
from torch import Tensor, nn

from benchmarks import peer
from benchmarks.coverage.build import Built
from benchmarks.coverage.notes import Notes

__all__ = ["measure", "output_layers"]


def measure(built: Built, notes: Notes) -> None:
    """Count the channels that it can remove, prune half of them, run.

    The pruner is the one that its documentation shows, without patches for any model, and with L1 norms. The clock
    runs while the pruner is built and prunes. Channels are the output channels of the root layer of each of its
    groups, so those of coupled layers count once; groups that reach the model's output do not count.
    """
    model, (example,) = built.model, built.args
    with torch.no_grad():
        expected = model(example)
    notes.stage("groups")
    graph = peer.build_graph(model, example)
    outputs = output_layers(graph)
    notes.add(channels=_channels(graph, outputs), params=_params(model))
    notes.stage("prune")
    start = perf_counter()
    peer.build_pruner(model, example, outputs).step()
    notes.add(seconds=perf_counter() - start, params_left=_params(model))
    notes.stage("run what it returned")
    with torch.no_grad():
        found = model(example)
    if _shapes(found) != _shapes(expected):
        raise RuntimeError(f"the output changed its shape from {_shapes(expected)} to {_shapes(found)}")
    if _params(model) == notes.facts["params"]:
        raise RuntimeError("nothing was removed")
    notes.add(works=True)


def output_layers(graph: torch_pruning.DependencyGraph) -> list[nn.Module]:
    """The layers whose output channels are the model's outputs: their groups end where the graph does."""
    layers: list[nn.Module] = []
    for group in graph.get_all_groups():
        if any(_is_end(graph, dependency) for dependency, _ in group):
            makers = (d.target.module for d, _ in group if graph.is_out_channel_pruning_fn(d.handler))
            layers += [module for module in makers if list(module.parameters())]
    return layers


def _is_end(graph: torch_pruning.DependencyGraph, dependency: torch_pruning.Dependency) -> bool:
    """Whether a removed channel would be missing from the output: a node without successors that passes it on."""
    node = dependency.target
    if isinstance(node.module, torch_pruning.ops._OutputOp):
        return True
    passes_on = graph.is_out_channel_pruning_fn(dependency.handler) or not list(node.module.parameters())
    return passes_on and not node.outputs


def _channels(graph: torch_pruning.DependencyGraph, outputs: list[nn.Module]) -> int:
    groups = graph.get_all_groups(ignored_layers=outputs)
    return sum(int(graph.get_out_channels(group[0].dep.target.module)) for group in groups)


def _params(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _shapes(outputs: object) -> list[list[int]]:
    leaves = torch.utils._pytree.tree_leaves(outputs)
    return [list(leaf.shape) for leaf in leaves if isinstance(leaf, Tensor)]
