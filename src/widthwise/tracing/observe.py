"""What a run of a network computes: its outputs, and a sample of what each layer with channels made on the way.

Outputs alone can hide a mistake (a class, a mask, a gate that is shut, ten more layers with biases of their own);
right behind the layer where it happens it is as large as the layer's other numbers.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from widthwise.channels import ChannelGraph
from widthwise.channels.graph import Axis
from widthwise.tracing.probe import Probe

__all__ = ["Observation", "difference", "observe", "worst_difference"]

SAMPLES = 64
"""Positions of each channel of each layer that are kept."""


@dataclass
class Observation:
    """Outputs, per layer the samples of each of its calls, and the numbers that decisions were made from."""

    outputs: list[Tensor] = field(default_factory=list)
    samples: dict[str, list[Tensor]] = field(default_factory=dict)
    grounds: list[Tensor] = field(default_factory=list)


class _Decisions(TorchDispatchMode):
    """Keeps the numbers behind results that are no numbers (a class, a mask): those hide most mistakes."""

    def __init__(self, grounds: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._grounds = grounds

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        results = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        if results and not any(_is_number(t) for t in results):
            inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
            self._grounds.extend(t.clone() for t in inputs if t.is_floating_point())
        return out


def _is_number(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _makers(graph: ChannelGraph) -> dict[str, Axis]:
    """Module path to the axis of its tensors that stands for its output channels."""
    makers: dict[str, Axis] = {}
    for (name, dim), role in graph.roles.items():
        if role in ("out", "norm"):
            makers.setdefault(name.rpartition(".")[0], (name, dim))
    return makers


def _sample(out: Tensor, size: int) -> Tensor | None:
    """[size, up to SAMPLES] of what a layer of so many channels returned; None where the axis cannot be told."""
    dims = [d for d in range(1, out.ndim) if out.shape[d] == size] or [
        d for d in range(out.ndim) if out.shape[d] == size
    ]
    if not dims or not out.is_floating_point():
        return None
    dim = dims[0] if out.ndim > 3 or len(dims) == 1 else dims[-1]
    rows = out.detach().movedim(dim, 0).flatten(1)
    return rows[:, :: max(1, rows.shape[1] // SAMPLES)].clone()


@contextmanager
def _watched(model: nn.Module, graph: ChannelGraph, kept: Mapping[Axis, Tensor], small: bool) -> Iterator[Observation]:
    seen = Observation()
    hooks = []
    for path, axis in _makers(graph).items():
        module = model.get_submodule(path)
        if isinstance(module, torch.jit.ScriptModule) or any(True for _ in module.children()):
            continue
        full, positions = len(graph.axes[axis]), kept.get(axis)
        size = full if positions is None or not small else len(positions)

        def note(_: nn.Module, __: Any, out: Any, path: str = path, size: int = size, cut: Any = positions) -> None:
            sample = _sample(out, size) if isinstance(out, Tensor) else None
            if sample is not None:
                seen.samples.setdefault(path, []).append(sample if small or cut is None else sample[cut.to(out.device)])

        hooks.append(module.register_forward_hook(note))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def observe(
    probe: Probe,
    model: nn.Module,
    graph: ChannelGraph,
    kept: Mapping[Axis, Tensor],
    *,
    small: bool,
) -> Observation:
    """Run a network and keep what it computes at the kept positions.

    Args:
        probe: knows the inputs.
        model: the full network, or a small one.
        graph: of the full network.
        kept: the kept positions of each axis that is cut.
        small: whether the axes of this network are cut already.
    """
    decides = not all(_is_number(t) for t in probe.outputs)
    with _watched(model, graph, kept, small) as seen, _Decisions(seen.grounds) if decides else nullcontext():
        seen.outputs = probe.run(model)
    return seen


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """Largest difference of any output, relative to the largest value of that output; infinite if shapes differ."""
    if [t.shape for t in found] != [t.shape for t in expected]:
        return float("inf")
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        if a.numel() and (_is_number(a)):
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


def worst_difference(found: Observation, expected: Observation) -> float:
    """The largest difference of any output, and of whatever both runs went through in the same shapes."""
    worst = difference(found.outputs, expected.outputs)
    pairs = list(zip(found.grounds, expected.grounds, strict=False))
    for path, wanted in expected.samples.items():
        pairs += zip(found.samples.get(path, []), wanted, strict=False)
    return max([worst, *(difference([a], [b]) for a, b in pairs if a.shape == b.shape)])
