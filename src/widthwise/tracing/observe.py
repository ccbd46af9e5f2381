"""What a run of a network computes: its outputs, and a sample of what each module returned on the way.

Outputs alone can hide a mistake (a class, a mask, a gate that is shut, ten more layers with biases of their own);
right behind the layer where it happens it is as large as the layer's other numbers.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from widthwise.channels import Subnet
from widthwise.tracing.build import Site
from widthwise.tracing.probe import Probe

__all__ = ["Observation", "difference", "observe", "worst_difference"]

SAMPLES = 64
"""Numbers of each channel of each module's output that are kept."""


@dataclass
class Observation:
    """Outputs, per module the samples of each of its calls, and the numbers that decisions were made from."""

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


def _sample(out: Tensor, dim: int) -> Tensor:
    """[positions along dim, up to SAMPLES] of what a module returned."""
    rows = out.detach().movedim(dim, 0).flatten(1)
    return rows[:, :: max(1, rows.shape[1] // SAMPLES)].clone()


@contextmanager
def _watched(model: nn.Module, sites: Mapping[str, list[Site]], keep: Tensor, small: bool) -> Iterator[Observation]:
    seen, hooks = Observation(), []

    def note(path: str, _: nn.Module, __: Any, out: Any) -> None:
        samples = seen.samples.setdefault(path, [])
        dim, ids = sites[path][len(samples)] if len(samples) < len(sites[path]) else (-1, keep)
        usable = isinstance(out, Tensor) and out.is_floating_point() and 0 <= dim < out.ndim
        sample = _sample(out, dim) if usable else torch.empty(0)
        if usable and not small and len(sample) == len(ids):
            sample = sample[keep[ids].to(sample.device)]
        samples.append(sample)

    for path in sites:
        module = model.get_submodule(path)
        if not isinstance(module, torch.jit.ScriptModule):
            hooks.append(module.register_forward_hook(partial(note, path)))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def observe(
    probe: Probe, model: nn.Module, sites: Mapping[str, list[Site]], subnet: Subnet, *, small: bool
) -> Observation:
    """Run a network and keep what it computes at the kept positions.

    Args:
        probe: knows the inputs.
        model: the full network, or a small one.
        sites: where the channels lie in what each module returns.
        subnet: what is kept.
        small: whether this is the small network.
    """
    keep = torch.cat([subnet.keep, torch.ones(1, dtype=torch.bool)])  # id -1: always kept
    decides = not all(_is_number(t) for t in probe.outputs)
    with _watched(model, sites, keep, small) as seen, _Decisions(seen.grounds) if decides else nullcontext():
        seen.outputs = probe.run(model)
    return seen


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """Largest difference of any output, relative to the largest value of that output; infinite if shapes differ."""
    if [t.shape for t in found] != [t.shape for t in expected]:
        return float("inf")
    return max((_apart(a, b) for a, b in zip(found, expected, strict=True) if b.numel()), default=0.0)


def _apart(a: Tensor, b: Tensor) -> float:
    """The same of one output."""
    if not _is_number(a):
        return 0.0 if torch.equal(a, b) else float("inf")
    scale, error = b.abs().amax().item(), (a - b).abs().amax().item()
    if isfinite(scale) and isfinite(error):
        return float(error / (scale or 1.0))
    usual = b.isfinite()  # masked scores are infinite on purpose: those must be the same
    if not torch.equal(a.isfinite(), usual) or not torch.equal(a[~usual].nan_to_num(), b[~usual].nan_to_num()):
        return float("inf")
    return _apart(a.where(usual, 0), b.where(usual, 0))


def worst_difference(found: Observation, expected: Observation) -> float:
    """The largest difference of any output, and of whatever both runs went through in the same shapes."""
    worst = difference(found.outputs, expected.outputs)
    pairs = list(zip(found.grounds, expected.grounds, strict=False))
    for path, wanted in expected.samples.items():
        pairs += zip(found.samples.get(path, []), wanted, strict=False)
    return max([worst, *(difference([a], [b]) for a, b in pairs if a.shape == b.shape)])
