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
from torch.utils._pytree import tree_leaves, tree_map_only

from widthwise.channels import Site, Subnet
from widthwise.tracing.probe import Probe, is_number
from widthwise.tracing.probe.modes import Watching, changes_operands, operation_name

__all__ = ["Observation", "difference", "observe", "worst_difference"]

SAMPLES = 64
"""Numbers of each channel of each module's output that are kept."""


@dataclass(frozen=True)
class Decision:
    """An operation with results that are no numbers (a class, a mask, the order of boxes): those hide most mistakes.

    What it decided on is compared instead. Where that is the same but for rounding, two candidates were as good as each
    other, and one decision is as good as the other.
    """

    operation: Any
    arguments: list[Any]
    """All of them, out of their containers; tensors as they were before."""
    results: Any

    def grounds(self) -> list[Tensor]:
        """The numbers that it decided on."""
        return [a for a in self.arguments if isinstance(a, Tensor) and is_number(a)]

    def alike(self, other: "Decision", tolerance: float) -> bool:
        """Whether the same was to be decided on the same grounds, but for rounding."""
        rest = [[None if isinstance(a, Tensor) else a for a in d.arguments] for d in (self, other)]
        mine, others = ([a for a in d.arguments if isinstance(a, Tensor)] for d in (self, other))
        return self.operation is other.operation and rest[0] == rest[1] and difference(mine, others) <= tolerance


@dataclass
class Observation:
    """Outputs, per module the samples of each of its calls, and the decisions."""

    outputs: list[Tensor] = field(default_factory=list)
    samples: dict[str, list[Tensor]] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)


CHOICES = frozenset({"aten::topk", "aten::sort", "aten::kthvalue", "aten::max", "aten::min", "aten::median"})
"""Operations that return numbers together with where they stood."""

STEPS = frozenset({"aten::floor", "aten::ceil", "aten::round", "aten::trunc", "aten::sign"})
"""Operations whose results are no numbers, though of their type."""


class _Decisions(Watching):
    """Keeps each decision, and lets it be as in an earlier run where the grounds are the same but for rounding."""

    def __init__(self, made: list[Decision], earlier: list[Decision], tolerance: float) -> None:
        super().__init__()
        self._made, self._earlier, self._tolerance = made, earlier, tolerance

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if not _decides(operation_name(func), out):
            return out
        decision, number = Decision(func, tree_leaves(_cloned((args, kwargs))), _cloned(out)), len(self._made)
        if not decision.grounds():
            return out
        self._made.append(decision)
        if changes_operands(func) or number >= len(self._earlier):
            return out
        earlier = self._earlier[number]
        return _cloned(earlier.results) if earlier.alike(decision, self._tolerance) else out


def _decides(operation: str, out: Any) -> bool:
    results = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
    numbers = [t for t in results if is_number(t)]
    return operation in STEPS or (len(numbers) < len(results) and (not numbers or operation in CHOICES))


def _cloned(value: Any) -> Any:
    return tree_map_only(Tensor, torch.clone, value)


def _sample(out: Tensor, dim: int, chosen: Tensor | None) -> Tensor:
    """[positions along dim (the chosen ones), up to SAMPLES] of what a module returned."""
    rows = out.detach().movedim(dim, 0)
    rows = rows.flatten(1) if rows.ndim > 1 else rows[:, None]
    rows = rows[:, :: max(1, rows.shape[1] // SAMPLES)]
    return rows.clone() if chosen is None else rows.index_select(0, chosen.to(rows.device))


@contextmanager
def _watched(model: nn.Module, sites: Mapping[str, list[Site]], subnet: Subnet, small: bool) -> Iterator[Observation]:
    seen, hooks = Observation(), []

    def note(path: str, _: nn.Module, __: Any, out: Any) -> None:
        samples = seen.samples.setdefault(path, [])
        dim, ids = sites[path][len(samples)] if len(samples) < len(sites[path]) else (-1, subnet.keep)
        if not isinstance(out, Tensor) or not out.is_floating_point() or not 0 <= dim < out.ndim:
            samples.append(torch.empty(0))
            return
        whole = small or out.shape[dim] != len(ids)
        samples.append(_sample(out, dim, None if whole else subnet.kept_at(ids).nonzero()[:, 0]))

    for path, module in model.named_modules(remove_duplicate=False):
        if path in sites and not isinstance(module, torch.jit.ScriptModule):
            hooks.append(module.register_forward_hook(partial(note, path)))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def observe(
    probe: Probe,
    model: nn.Module,
    sites: Mapping[str, list[Site]],
    subnet: Subnet,
    earlier: Observation | None = None,
    *,
    small: bool,
) -> Observation:
    """Run a network and keep what it computes at the kept positions.

    Args:
        probe: knows the inputs.
        model: the full network, or a small one.
        sites: where the channels lie in what each module returns.
        subnet: what is kept.
        earlier: of the network to compare with; what was as good as a tie there is decided as it was there.
        small: whether this is the small network.
    """
    with _watched(model, sites, subnet, small) as seen:
        decides = not all(is_number(t) for t in probe.outputs)
        before = earlier.decisions if earlier else []
        with _Decisions(seen.decisions, before, probe.tolerance) if decides else nullcontext():
            seen.outputs = probe.run(model)
    return seen


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """Largest difference of any output, relative to the largest value of that output; infinite if shapes differ."""
    if [t.shape for t in found] != [t.shape for t in expected]:
        return float("inf")
    return max((_apart(a, b) for a, b in zip(found, expected, strict=True) if b.numel()), default=0.0)


def _apart(a: Tensor, b: Tensor) -> float:
    """The same of one output."""
    if not is_number(a):
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
    pairs = [
        pair
        for one, other in zip(found.decisions, expected.decisions, strict=False)
        for pair in zip(one.grounds(), other.grounds(), strict=False)
    ]
    for path, wanted in expected.samples.items():
        pairs += zip(found.samples.get(path, []), wanted, strict=False)
    return max(worst, _furthest([(a, b) for a, b in pairs if a.shape == b.shape and b.numel()]))


def _furthest(pairs: list[tuple[Tensor, Tensor]]) -> float:
    """The largest relative difference of any pair of one shape; most are small, and there are hundreds."""
    plain = all(a.is_floating_point() and a.dtype == b.dtype for a, b in pairs)
    if plain and len({tensor.device for pair in pairs for tensor in pair}) == 1:
        found, expected = [list(tensors) for tensors in zip(*pairs, strict=True)]
        errors = torch.stack(torch._foreach_norm(torch._foreach_sub(found, expected), float("inf")))
        scales = torch.stack(torch._foreach_norm(expected, float("inf")))
        if bool(errors.isfinite().all()) and bool(scales.isfinite().all()):
            return float((errors / scales.where(scales > 0, 1.0)).max())
    return max((difference([a], [b]) for a, b in pairs), default=0.0)
