"""Steps around convolutions: plain, grouped, depthwise, transposed, in one and three dimensions, shared, tied."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from random_networks.step import Maker, Site, Step, divisor, free, pick

__all__ = ["CONVOLUTIONAL"]


def _conv(site: Site, a: int, b: int) -> Step:
    """Plain, with the usual options."""
    k, stride = (1, 3)[b % 2], 2 if b % 3 == 2 and min(site.space) > 3 else 1
    mode = pick(("zeros", "reflect", "zeros", "circular", "replicate"), a) if min(site.space) > 1 else "zeros"
    padding = "same" if a % 7 == 2 and stride == 1 else k // 2
    layer = nn.Conv2d(site.channels, 4 + 2 * (a % 5), k, stride, padding, bias=a % 2 == 0, padding_mode=mode)
    return Step(lambda s, x, e: s.conv(x), conv=layer)


def _conv_norm(site: Site, a: int, b: int) -> Step:
    out = 4 + 4 * (a % 3)
    norm = pick((nn.BatchNorm2d(out), nn.GroupNorm(out, out), nn.BatchNorm2d(out, affine=False)), b)
    layer = nn.Conv2d(site.channels, out, 3, padding=1, bias=b % 2 == 0)
    return Step(lambda s, x, e: s.act(s.norm(s.conv(x))), conv=layer, norm=norm, act=nn.ReLU(inplace=True))


def _grouped(site: Site, a: int, b: int) -> Step:
    """Grouped convolution; behind a concatenation for some."""
    c, groups = site.channels, divisor(site.channels, a)
    if b % 2:
        return Step(lambda s, x, e: s.conv(x), conv=nn.Conv2d(c, groups * (2 + b % 3), 1, groups=groups))
    return Step(
        lambda s, x, e: s.conv(torch.cat([s.left(x), s.right(x)], 1)),
        left=nn.Conv2d(c, 4, 1),
        right=nn.Conv2d(c, (4, 2, 8)[b % 3], 1),
        conv=nn.Conv2d(4 + (4, 2, 8)[b % 3], 8, 3, padding=1, groups=2),
    )


def _depthwise(site: Site, a: int, b: int) -> Step:
    c = site.channels
    layer = nn.Conv2d(c, c * (1 + a % 2), 3, padding=1 + b % 2, dilation=1 + b % 2, groups=c, bias=b % 3 == 0)
    return Step(lambda s, x, e: s.conv(x), conv=layer)


def _transposed(site: Site, a: int, b: int) -> Step:
    c = site.channels
    groups = pick((1, divisor(c, a), c), b)
    layer = nn.ConvTranspose2d(c, groups * (1 + a % 2), 3, padding=1, groups=groups)
    return Step(lambda s, x, e: s.conv(x), conv=layer)


def _upsampled(site: Site, a: int, b: int) -> Step:
    """U-Net: down, up again by a transposed convolution or interpolation, joined with what was there."""
    c = site.channels
    up = nn.ConvTranspose2d(6, 6, 2, 2) if a % 2 else nn.Upsample(scale_factor=2, mode=pick(("nearest", "bilinear"), b))

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        y = s.up(F.relu(s.down(x)))
        return s.join(torch.cat([x, F.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))], 1))

    return Step(run, down=nn.Conv2d(c, 6, 3, 2, 1), up=up, join=nn.Conv2d(c + 6, 4 + b % 4, 1))


def _residual(site: Site, a: int, b: int) -> Step:
    c, hidden = site.channels, 4 + a % 3

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        y = s.project(F.silu(s.expand(x)))
        if b % 2:
            y += x
            return y
        return x + y

    return Step(run, expand=nn.Conv2d(c, hidden, 1), project=nn.Conv2d(hidden, c, 3, padding=1))


def _projected(site: Site, a: int, b: int) -> Step:
    """An earlier tensor, added through a projection."""
    source = a % len(site.earlier)

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        return x + s.conv(F.adaptive_avg_pool2d(e[source], x.shape[2:]))

    return Step(run, conv=nn.Conv2d(site.earlier[source].shape[1], site.channels, 1))


def _twice(site: Site, a: int, b: int) -> Step:
    """One module called twice: on its own output, on two tensors, or under two names."""
    c = site.channels
    layer, norm = nn.Conv2d(c, c, 1), nn.BatchNorm2d(c)
    if a % 3 == 0:
        return Step(lambda s, x, e: s.conv(F.relu(s.norm(s.conv(x)))), conv=layer, norm=norm)
    if a % 3 == 1:
        inner = nn.Conv2d(c, 5, 3, padding=1)
        return Step(lambda s, x, e: s.first(x) * torch.sigmoid(s.second(-x)), first=inner, second=inner)
    return Step(lambda s, x, e: s.conv(x) + s.conv(F.relu(s.norm(-x))), conv=layer, norm=norm)


def _tied(site: Site, a: int, b: int) -> Step:
    """One weight in two places: two convolutions, or encoder and decoder."""
    c = site.channels
    first, second = nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 1)
    second.weight = first.weight
    if b % 2:
        weight = nn.Parameter(torch.randn(4, c))
        return Step(
            lambda s, x, e: F.linear(F.relu(F.linear(x.movedim(1, -1), s.weight)), s.weight.t()).movedim(-1, 1),
            weight=weight,
        )
    return Step(lambda s, x, e: s.second(F.relu(s.first(x))), first=first, second=second)


def _conv_1d(site: Site, a: int, b: int) -> Step:
    """Along the flattened space."""
    c = site.channels
    layer = pick(
        (
            nn.Conv1d(c, 4 + a % 5, 3, padding=1),
            nn.ConvTranspose1d(c, 4 + a % 5, 3, padding=1),
            nn.Conv1d(c, c, 3, padding=1, groups=c),
            nn.Conv1d(c, 2 * divisor(c, a), 1, groups=divisor(c, a)),
        ),
        b,
    )
    out = layer.out_channels
    return Step(
        lambda s, x, e: s.norm(s.conv(x.flatten(2))).unflatten(2, x.shape[2:]), conv=layer, norm=nn.BatchNorm1d(out)
    )


def _conv_3d(site: Site, a: int, b: int) -> Step:
    """Over two frames: the maps and their mirror image."""
    c = site.channels
    layer = pick(
        (
            nn.Conv3d(c, 4 + a % 5, 3, padding=1),
            nn.Conv3d(c, 4 + a % 3, (2, 1, 1)),
            nn.ConvTranspose3d(c, 4 + a % 5, 3, padding=1),
            nn.Conv3d(c, c, (1, 3, 3), padding=(0, 1, 1), groups=c),
        ),
        b,
    )

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        y = s.norm(s.conv(torch.stack([x, x.flip(3)], 2)))
        return y.mean(2) if a % 2 else y[:, :, -1]

    return Step(run, conv=layer, norm=nn.BatchNorm3d(layer.out_channels))


def _separable(site: Site, a: int, b: int) -> Step:
    """Inverted residual: expansion, depthwise, squeeze-excite, projection."""
    c, hidden = site.channels, 8 + 4 * (a % 2)

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        y = F.hardswish(s.depthwise(F.relu6(s.norm(s.expand(x)))))
        y = y * F.hardsigmoid(s.up(F.relu(s.down(y.mean((2, 3), keepdim=True)))))
        return s.project(y) + x if b % 2 else s.project(y)

    return Step(
        run,
        expand=nn.Conv2d(c, hidden, 1, bias=False),
        norm=nn.BatchNorm2d(hidden),
        depthwise=nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
        down=nn.Conv2d(hidden, 3, 1),
        up=nn.Conv2d(3, hidden, 1),
        project=nn.Conv2d(hidden, c, 1),
    )


def _hierarchical(site: Site, a: int, b: int) -> Step:
    """Res2Net: each piece is convolved together with the result of the piece before it."""
    width = 2 + a % 3

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        pieces = s.expand(x).split(s.width, 1) if b % 2 else s.expand(x).chunk(3, 1)
        done = [pieces[0]]
        for piece, conv in zip(pieces[1:], s.convs, strict=True):
            done.append(F.relu(conv(piece + done[-1] if len(done) > 1 else piece)))
        return s.project(torch.cat(done, 1))

    return Step(
        run,
        width=width,
        expand=nn.Conv2d(site.channels, 3 * width, 1),
        convs=nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2)),
        project=nn.Conv2d(3 * width, 4 + b % 4, 1, groups=3 if b % 4 == 2 else 1),
    )


def _dual_path(site: Site, a: int, b: int) -> Step:
    """DPN: some channels are added to the shortcut, the others joined to it; grouped convolution behind it all."""
    c = site.channels
    kept = max(1, c // 2)

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        y = s.conv(x)
        added, joined = y[:, : s.kept], y[:, s.kept :]
        return s.grouped(torch.cat([x[:, : s.kept] + added, x[:, s.kept :], joined], 1))

    total = c + 2 * (1 + a % 3)
    groups = divisor(total, b)
    conv = nn.Conv2d(c, kept + 2 * (1 + a % 3), 1)
    return Step(run, kept=kept, conv=conv, grouped=nn.Conv2d(total, 2 * groups, 3, padding=1, groups=groups))


def _free_filters(site: Site, a: int, b: int) -> Step:
    """A weight that belongs to no layer: scaled, as it is, a sum of branches, a product, with another beside it."""
    c, out = site.channels, 4 + a % 4

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        if b % 5 == 0:
            return F.conv2d(x, s.weight * s.gain, padding=1)
        if b % 5 == 1:
            options = ((1, 1), (1, 1), (1, 1), False, (0, 0), 1, False, False, False, False)
            return torch.ops.aten._convolution(x, s.weight, s.bias, *options)
        if b % 5 == 2:
            return F.conv2d(x, s.weight + F.pad(s.point, (1, 1, 1, 1)), s.bias, padding=1)
        if b % 5 == 3:
            return F.conv2d(x, (s.up @ s.down)[:, :, None, None], s.bias)
        return F.conv2d(x, s.weight, padding=1) + F.conv2d(F.conv2d(x, s.down[..., None, None]), s.up[..., None, None])

    weights = {"weight": (out, c, 3, 3), "point": (out, c, 1, 1), "up": (out, 2), "down": (2, c)}
    parts = {name: nn.Parameter(torch.randn(shape)) for name, shape in weights.items()}
    return Step(run, **parts, gain=free(out, 1, 1, 1), bias=free(out))


CONVOLUTIONAL: dict[str, Maker] = {
    "conv": _conv,
    "conv_norm": _conv_norm,
    "grouped": _grouped,
    "depthwise": _depthwise,
    "transposed": _transposed,
    "upsampled": _upsampled,
    "residual": _residual,
    "projected": _projected,
    "twice": _twice,
    "tied": _tied,
    "conv_1d": _conv_1d,
    "conv_3d": _conv_3d,
    "separable": _separable,
    "hierarchical": _hierarchical,
    "dual_path": _dual_path,
    "free_filters": _free_filters,
}
