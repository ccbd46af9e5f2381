"""How much each channel matters: one score per channel, higher is kept first.

A channel may run through several layers (a residual stream); its score is the sum over the filters that make it, so
coupled members rank together. The functions here know axes and roles only; callers use ``graph.importance("l1")``
and ``graph.taylor(batches)``.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

__all__ = ["SCORES", "Importance", "gradient_products", "sum_over_members", "weights_in_use"]

Importance = Literal["l1", "l2", "geometric_median", "bn_scale", "random"]

Rows = Callable[[Tensor], Tensor]
"""A score per row: float64 [positions, rest] to float64 [positions]."""


def _l1(rows: Tensor) -> Tensor:
    """Sum of absolute weights (Li et al. 2017)."""
    return rows.abs().sum(1)


def _l2(rows: Tensor) -> Tensor:
    """Euclidean norm."""
    return rows.square().sum(1).sqrt()


def _geometric_median(rows: Tensor) -> Tensor:
    """Sum of the distances to the other filters of the layer (FPGM, He et al. 2019, eq. 5)."""
    return torch.cdist(rows, rows).sum(1)


SCORES: dict[Importance, tuple[str, Rows]] = {
    "l1": ("out", _l1),
    "l2": ("out", _l2),
    "geometric_median": ("out", _geometric_median),
    "bn_scale": ("norm", _l1),  # network slimming, Liu et al. 2017
}
"""Which axes each importance reads, and its score per filter. ``random`` reads none."""


def weights_in_use(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter by name; for one that a mask or a parametrisation turns into a weight, that weight.

    So ``conv.weight_orig`` of ``torch.nn.utils.prune`` is what its mask leaves, and
    ``conv.parametrizations.weight.original`` what is made of it, where both have the same shape.
    """
    found: dict[str, Tensor] = dict(model.named_parameters())
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for name, mask in module.named_buffers(recurse=False):
            original = f"{prefix}{name.removesuffix('_mask')}_orig"
            if name.endswith("_mask") and original in found:
                found[original] = found[original] * mask
        if is_parametrized(module) and isinstance(module.parametrizations, nn.ModuleDict):
            for name, weight in _parametrised(module, module.parametrizations).items():
                original = f"{prefix}parametrizations.{name}.original"
                if original in found and found[original].shape == weight.shape:
                    found[original] = weight
    return found


def _parametrised(module: nn.Module, lists: nn.ModuleDict) -> dict[str, Tensor]:
    """The weights that the parametrisations of a module make in evaluation (spectral norm counts calls in training)."""
    training = {part: part.training for part in lists.modules()}
    try:
        lists.eval()
        with torch.no_grad():
            return {name: getattr(module, name) for name in lists}
    finally:
        for part, flag in training.items():
            part.training = flag


def sum_over_members(
    tensors: Mapping[str, Tensor],
    axes: Mapping[tuple[str, int], Tensor],
    roles: Mapping[tuple[str, int], Any],
    role: str,
    score: Rows,
    num_channels: int,
) -> tuple[Float64[Tensor, "channels"], Tensor]:
    """Score the rows of every axis with that role and add them up per channel.

    Returns:
        float64 [channels], and bool [channels]: whether any axis scored the channel.
    """
    scores = torch.zeros(num_channels, dtype=torch.float64, device="cpu")
    seen = torch.zeros(num_channels, dtype=torch.bool, device="cpu")
    for (name, dim), ids in axes.items():
        if roles.get((name, dim)) == role and name in tensors:
            rows = tensors[name].detach().to("cpu", torch.float64).movedim(dim, 0).reshape(len(ids), -1)
            kept = ids >= 0
            scores.index_add_(0, ids[kept], score(rows)[kept])
            seen[ids[kept]] = True
    return scores, seen


def gradient_products(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], loss: Callable[[Any, Tensor], Tensor]
) -> dict[str, Tensor]:
    """Weight times gradient of the summed loss, per parameter; modes and ``requires_grad`` as before after."""
    weights = {n: p for n, p in model.named_parameters() if p.is_floating_point()}
    training = {m: m.training for m in model.modules()}
    wanted = {n: p.requires_grad for n, p in weights.items()}
    total = {n: torch.zeros_like(p) for n, p in weights.items()}
    try:
        model.eval()
        for parameter in weights.values():
            parameter.requires_grad_(True)
        with torch.enable_grad():
            for images, labels in batches:
                value = loss(model(images), labels)
                found = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
                for name, gradient in zip(weights, found, strict=True):
                    if gradient is not None:
                        total[name] += gradient
    finally:
        for module, flag in training.items():
            module.training = flag
        for name, parameter in weights.items():
            parameter.requires_grad_(wanted[name])
    return {n: weights[n].detach() * total[n] for n in weights}
