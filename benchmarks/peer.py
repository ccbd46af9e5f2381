"""Torch-Pruning, used as its documentation says; installed for the benchmarks only (the extra ``peers``)."""

import copy
from collections.abc import Sequence
from importlib.metadata import version

import torch_pruning
from torch import Tensor, nn

__all__ = ["NAME", "build_graph", "build_pruner", "pruned_copy"]

NAME = f"Torch-Pruning {version('torch-pruning')}"


def build_graph(model: nn.Module, example: Tensor) -> object:
    """Its dependency graph."""
    return torch_pruning.DependencyGraph().build_dependency(model, example_inputs=example)


def build_pruner(
    model: nn.Module, example: Tensor, outputs: Sequence[nn.Module] = ()
) -> torch_pruning.pruner.BasePruner:
    """A pruner that halves every layer but the output layers by L1 norm; builds the graph of this very model.

    The dictionaries are passed because the default ones are shared by all pruners of a process.

    Args:
        model: pruned in place by each step.
        example: a batch.
        outputs: the layers to leave alone; the last linear layer where none is given.
    """
    classifier = [module for module in model.modules() if isinstance(module, nn.Linear)][-1:]
    return torch_pruning.pruner.BasePruner(
        model,
        example,
        importance=torch_pruning.importance.MagnitudeImportance(p=1),
        pruning_ratio=0.5,
        ignored_layers=[*outputs] or classifier,
        in_channel_groups={},
        out_channel_groups={},
        num_heads={},
    )


def pruned_copy(model: nn.Module, example: Tensor) -> nn.Module:
    """One pruned copy. The pruner works in place and cannot be copied, so each copy needs a pruner of its own."""
    small = copy.deepcopy(model)
    build_pruner(small, example).step()
    return small
