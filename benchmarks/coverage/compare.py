"""One materialised sub-network against the reference, and its cost against an independent count."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.coverage.build import Built
from benchmarks.coverage.summary import INFINITE
from widthwise import ChannelGraph, CostModel, Subnet, gated, materialize
from widthwise.tracing.probe import in_parts

__all__ = ["Comparison", "compare", "difference", "full_outputs"]


@dataclass(frozen=True)
class Comparison:
    """What came of one sub-network."""

    error: float
    """Largest difference from the reference, relative to the largest value of that output."""
    effect: float
    """The same between the reference and the full network: near zero, the comparison would say nothing."""
    numbers: bool
    """Whether no output is NaN, and not all are zero."""
    macs: int
    """Multiply-adds by our cost model."""
    counted_macs: int
    """Multiply-adds counted while the materialised network ran (torch's ``FlopCounterMode``, halved)."""
    unfused_macs: int
    """The same with attention written out: the counter does not see the fused kernels of the CPU."""
    params: int
    """Parameters by our cost model."""
    counted_params: int
    """Parameters of the materialised network."""


TIE = 1e-9
"""Relative difference of the numbers behind two decisions that only rounding (of double precision) tells apart."""


class _Decisions(TorchDispatchMode):
    """Keeps the numbers that go into decisions: results that are no numbers, the largest few, box suppression.

    A detector with random weights finds nothing, so that its outputs are empty; what it decided on is compared too.
    Many of its scores are equal (of anchors over padding, with few channels), and rounding decides which of them is
    taken: where the numbers are those of an earlier run, what was decided there is taken over.
    """

    def __init__(self, earlier: "_Decisions | None" = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.grounds: list[Tensor] = []
        self._made: list[tuple[list[Tensor], Any]] = []
        self._earlier = earlier._made if earlier is not None else []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        results = _tensors(out)
        decides = func.overloadpacket is torch.ops.aten.topk or not any(t.is_floating_point() for t in results)
        if not (results and decides) or func._schema.is_mutable:
            return out
        inputs = [t.clone() for t in _tensors((args, kwargs)) if t.is_floating_point()]
        if not inputs:
            return out
        number = len(self._made)
        self._made.append((inputs, tree_map_only(Tensor, torch.clone, out)))
        self.grounds.extend(inputs)
        if number < len(self._earlier):
            before, decided = self._earlier[number]
            if difference(inputs, before) <= TIE:
                return tree_map_only(Tensor, torch.clone, decided)
        return out


def full_outputs(built: Built, *, decisions: bool) -> list[Tensor]:
    """What the full network returns."""
    return _run(built.model, built.args, _Decisions() if decisions else None)


def compare(
    built: Built, graph: ChannelGraph, cost: CostModel, subnet: Subnet, full: list[Tensor], *, decisions: bool
) -> Comparison:
    """Materialise a sub-network, run it and the reference on the example, and count.

    Args:
        built: the traced network and its arguments.
        graph: its trace.
        cost: of the graph.
        subnet: what to keep.
        full: what the full network returns.
        decisions: whether to compare the numbers behind decisions as well.
    """
    first = _Decisions() if decisions else None
    expected = _run(gated(built.model, graph, subnet.keep.float()), built.args, first)
    small = materialize(built.model, graph, subnet)
    found = _run(small, built.args, _Decisions(first) if decisions else None)
    return Comparison(
        error=difference(found, expected),
        effect=difference(expected, full),
        numbers=_numbers(found) and _numbers(expected),
        macs=cost.macs(subnet),
        counted_macs=_count(small, built.args),
        unfused_macs=_count_unfused(small, built.args),
        params=cost.params(subnet),
        counted_params=sum(parameter.numel() for parameter in small.parameters()),
    )


def _run(network: Callable[..., Any], args: tuple[Any, ...], decisions: _Decisions | None) -> list[Tensor]:
    """Every tensor of the outputs, after the numbers behind decisions if they are to be kept."""
    torch.manual_seed(0)
    with torch.no_grad():
        if decisions is None:
            return _tensors(network(*args))
        with decisions:
            outputs = _tensors(network(*args))
    return [*decisions.grounds, *outputs]


def _count(network: nn.Module, args: tuple[Any, ...]) -> int:
    with FlopCounterMode(display=False) as counter:
        _run(network, args, None)
    return int(counter.get_total_flops()) // 2


def _count_unfused(network: nn.Module, args: tuple[Any, ...]) -> int:
    with in_parts(network):
        return _count(network, args)


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """Largest difference of any output, relative to the largest value of that output; at most ``INFINITE``.

    Written anew rather than borrowed from the tracer, whose proof is what is checked here. Other shapes, other
    infinities and other whole numbers are ``INFINITE``.
    """
    if [t.shape for t in found] != [t.shape for t in expected]:
        return INFINITE
    return max((_relative(a, b) for a, b in zip(found, expected, strict=True) if a.numel()), default=0.0)


def _relative(found: Tensor, expected: Tensor) -> float:
    if not expected.is_floating_point():
        return 0.0 if torch.equal(found, expected) else INFINITE
    usual = expected.isfinite()
    if not torch.equal(found.isfinite(), usual) or not torch.equal(found[~usual], expected[~usual]):
        return INFINITE  # masked scores are infinite on purpose; NaN equals nothing
    scale = expected[usual].abs().amax().item() if bool(usual.any()) else 0.0
    gap = (found - expected)[usual].abs().amax().item() if bool(usual.any()) else 0.0
    return min(INFINITE, gap / (scale or 1.0))


def _numbers(outputs: list[Tensor]) -> bool:
    """Two outputs full of NaN, or of zeros, would agree."""
    floating = [t for t in outputs if t.is_floating_point() and t.numel()]
    return bool(floating) and not any(bool(t.isnan().any()) for t in floating) and any(bool(t.any()) for t in floating)
