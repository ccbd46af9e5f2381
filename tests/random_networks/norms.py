"""Steps that normalise: by batch, group, instance, layer, root mean square, response."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from random_networks.step import Maker, Run, Site, Step, divisor, free, pick

__all__ = ["NORMS"]


def _group_norm(site: Site, a: int, b: int) -> Step:
    """With one, several, or as many groups as there are channels; behind a convolution for some."""
    c = site.channels if b % 2 else 4 + 4 * (a % 3)
    norm = nn.GroupNorm(pick((1, divisor(c, a), divisor(c, a + 1), c), b // 2), c, affine=b % 5 != 4)
    if b % 2:
        return Step(lambda s, x, e: s.norm(x), norm=norm)
    conv = nn.Conv2d(site.channels, c, 3, padding=1, groups=1)
    return Step(lambda s, x, e: F.silu(s.norm(s.conv(x))), conv=conv, norm=norm)


def _layer_norm(site: Site, a: int, b: int) -> Step:
    """Over channels that lie last, over all of a map, or written out over the second dimension (ConvNeXt)."""
    c, (h, w) = site.channels, site.space

    def written(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        return (x - mean) / torch.sqrt(variance + 1e-6) * s.weight[:, None, None] + s.bias[:, None, None]

    def over_space(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        return F.layer_norm(x, (h, w))

    kinds: tuple[Run, ...] = (
        lambda s, x, e: s.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        lambda s, x, e: F.layer_norm(x.movedim(1, -1), (x.shape[1],), s.weight, s.bias).movedim(-1, 1),
        lambda s, x, e: F.layer_norm(x, x.shape[1:]),
        written,
        over_space,
        lambda s, x, e: s.plain(x.movedim(1, -1)).movedim(-1, 1),
    )
    parts = {"norm": nn.LayerNorm(c), "plain": nn.LayerNorm(c, elementwise_affine=False)}
    return Step(pick(kinds, a), **parts, weight=free(c), bias=free(c))


def _rms_norm(site: Site, a: int, b: int) -> Step:
    c = site.channels

    def written(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        last = x.movedim(1, -1)
        return (last * torch.rsqrt(last.pow(2).mean(-1, keepdim=True) + 1e-6) * s.weight).movedim(-1, 1)

    kinds: tuple[Run, ...] = (
        lambda s, x, e: s.norm(x.movedim(1, -1)).movedim(-1, 1),
        lambda s, x, e: F.rms_norm(x.movedim(1, -1), (x.shape[1],), s.weight).movedim(-1, 1),
        written,
        lambda s, x, e: F.rms_norm(x, x.shape[2:]),
    )
    return Step(pick(kinds, a), norm=nn.RMSNorm(c), weight=free(c))


def _response_norm(site: Site, a: int, b: int) -> Step:
    """GRN (ConvNeXt v2): each channel's norm over space beside the mean of all channels' norms."""
    c = site.channels

    def channels_last(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        response = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
        response = response / (response.mean(dim=-1, keepdim=True) + 1e-6)
        return (s.gamma * (x * response) + s.beta + x).permute(0, 3, 1, 2)

    def channels_first(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        response = x.norm(p=2, dim=(2, 3), keepdim=True)
        response = response / (response.mean(dim=1, keepdim=True) + 1e-6)
        return x + torch.addcmul(s.beta.view(1, -1, 1, 1), s.gamma.view(1, -1, 1, 1), x * response)

    def inner(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        y = F.gelu(s.expand(x))
        response = y.pow(2).sum((2, 3), keepdim=True).sqrt()
        return s.project(y * (response / response.mean(1, keepdim=True))) + x

    parts = {"expand": nn.Conv2d(c, 8, 1), "project": nn.Conv2d(8, c, 1)}
    return Step(pick((channels_last, channels_first, inner), a), **parts, gamma=free(c), beta=free(c))


def _instance_norm(site: Site, a: int, b: int) -> Step:
    c = site.channels
    norm = pick((nn.InstanceNorm2d(c), nn.InstanceNorm2d(c, affine=True), nn.InstanceNorm2d(c, True, True)), a)
    norm = norm if min(site.space) > 1 else nn.Identity()
    return Step(lambda s, x, e: s.norm(x), norm=norm)


def _over_channels(site: Site, a: int, b: int) -> Step:
    """Normalised over channels by nothing but arithmetic: those who meet here depend on one another."""
    kinds: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda x: F.normalize(x, dim=1),
        lambda x: x.softmax(1),
        lambda x: x.log_softmax(1),
        lambda x: F.local_response_norm(x, 3),
        lambda x: x / (x.abs().sum(1, keepdim=True) + 1),
        lambda x: (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True, correction=0) + 1),
        lambda x: x / x.norm(dim=1, keepdim=True).clamp(min=1e-3),
        lambda x: x - x.logsumexp(1, keepdim=True),
        lambda x: x * x.mean(1, keepdim=True),
        lambda x: x / x.shape[1] ** 0.5,
        lambda x: F.softmin(x, 1),
        lambda x: F.normalize(x.flatten(2), dim=2).view_as(x),
    )
    kind = pick(kinds, a)
    return Step(lambda s, x, e: kind(x))


def _batch_norm(site: Site, a: int, b: int) -> Step:
    """Batch norm by the functions behind it, with and without statistics of its own."""
    c = site.channels

    def statistics(s: Step) -> tuple[Tensor, Tensor]:
        return s.mean.clone(), s.variance.clone()

    kinds: tuple[Run, ...] = (
        lambda s, x, e: F.batch_norm(x, s.mean, s.variance, s.weight, s.bias),
        lambda s, x, e: F.batch_norm(x, None, None, s.weight, s.bias, training=True),
        lambda s, x, e: torch.native_batch_norm(x, s.weight, s.bias, s.mean, s.variance, False, 0.1, 1e-5)[0],
        lambda s, x, e: torch._native_batch_norm_legit(x, s.weight, s.bias, *statistics(s), False, 0.1, 1e-5)[0],
        lambda s, x, e: torch._native_batch_norm_legit_no_training(x, s.weight, s.bias, s.mean, s.variance, 0.1, 1e-5)[
            0
        ],
        lambda s, x, e: torch.ops.aten._batch_norm_no_update(x, s.weight, s.bias, s.mean, s.variance, 0.1, 1e-5)[0],
        lambda s, x, e: torch.ops.aten._batch_norm_with_update(x, s.weight, s.bias, *statistics(s), 0.1, 1e-5)[0],
    )
    return Step(pick(kinds, a), weight=free(c), bias=free(c), mean=torch.rand(c), variance=torch.rand(c) + 0.5)


NORMS: dict[str, Maker] = {
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "response_norm": _response_norm,
    "instance_norm": _instance_norm,
    "over_channels": _over_channels,
    "batch_norm": _batch_norm,
}
