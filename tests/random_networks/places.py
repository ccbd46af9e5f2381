"""Steps that read and write where other tensors say: gather, scatter, masks, regions, deformed convolution."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d, roi_align, roi_pool

from random_networks.step import Maker, Run, Site, Step, divisor, free, just, maps, pick, tokens

__all__ = ["PLACES"]

Kind = Callable[[Tensor], Tensor]


def _gathered(site: Site, a: int, b: int) -> Step:
    """Tokens in an order that a layer scores, some of them, and back (masked autoencoders, token pruning)."""
    few = min(3, site.area)

    def order(s: Step, x: Tensor) -> Tensor:
        return s.score(x).flatten(1).argsort(1)

    def there_and_back(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        places = order(s, x)
        some = tokens(x).gather(1, places[..., None].expand(-1, -1, x.shape[1])) * 0.5
        return maps(torch.gather(some, 1, places.argsort(1)[..., None].expand_as(some)), x)

    def first(x: Tensor, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.int64)

    kinds: tuple[Run, ...] = (
        there_and_back,
        lambda s, x, e: x.flatten(2).gather(2, order(s, x)[:, None].expand(-1, x.shape[1], -1)).view(x.shape),
        lambda s, x, e: (
            x.flatten(2).gather(2, order(s, x)[:, None, :2].expand(-1, x.shape[1], -1)).sum(2)[..., None, None] * x
        ),
        lambda s, x, e: x.flatten(2).take_along_dim(order(s, x)[:, None], 2).view(x.shape),
        lambda s, x, e: x.gather(3, x.argsort(3)),
        lambda s, x, e: x.flatten(2).topk(few, 2).values.mean(2)[..., None, None] * x,
        lambda s, x, e: x.flatten(2).gather(2, x.flatten(2).argmax(2, keepdim=True))[..., None] * x,
        lambda s, x, e: x.gather(2, first(x, x.shape[0], 1, 1, x.shape[3]).expand(-1, x.shape[1], -1, -1)) + x,
        lambda s, x, e: x.gather(1, first(x, x.shape[0], 1, *x.shape[2:])) + x,
        lambda s, x, e: x.gather(2, first(x, x.shape[0], site.channels, 1, x.shape[3])) + x,
        lambda s, x, e: (
            x.flatten(2)[torch.arange(x.shape[0])[:, None], :, order(s, x)].transpose(1, 2).reshape(x.shape)
        ),
        lambda s, x, e: x[:, :, torch.arange(x.shape[2] - 1, -1, -1)],
    )
    return Step(pick(kinds, a), score=nn.Conv2d(site.channels, 1, 1))


def _scattered(site: Site, a: int, b: int) -> Step:
    """Tokens written to places, added up there, or left out."""
    dim = 1 if b % 4 == 3 else 2

    def where(x: Tensor) -> Tensor:
        return torch.arange(x.shape[dim]).roll(1) if dim == 2 else torch.arange(x.shape[1])

    def flat(s: Step, x: Tensor) -> Tensor:
        scores = s.score(x).flatten(1)  # upsampled pixels are alike, and rounding would decide which comes first
        return (scores + torch.arange(scores.shape[1])).argsort(1)[:, None].expand(-1, x.shape[1], -1)

    kinds: tuple[Run, ...] = (
        lambda s, x, e: torch.zeros_like(x).flatten(2).scatter(2, flat(s, x), x.flatten(2)).view(x.shape),
        lambda s, x, e: torch.zeros_like(x).flatten(2).scatter_add(2, flat(s, x), x.flatten(2)).view(x.shape),
        lambda s, x, e: x.flatten(2).scatter_reduce(2, flat(s, x), x.flatten(2), "amax").view(x.shape),
        lambda s, x, e: x.flatten(2).clone().scatter_(2, flat(s, x)[..., :1], 0.5).view(x.shape),
        lambda s, x, e: torch.zeros_like(x).index_add(dim, where(x), x * 2),
        lambda s, x, e: torch.zeros_like(x).index_copy(dim, where(x), x),
        lambda s, x, e: x.index_fill(dim, where(x)[:1], 0.25),
        lambda s, x, e: torch.zeros(1, site.channels, *x.shape[2:], dtype=x.dtype).index_add(
            0, torch.zeros(x.shape[0]).int(), x
        ),
        lambda s, x, e: x.scatter(1, torch.zeros(x.shape[0], 1, *x.shape[2:], dtype=torch.int64), 0.5),
        lambda s, x, e: x.new_zeros(x.shape).index_add_(dim, where(x), x * 2),
    )
    return Step(pick(kinds, a), score=nn.Conv2d(site.channels, 1, 1))


def _assigned(site: Site, a: int, b: int) -> Step:
    """``x[places] = values``, with masks out of the values, of buffers, and with lists of places."""
    h = site.space[0]

    def put(x: Tensor, where: object, value: Tensor | float) -> Tensor:
        x = x.clone()
        x[where] = value  # type: ignore[index]
        return x

    kinds: tuple[Run, ...] = (
        lambda s, x, e: put(x, x > 0.5, 0.5),
        lambda s, x, e: put(x, (slice(None), slice(None), s.spots), 0.0),
        lambda s, x, e: put(x, (slice(None), slice(None), [0, h - 1]), 1.0),
        lambda s, x, e: put(x, (slice(None), slice(None), [0, h - 1]), x[:, :, [h - 1, 0]]),
        lambda s, x, e: put(x, (slice(None), slice(None), [0]), s.gain[:, None, None]),
        lambda s, x, e: put(x, (slice(None), s.chosen), 0.0),
        lambda s, x, e: put(x, torch.ones(x.shape[0], dtype=torch.bool), 0.5) + x,
        lambda s, x, e: put(x, (x > 0.5) & (s.gain[:, None, None] > 1), -1.0),
        lambda s, x, e: put(x, (slice(None), slice(None), s.spots), 0.0 * s.gain[:, None]),
        lambda s, x, e: put(x, torch.zeros(1, site.channels, *site.space).expand_as(x) > 0, 0.0),
        lambda s, x, e: x.clone().index_put_((torch.zeros(1).long(),), x[:1], accumulate=True),
    )
    chosen = torch.arange(site.channels) % 2 == 0
    return Step(pick(kinds, a), spots=torch.rand(site.space) > 0.6, gain=free(site.channels), chosen=chosen)


def _regions(site: Site, a: int, b: int) -> Step:
    """Regions of detection; a grid in a volume; a quarter turn; half of each matrix."""
    h, w = site.space
    boxes = torch.tensor([[0.0, 0.0, w / 2, h / 2]])

    def volume(x: Tensor) -> Tensor:
        grid = F.affine_grid(torch.eye(3, 4)[None].to(x.dtype), [1, 1, 2, h, w], align_corners=False)
        frames = torch.stack([x, x * 0.5], 2)
        return F.grid_sample(frames, grid.expand(x.shape[0], -1, -1, -1, -1), align_corners=False).mean(2)

    def unpooled(x: Tensor) -> Tensor:
        frames = torch.stack([x, x * 0.5], 2)
        pooled, places = F.max_pool3d(frames, (2, 1, 1), return_indices=True)
        return F.max_unpool3d(pooled, places, (2, 1, 1)).sum(2)

    kinds: tuple[Kind, ...] = (
        lambda x: roi_align(x, [boxes.to(x.dtype)] * x.shape[0], (h, w)) + x,
        lambda x: roi_pool(x, [boxes.to(x.dtype)] * x.shape[0], (h, w)),
        volume,
        unpooled,
        lambda x: x.rot90(1, (2, 3)),
        lambda x: x.rot90(2, (1, 2)) + x,
        lambda x: x.tril(1),
        lambda x: x.movedim(1, 2).triu().movedim(1, 2),
        lambda x: F.grid_sample(x, x[:, :2].movedim(1, -1).tanh(), align_corners=False) if x.shape[1] > 1 else x,
        lambda x: x.flip(1) + x,
        lambda x: x.flip((1, 2)),
        lambda x: F.interpolate(x, size=(h, w + 1), mode="lanczos", antialias=True),
    )
    return just(pick(kinds, a))


def _deformed(site: Site, a: int, b: int) -> Step:
    """Deformable convolution, with and without masks, groups and several sets of places."""
    c = site.channels
    parts, groups = divisor(c, a) if a % 2 else 1, divisor(c, b) if b % 2 else 1
    groups = c if b % 4 == 3 else groups
    conv = nn.Conv2d(c, groups * 2, 3, padding=1, groups=groups, bias=a % 3 > 0)

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        mask = s.mask(x).sigmoid() if b % 3 else None
        return deform_conv2d(x, s.offset(x), s.conv.weight, s.conv.bias, padding=1, mask=mask)

    offset = nn.Conv2d(c, 18 * parts, 3, padding=1)
    return Step(run, conv=conv, offset=offset, mask=nn.Conv2d(c, 9 * parts, 3, padding=1))


def _from_nothing(site: Site, a: int, b: int) -> Step:
    """Zeros, constants and empty memory of the forward, met, joined or written to; a state that starts as zeros."""
    c, out = site.channels, 3 + b % 4

    def columns(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        both = x.new_empty(*x.shape[:3], 2 * x.shape[3])
        both[..., 0::2], both[..., 1::2] = x, -x
        return both

    def halves(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        both = torch.empty(x.shape[0], x.shape[1], 2 * x.shape[2], x.shape[3])
        first, second = both.chunk(2, 2)
        first.copy_(x)
        second.copy_(x.flip(2))
        return both

    def planes(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        both = torch.zeros(2, *x.shape)
        both[0] = x
        both[1, :, :, :1] += x[:, :, :1]
        return both.sum(0)

    def state(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        h = torch.zeros(x.shape[0], s.hidden, *x.shape[2:])
        for _ in range(2):
            h = torch.tanh(s.enter(torch.cat([x, h], 1)) + s.stay(h))
        return h

    kinds: tuple[Run, ...] = (
        lambda s, x, e: F.pad(x, (1, 1, 1, 1), mode="circular"),
        lambda s, x, e: torch.full((x.shape[1],), 0.5).view(1, -1, 1, 1).expand_as(x) * x + torch.zeros(x.shape),
        columns,
        halves,
        planes,
        lambda s, x, e: torch.cat([x.new_zeros(*x.shape[:2], 1, x.shape[3]), x], 2),
        lambda s, x, e: torch.cat([torch.ones(x.shape[0], 2, *x.shape[2:]), x], 1),
        lambda s, x, e: torch.stack([x, torch.zeros(x.shape)], 1).sum(1),
        state,
    )
    parts = {"enter": nn.Conv2d(c + out, out, 1), "stay": nn.Conv2d(out, out, 1)} if pick(kinds, a) is state else {}
    return Step(pick(kinds, a), hidden=out, **parts)


PLACES: dict[str, Maker] = {
    "gathered": _gathered,
    "scattered": _scattered,
    "assigned": _assigned,
    "regions": _regions,
    "deformed": _deformed,
    "from_nothing": _from_nothing,
}
