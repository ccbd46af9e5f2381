"""What the tests of the core compare with; computed from ``graph.axes`` and ``graph.roles`` by this file alone."""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
import torchvision  # noqa: F401 - brings its operations along
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import FlopCounterMode

import widthwise
from widthwise import ChannelGraph, Subnet
from widthwise.tracing.probe import in_parts

Keep = Tensor


def randomise(model: nn.Module, seed: int) -> nn.Module:
    """Random weights, affine parameters, statistics and layer scales; none near zero on average."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.is_floating_point() or not parameter.numel():
                continue
            if parameter.ndim > 1 and parameter.shape[0] != parameter.numel():
                scale = max(1, parameter[0].numel()) ** -0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale * 1.4)
            elif name.endswith("bias"):
                parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.5)
            else:
                parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.3)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model


def random_keep(graph: ChannelGraph, seed: int) -> Keep:
    """Every channel with a probability of its own group's, at least one per group."""
    generator = torch.Generator().manual_seed(seed)
    keep = torch.zeros(graph.num_channels, dtype=torch.bool)
    for group in graph.prunable:
        rate = torch.rand((), generator=generator)
        keep[group.ids] = torch.rand(group.width, generator=generator) < rate
        keep[group.ids[torch.randint(group.width, (), generator=generator)]] = True
    return keep


def edge_keeps(graph: ChannelGraph, seed: int = 0) -> Iterator[tuple[str, Keep]]:
    """The keep vectors at the edges: one channel, all but one, one group only."""
    generator = torch.Generator().manual_seed(seed)
    patterns: dict[str, Callable[[Tensor], Tensor]] = {
        "first only": lambda ids: ids[:1],
        "last only": lambda ids: ids[-1:],
        "without the first": lambda ids: ids[1:],
        "without the last": lambda ids: ids[:-1],
        "one at random": lambda ids: ids[torch.randint(len(ids), (1,), generator=generator)],
    }
    for name, choose in patterns.items():
        keep = torch.zeros(graph.num_channels, dtype=torch.bool)
        for group in graph.prunable:
            keep[choose(group.ids)] = True
        yield name, keep
    for group in graph.prunable:
        keep = torch.ones(graph.num_channels, dtype=torch.bool)
        keep[group.ids[1:]] = False
        yield f"one of {group.name}", keep


def reference(model: nn.Module, graph: ChannelGraph, keep: Keep) -> nn.Module:
    """The full network that cannot see the removed channels: their weights in every consumer are zero.

    Whatever makes or accompanies a removed channel is scrambled: if anything but a consumer could see it, the
    output would not be that of the sub-network.
    """
    full = copy.deepcopy(model)
    tensors = {**dict(full.named_parameters()), **dict(full.named_buffers())}
    with torch.no_grad():
        for (name, dim), role in graph.roles.items():
            ids = graph.axes[name, dim]
            removed = (ids >= 0) & ~keep[ids.clamp(min=0)]
            rows = tensors[name].movedim(dim, 0)
            if role == "in":
                rows[removed] = 0
            elif rows.is_floating_point() and not any(r == "in" for (n, _), r in graph.roles.items() if n == name):
                rows[removed] = rows[removed] * 1.7 + 0.3 if name.endswith("weight") else rows[removed] * 1.7
    return full


def call(model: Any, inputs: Any) -> list[Tensor]:
    """Every tensor of what a model returns, for inputs in any form that ``trace`` takes."""
    torch.manual_seed(0)
    inputs = tree_map_only(Tensor, torch.clone, inputs)  # a forward may change them
    if isinstance(inputs, dict):
        out = model(**inputs)
    elif isinstance(inputs, tuple | list):
        out = model(*inputs)
    else:
        out = model(inputs)
    if dataclasses.is_dataclass(out):
        out = [getattr(out, field.name) for field in dataclasses.fields(out)]
    return [t for t in tree_leaves(out) if isinstance(t, Tensor)]


def distance(found: list[Tensor], expected: list[Tensor]) -> float:
    """Largest difference relative to the largest value of each output."""
    assert [t.shape for t in found] == [t.shape for t in expected]
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.isfinite(), b.isfinite())
        a, b = a.double().nan_to_num(), b.double().nan_to_num()
        if b.numel():
            worst = max(worst, float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)))
    return worst


def check_subnet(model: nn.Module, graph: ChannelGraph, keep: Keep, inputs: Any, tolerance: float) -> float:
    """Materialised, shared and gated all equal the reference; returns the largest distance."""
    subnet = graph.subnet(keep)
    model.eval()
    with torch.no_grad():
        expected = call(reference(model, graph, keep), inputs)
        gates = keep.to(torch.float64 if expected[0].dtype == torch.float64 else torch.float32)
        ways = {
            "materialised": lambda: call(widthwise.materialize(model, graph, subnet), inputs),
            "shared": lambda: call(widthwise.shared(model, graph, subnet), inputs),
            "gated": lambda: call(widthwise.gated(model, graph, gates), inputs),
        }
        distances = {name: distance(run(), expected) for name, run in ways.items()}
    assert max(distances.values()) <= tolerance, f"{distances} for {widths_text(graph, subnet)}"
    return max(distances.values())


def unfused() -> AbstractContextManager[None]:
    """Attention in its parts: PyTorch counts nothing inside the kernels that do it at once on a CPU."""
    return in_parts(nn.Identity())


def _deformed_flops(x: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return 2 * x[0] * math.prod(out_shape[2:]) * math.prod(weight)


def _vector_flops(*shapes: Any, **_: Any) -> int:
    return 2 * max(math.prod(shape) for shape in shapes if isinstance(shape, torch.Size))


FLOPS = {
    torch.ops.torchvision.deform_conv2d: _deformed_flops,
    torch.ops.aten.mv: _vector_flops,
    torch.ops.aten.addmv: _vector_flops,
    torch.ops.aten.dot: _vector_flops,
    torch.ops.aten.vdot: _vector_flops,
}
"""What PyTorch does not count: torchvision's operations, and products with a vector."""


def check_cost(model: nn.Module, graph: ChannelGraph, keep: Keep, inputs: Any) -> None:
    """Multiply-adds and parameters equal those that PyTorch counts on the materialised network."""
    subnet, cost = graph.subnet(keep), widthwise.CostModel(graph)
    model.eval()
    small = widthwise.materialize(model, graph, subnet)
    with torch.no_grad(), in_parts(small), FlopCounterMode(display=False, custom_mapping=FLOPS) as counter:
        call(small, inputs)
    found = {"macs": cost.macs(subnet), "params": cost.params(subnet)}
    counted = {"macs": counter.get_total_flops() // 2, "params": sum(p.numel() for p in small.parameters())}
    assert found == counted, f"{found} but counted {counted} for {widths_text(graph, subnet)}"


def widths_text(graph: ChannelGraph, subnet: Subnet) -> str:
    """Which channels of each group are kept, for a failing test."""
    return "; ".join(f"{g.name}: {subnet.keep[g.ids].nonzero()[:, 0].tolist()}/{g.width}" for g in graph.prunable)
