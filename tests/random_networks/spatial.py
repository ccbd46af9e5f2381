"""Steps over space: pooling, resizing, padding, sampling, in one, two and three dimensions."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from random_networks.step import Maker, Run, Site, Step, just, pick

__all__ = ["SPATIAL"]

Kind = Callable[[Tensor], Tensor]


def _frames(x: Tensor) -> Tensor:
    """Two frames: [N, C, 2, H, W]."""
    return torch.stack([x, x * 0.5], 2)


def _pool(site: Site, a: int, b: int) -> Step:
    h, w = site.space
    kinds: tuple[Kind, ...] = (
        lambda x: F.max_pool2d(x, 3, 1, 1),
        lambda x: F.avg_pool2d(x, 3, 1, 1),
        lambda x: F.max_pool2d(x, 2, ceil_mode=True),
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        lambda x: F.max_pool1d(x.flatten(2), 3, 1, 1).view(x.shape),
        lambda x: F.avg_pool1d(x.flatten(2), 3, 1, 1).view_as(x),
        lambda x: F.max_pool3d(_frames(x), (2, 3, 3), 1, (0, 1, 1)).squeeze(2),
        lambda x: F.avg_pool3d(_frames(x), (2, 1, 1))[:, :, 0],
        lambda x: F.adaptive_avg_pool1d(x.flatten(2), h).unsqueeze(3) + x,
        lambda x: F.adaptive_avg_pool3d(_frames(x), (1, h, w)).squeeze(2),
        lambda x: F.adaptive_max_pool2d(x, (max(1, h // 2), w)),
        lambda x: F.adaptive_max_pool3d(_frames(x), (1, h, w)).squeeze(2),
        lambda x: F.adaptive_avg_pool2d(x, (max(1, h // 2), max(1, w // 2))),
        lambda x: F.lp_pool2d(x.abs(), 2, 2, 1) if min(h, w) > 1 else x,
        lambda x: F.adaptive_max_pool1d(x.flatten(2), h)[..., None] + x,
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2) if h % 2 + w % 2 == 0 else x,
    )
    return just(pick(kinds, a + 12 * (b % 2)))


def _resized(site: Site, a: int, b: int) -> Step:
    """Half the size, or there and back, in every mode there is."""
    size = tuple(max(1, n // 2) for n in site.space)
    volume = (2, *size)

    def flat(mode: str) -> Kind:
        return lambda x: (
            F.interpolate(x, size=size, mode=mode)
            if b % 2
            else F.interpolate(F.max_pool2d(x, 3, 2, 1), size=x.shape[2:], mode=mode)
        )

    def smooth(mode: str) -> Kind:
        return lambda x: F.interpolate(x, size=size, mode=mode, antialias=True, align_corners=False)

    def line(mode: str) -> Kind:
        return lambda x: F.interpolate(x.flatten(2), scale_factor=2, mode=mode)[..., ::2].view(x.shape)

    def frames(mode: str) -> Kind:
        return lambda x: F.interpolate(_frames(x), size=volume, mode=mode).mean(2)

    kinds: tuple[Kind, ...] = (
        *(flat(mode) for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area")),
        *(smooth(mode) for mode in ("bilinear", "bicubic")),
        *(line(mode) for mode in ("nearest", "linear", "nearest-exact")),
        *(frames(mode) for mode in ("nearest", "trilinear", "nearest-exact")),
    )
    return just(pick(kinds, a + 6 * (b % 3)))


def _border(site: Site, a: int, b: int) -> Step:
    """Padding of every kind, cropped again."""
    if min(site.space) < 3:
        return just(F.relu)

    def flat(mode: str) -> Kind:
        return lambda x: F.pad(x, (1, 2, 1, 0), mode=mode)[:, :, 1:, 1:-2]

    def line(mode: str) -> Kind:
        return lambda x: F.pad(x.flatten(2), (1, 1), mode=mode)[..., :-2].view(x.shape)

    def frames(mode: str) -> Kind:
        return lambda x: F.pad(_frames(x), (1, 0, 1, 0, 1, 0), mode=mode)[:, :, -1, 1:, :-1]

    kinds: tuple[Kind, ...] = (
        *(flat(mode) for mode in ("reflect", "replicate", "circular", "constant")),
        *(line(mode) for mode in ("reflect", "replicate", "circular")),
        *(frames(mode) for mode in ("reflect", "replicate", "constant")),
        lambda x: F.pad(x, (-1, 0, 0, 1)),
        lambda x: F.pad(x, (0, 0, 0, 0, 1, -1)) if x.shape[1] > 1 else x,
    )
    return just(pick(kinds, a))


def _sampled(site: Site, a: int, b: int) -> Step:
    """Read at places that are computed: a spatial transformer, gathered positions, Fourier filters (GFNet)."""
    h, w = site.space

    def transformer(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        angle = x.mean((1, 2, 3)) * 0.1
        rows = torch.stack([angle.cos(), -angle.sin(), angle * 0, angle.sin(), angle.cos(), angle * 0], -1)
        grid = F.affine_grid(rows.view(-1, 2, 3), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    def fourier(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        spectrum = torch.fft.rfft2(x, norm="ortho")
        return torch.fft.irfft2(spectrum * torch.complex(s.filter, s.filter), s=(h, w), norm="ortho")

    kinds: tuple[Run, ...] = (
        transformer,
        fourier,
        lambda s, x, e: x.flatten(2)[:, :, s.order].view(x.shape),
        lambda s, x, e: x.flatten(2).index_select(2, s.order).unflatten(2, (h, w)),
    )
    return Step(pick(kinds, a), filter=torch.nn.Parameter(torch.rand(h, w // 2 + 1)), order=torch.randperm(h * w))


SPATIAL: dict[str, Maker] = {"pool": _pool, "resized": _resized, "border": _border, "sampled": _sampled}
