"""Steps that move channels about: join, cut, shuffle, fold into space and back, index."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from random_networks.step import Maker, Site, Step, divisor, just, pick

__all__ = ["SHAPES"]


def _concat(site: Site, a: int, b: int) -> Step:
    source = a % len(site.earlier)

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        other = F.interpolate(e[source], size=x.shape[2:], mode="nearest")
        return torch.cat([x, other] if b % 2 else [other, x, other], 1)

    return Step(run)


def _batch_concat(site: Site, a: int, b: int) -> Step:
    """Two views in one batch (and apart again), as siamese and multi-crop networks do."""
    c = site.channels

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        both = s.conv(torch.cat([x, x.flip(3)], 0))
        if a % 3 == 0:
            left, right = both.chunk(2, 0)
        elif a % 3 == 1:
            left, right = both[: x.shape[0]], both[x.shape[0] :]
        else:
            left, right = both.view(2, x.shape[0], *both.shape[1:]).unbind(0)
        return torch.cat([left, right], 1) if b % 2 else left * torch.sigmoid(right)

    return Step(run, conv=nn.Conv2d(c, 4 + b % 3, 3, padding=1))


def _add_earlier(site: Site, a: int, b: int) -> Step:
    """An earlier tensor, zero-padded by a fixed number of channels, added or as a gate."""
    source = a % len(site.earlier)
    extra = site.channels - site.earlier[source].shape[1]
    if extra < 0 or site.earlier[source].shape[2:] != site.x.shape[2:]:
        return just(F.relu)

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        other = F.pad(e[source], (0, 0, 0, 0, extra // 2, extra - extra // 2)) if extra else e[source]
        return x * torch.sigmoid(other) if b % 3 == 0 else x + other

    return Step(run)


def _padded(site: Site, a: int, b: int) -> Step:
    """Option-A shortcut: channels of zeros before and behind."""
    c, before, after = site.channels, a % 3, b % 3
    conv = nn.Conv2d(c, c + before + after, 3, padding=1)
    if b % 4 == 3:  # pyramid networks join a tensor of zeros
        zeros = (before + after, *site.space)
        return Step(lambda s, x, e: s.conv(x) + torch.cat([x, x.new_zeros(x.shape[0], *zeros)], 1), conv=conv)
    return Step(lambda s, x, e: s.conv(x) + F.pad(x, (0, 0, 0, 0, before, after)), conv=conv)


def _chunk(site: Site, a: int, b: int) -> Step:
    c = site.channels
    pieces = divisor(c, a)

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        first, *rest = x.chunk(pieces, 1)
        if b % 3 == 0:
            return first * torch.sigmoid(rest[-1]) if rest else first
        return torch.cat([*rest, s.conv(first) if b % 3 == 1 else first], 1)

    return Step(run, conv=nn.Conv2d(c // pieces, c // pieces, 1))


def _split(site: Site, a: int, b: int) -> Step:
    """Sizes held in Python, equal or not, or from the shape."""
    c = site.channels
    first = 1 + a % max(1, c - 1)

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        now = x.shape[1]
        if b % 5 == 0:
            return torch.cat(list(x.split(max(1, c // 2), 1))[::-1], 1)
        if b % 5 == 1:
            return torch.cat(x.split(s.sizes, 1)[::-1], 1)
        if b % 5 == 2:
            return torch.cat([x[:, now // 2 :], F.relu(x[:, : now // 2])], 1)
        if b % 5 == 3:
            return torch.cat(x.tensor_split(2, 1)[::-1], 1)
        return torch.cat([*torch.unsafe_split(x, max(1, now // 2), 1)][::-1], 1)

    return Step(run, sizes=(first, c - first))


def _cut(site: Site, a: int, b: int) -> Step:
    """Some of the channels: by slices, steps, selection; an attribute holds the place, but nobody reads it."""
    c = site.channels
    kinds = (
        lambda x: torch.cat([x[:, : c // 2], x[:, c // 2 :] * 2], 1),
        lambda x: x[:, ::2],
        lambda x: x[:, :1] * x,
        lambda x: x[:, -1:] + x,
        lambda x: x * x.select(1, 0).unsqueeze(1),
        lambda x: torch.stack([p * (i + 1) for i, p in enumerate(x.unbind(1))], 1),
        lambda x: x.narrow(1, 0, max(1, c - 2)),
        lambda x: x[..., : max(1, x.shape[3] // 2)].mean(3, keepdim=True) + x,
        lambda x: x.diff(dim=1) if c > 1 else x,
        lambda x: torch.cat([x[:, : c // 2].relu(), x[:, c // 2 :]], 1),
        lambda x: torch.cat([x[:, : x.shape[1] // 2].relu(), x[:, x.shape[1] // 2 :]], 1),
    )
    kind = pick(kinds, a + 3 * b)
    return Step(lambda s, x, e: kind(x), place=c // 2)


def _write(site: Site, a: int, b: int) -> Step:
    """Into a part of a tensor, in place."""

    def doubled(x: Tensor) -> Tensor:
        out = torch.zeros(x.shape[0], 2 * x.shape[1], *x.shape[2:], dtype=x.dtype)
        out[:, : x.shape[1]] = x
        out[:, x.shape[1] :] = x.abs()
        return out

    def first_half(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, : x.shape[1] // 2] *= 2
        return x

    def interleaved(x: Tensor) -> Tensor:
        out = x.new_empty(x.shape[0], 2 * x.shape[1], *x.shape[2:])
        out[:, 0::2], out[:, 1::2] = x, -x
        return out

    def border(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, :, 0] = 0
        x[:, :, :, -1].fill_(1)
        return x

    def clipped(x: Tensor) -> Tensor:
        x = x.clone()
        x[x > 1] = 1.0
        return x

    def silenced(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, [0]] = 0.0
        return x

    def twice_in_place(x: Tensor) -> Tensor:
        y = x * 2
        y.view(x.shape[0], -1).mul_(0.5)
        y.transpose(1, 3).add_(1)
        return y

    kinds = (doubled, first_half, interleaved, border, clipped, silenced, twice_in_place)
    return just(pick((*kinds, lambda x: torch.mul(x.detach(), 2, out=torch.empty_like(x))), a))


def _shuffle(site: Site, a: int, b: int) -> Step:
    """Channel shuffle, written out in two ways and as one operation."""
    g = divisor(site.channels, a)

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        n, c, h, w = x.shape
        if b % 4 == 0:
            return F.channel_shuffle(x, g)
        if b % 4 == 1:
            return x.view(n, g, c // g, h, w).transpose(1, 2).reshape(n, c, h, w)
        if b % 4 == 2:
            return x.reshape(n, c // g, g, h, w).transpose(1, 2).flatten(1, 2)
        return torch.native_channel_shuffle(x.contiguous(), g)  # under a dispatch mode (FlopCounterMode) it takes views

    return Step(run)


def _to_space(site: Site, a: int, b: int) -> Step:
    """Pixel shuffle: channels become space."""
    c = site.channels
    if c % 4 or max(site.space) > 6:
        return Step(lambda s, x, e: F.pixel_shuffle(s.conv(x), 2)[:, :, ::2, ::2], conv=nn.Conv2d(c, 16, 1))

    def written(x: Tensor) -> Tensor:
        n, channels, h, w = x.shape
        return x.view(n, channels // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, channels // 4, 2 * h, 2 * w)

    return just(pick((lambda x: F.pixel_shuffle(x, 2), written), b))


def _to_channels(site: Site, a: int, b: int) -> Step:
    """Space to depth: one operation, written out (TResNet), four strided slices (Focus), or unfold."""
    c = site.channels
    if site.space[0] % 2 or site.space[1] % 2 or c > 10:
        return Step(
            lambda s, x, e: F.unfold(s.conv(x), 3, padding=1).unflatten(2, x.shape[2:]), conv=nn.Conv2d(c, 3, 1)
        )

    def written(x: Tensor) -> Tensor:
        n, channels, h, w = x.shape
        x = x.view(n, channels, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(n, channels * 4, h // 2, w // 2)

    def focus(x: Tensor) -> Tensor:
        corners = (x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2])
        return torch.cat(corners, 1)

    kinds = (
        lambda x: F.pixel_unshuffle(x, 2),
        written,
        focus,
        lambda x: F.unfold(x, 2, stride=2).view(x.shape[0], -1, x.shape[2] // 2, x.shape[3] // 2),
    )
    return just(pick(kinds, b))


def _patches(site: Site, a: int, b: int) -> Step:
    """Unfold into overlapping patches and fold them again; windows cut out by ``Tensor.unfold``."""
    kinds = (
        lambda x: F.fold(F.unfold(x, 3, padding=1), x.shape[2:], 3, padding=1),
        lambda x: F.pad(x, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1).mean((4, 5)),
        lambda x: F.unfold(x, 1).view(x.shape),
    )
    return just(pick(kinds, b))


def _permuted(site: Site, a: int, b: int) -> Step:
    """A fixed order of the channels, held in a buffer; shifts and mirrors."""
    kinds = (
        lambda s, x, e: x[:, s.order],
        lambda s, x, e: x.index_select(1, s.order),
        lambda s, x, e: torch.roll(x, 1, 1),
        lambda s, x, e: torch.roll(x, (1, -1), (2, 3)),
        lambda s, x, e: x.flip(1),
        lambda s, x, e: x.flip(2),
        lambda s, x, e: x.gather(1, s.order[None, :, None, None].expand_as(x)),
        lambda s, x, e: x.take_along_dim(s.order[None, :, None, None], 1),
        lambda s, x, e: torch.zeros_like(x).index_copy(1, s.order, x),
        lambda s, x, e: torch.rot90(x, 1, (2, 3)) if x.shape[2] == x.shape[3] else x,
    )
    return Step(pick(kinds, a), order=torch.randperm(site.channels))


def _doubled(site: Site, a: int, b: int) -> Step:
    """Each channel several times."""
    kinds = (
        lambda x: torch.stack([x, x.relu()], 1).sum(1),
        lambda x: torch.stack([x, -x], 2).flatten(1, 2),
        lambda x: torch.stack([x, -x], 1).flatten(1, 2),
        lambda x: x.repeat(1, 2, 1, 1),
        lambda x: x.repeat_interleave(2, 1),
        lambda x: x[:, :, None].expand(-1, -1, 2, -1, -1).reshape(x.shape[0], -1, *x.shape[2:]),
        lambda x: torch.cat([x, x], 1),
        lambda x: torch.tile(x, (2, 1, 1)),
    )
    return just(pick(kinds, a))


def _viewed(site: Site, a: int, b: int) -> Step:
    """Views with the sizes of the shape, of the time of construction, or left to PyTorch."""
    c, (h, w), g = site.channels, site.space, divisor(site.channels, b)
    kinds = (
        lambda x: x.view(x.shape[0], c, h * w).relu().view(x.shape[0], c, h, w),
        lambda x: x.view(x.shape[0], -1, h * w).relu().view(x.shape[0], -1, h, w),
        lambda x: x.view(x.shape[0], c // g, -1, *x.shape[2:]).flatten(1, 2),
        lambda x: x.view(x.shape[0], -1, g, *x.shape[2:]).transpose(1, 2).flatten(1, 2),
        lambda x: x.view(x.shape[0], g, -1, *x.shape[2:]).sum(1),
        lambda x: x.view(x.shape[0], g, -1, *x.shape[2:]).amax(2),
        lambda x: x.view(x.shape[0], g, -1, *x.shape[2:])[:, 0],
        lambda x: x.flatten(0, 1).relu().unflatten(0, (x.shape[0], -1)),
        lambda x: x.permute(1, 0, 2, 3).flatten(1).unflatten(1, (x.shape[0], *x.shape[2:])).transpose(0, 1),
        lambda x: x.squeeze()[None] if x.shape[0] == 1 else x.view_as(x).contiguous(),
        lambda x: x.movedim(1, -1).reshape(-1, x.shape[1]).relu().view(x.shape[0], h, w, -1).movedim(-1, 1),
        lambda x: x.swapaxes(2, 3).unsqueeze(1).squeeze(1).transpose(2, 3),
    )
    return just(pick(kinds, a))


SHAPES: dict[str, Maker] = {
    "concat": _concat,
    "batch_concat": _batch_concat,
    "add_earlier": _add_earlier,
    "padded": _padded,
    "chunk": _chunk,
    "split": _split,
    "cut": _cut,
    "write": _write,
    "shuffle": _shuffle,
    "to_space": _to_space,
    "to_channels": _to_channels,
    "patches": _patches,
    "permuted": _permuted,
    "doubled": _doubled,
    "viewed": _viewed,
}
