"""Steps out of published networks whose convolutions are special; sizes are read as their authors read them."""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from random_networks.step import Maker, Site, Step, divisor, free, pick

__all__ = ["BLOCKS"]


class _Standardised(nn.Conv2d):
    """Weight standardisation: by moments (BiT), or through a batch norm over the flattened filters (NFNet)."""

    def __init__(self, c: int, out: int, kind: int, groups: int = 1) -> None:
        super().__init__(c, out, 3, padding=1, groups=groups)
        self.kind = kind
        self.gain = free(out, 1, 1, 1)
        self.scale = (9 * c // groups) ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == 0:
            deviation, mean = torch.std_mean(self.weight, dim=[1, 2, 3], keepdim=True, unbiased=False)
            weight = (self.weight - mean) / (deviation + 1e-5)
        elif self.kind == 1:
            flat, gain = self.weight.reshape(1, self.out_channels, -1), (self.gain * self.scale).view(-1)
            weight = F.batch_norm(flat, None, None, gain, None, True, 0.0, 1e-6).reshape_as(self.weight)
        else:
            flat = self.weight.view(self.weight.shape[0], -1)
            weight = self.gain * F.layer_norm(flat, flat.shape[1:]).view_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def _standardised(site: Site, a: int, b: int) -> Step:
    c = site.channels
    groups = divisor(c, a) if b % 4 == 3 else 1
    return Step(
        lambda s, x, e: F.relu(s.norm(s.conv(x))),
        conv=_Standardised(c, groups * (2 + a % 3), b % 3, groups),
        norm=nn.BatchNorm2d(groups * (2 + a % 3)) if a % 2 else nn.Identity(),
    )


def _parametrised(site: Site, a: int, b: int) -> Step:
    """Weight norm and spectral norm as parametrisations; weight norm as the hook that it was before."""
    conv = nn.Conv2d(site.channels, 6, 3, padding=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the older weight norm says that there is a newer one
        wrap = pick((parametrizations.weight_norm, parametrizations.spectral_norm, nn.utils.weight_norm), b)
        return Step(lambda s, x, e: s.next(F.relu(s.conv(x))), conv=wrap(conv), next=nn.Conv2d(6, 4 + a % 3, 1))


def _split_attention(site: Site, a: int, b: int) -> Step:
    """ResNeSt: a grouped convolution makes ``radix`` answers; a softmax over them weighs their sum."""
    c, radix, groups = site.channels, 1 + a % 3, 1 + b % 2
    enter, out, hidden = 2 * radix * groups, 4 * groups, 2 * groups

    def weigh(s: Step, x: Tensor) -> Tensor:
        if s.radix == 1:
            return torch.sigmoid(x)
        x = x.view(x.size(0), s.groups, s.radix, -1).transpose(1, 2)
        return F.softmax(x, dim=1).reshape(x.size(0), -1)

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        x = F.relu(s.norm(s.conv(s.enter(x))))
        n, rc, h, w = x.shape
        pieces = x.reshape((n, s.radix, rc // s.radix, h, w))
        pooled = pieces.sum(dim=1).mean((2, 3), keepdim=True)
        weights = weigh(s, s.up(F.relu(s.down(pooled)))).view(n, -1, 1, 1)
        return (pieces * weights.reshape((n, s.radix, rc // s.radix, 1, 1))).sum(dim=1).contiguous()

    return Step(
        run,
        radix=radix,
        groups=groups,
        enter=nn.Conv2d(c, enter, 1),
        conv=nn.Conv2d(enter, out * radix, 3, padding=1, groups=groups * radix if b % 3 else groups),
        norm=nn.BatchNorm2d(out * radix),
        down=nn.Conv2d(out, hidden, 1, groups=groups),
        up=nn.Conv2d(hidden, out * radix, 1, groups=groups),
    )


def _selective_kernel(site: Site, a: int, b: int) -> Step:
    """SKNet: paths with different kernels, chosen between per channel; its input is split for some."""
    c, out = site.channels, 4 + 2 * (a % 3)

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        parts = x.chunk(2, 1) if s.halves else (x, x)
        paths = torch.stack([path(part) for path, part in zip(s.paths, parts, strict=True)], dim=1)
        choice = s.select(F.relu(s.reduce(paths.sum(1).mean((2, 3), keepdim=True))))
        n, channels, h, w = choice.shape
        choice = choice.view(n, s.num_paths, channels // s.num_paths, h, w)
        return (paths * torch.softmax(choice, dim=1)).sum(dim=1)

    halves = b % 3 == 0 and c % 2 == 0
    inner = c // 2 if halves else c
    groups = divisor(inner, b) if b % 2 else 1
    out *= groups if groups < 4 else 2
    paths = nn.ModuleList(nn.Conv2d(inner, out, k, padding=k // 2, groups=groups) for k in (1, 3))
    return Step(
        run,
        num_paths=2,
        halves=halves,
        paths=paths,
        reduce=nn.Conv2d(out, 3, 1),
        select=nn.Conv2d(3, 2 * out, 1, bias=False),
    )


class _Conditional(nn.Module):
    """CondConv: each example's kernel is a mixture of experts; one grouped convolution over the batch applies it."""

    def __init__(self, c: int, out: int, experts: int, biased: bool) -> None:
        super().__init__()
        self.in_channels, self.out_channels = c, out
        self.weight = nn.Parameter(torch.randn(experts, out * c * 9) / 3)
        self.bias = nn.Parameter(torch.randn(experts, out)) if biased else None

    def forward(self, x: Tensor, routing: Tensor) -> Tensor:
        n, c, h, w = x.shape
        weight = torch.matmul(routing, self.weight).view(n * self.out_channels, self.in_channels, 3, 3)
        bias = torch.matmul(routing, self.bias).view(-1) if self.bias is not None else None
        y = F.conv2d(x.reshape(1, n * c, h, w), weight, bias, padding=1, groups=n)
        return y.permute([1, 0, 2, 3]).view(n, self.out_channels, y.shape[-2], y.shape[-1])


def _conditional(site: Site, a: int, b: int) -> Step:
    c, out = site.channels, 4 + a % 3

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        x = s.enter(x) if b % 3 == 0 else x
        routing = s.routing(F.adaptive_avg_pool2d(x, 1).flatten(1)).sigmoid()
        return F.relu(s.norm(s.conv(x, routing)))

    inner = 4 if b % 3 == 0 else c
    return Step(
        run,
        enter=nn.Conv2d(c, 4, 1),
        routing=nn.Linear(inner, 3),
        conv=_Conditional(inner, out, 3, b % 2 == 0),
        norm=nn.BatchNorm2d(out),
    )


def _blurred(site: Site, a: int, b: int) -> Step:
    """Anti-aliased pooling: a fixed kernel in a buffer filters each channel by itself."""
    c = site.channels
    row = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = torch.outer(row, row)[None, None]

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), "reflect" if b % 2 and min(x.shape[2:]) > 1 else "constant")
        if a % 4 == 0:
            return F.conv2d(padded, s.kernel, stride=1 + b % 2, groups=x.shape[1])
        if a % 4 == 1:
            return F.conv2d(padded, s.kernel, stride=1 + b % 2, groups=s.channels)
        if a % 4 == 2:
            return F.conv2d(padded, s.single.expand(x.shape[1], 1, 3, 3), groups=x.shape[1])
        return F.conv2d(padded, s.single.repeat(x.shape[1], 1, 1, 1), groups=x.shape[1])

    return Step(run, channels=c, kernel=kernel.repeat(c, 1, 1, 1), single=kernel)


def _squeeze_excite(site: Site, a: int, b: int) -> Step:
    """A gate per channel from the mean over space: two convolutions, two linear layers, or ECA's short 1-d one."""
    c = site.channels

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True) if b % 2 else F.adaptive_avg_pool2d(x, 1)
        if a % 3 == 0:
            gate = torch.sigmoid(s.up(F.relu(s.down(pooled))))
        elif a % 3 == 1:
            gate = s.wide(F.relu(s.narrow(pooled.flatten(1)))).sigmoid()[:, :, None, None]
        else:
            gate = s.local(pooled.view(x.shape[0], 1, -1)).sigmoid().view(x.shape[0], -1, 1, 1)
        return x * gate.expand_as(x)

    return Step(
        run,
        down=nn.Conv2d(c, 3, 1),
        up=nn.Conv2d(3, c, 1),
        narrow=nn.Linear(c, 3),
        wide=nn.Linear(3, c),
        local=nn.Conv1d(1, 1, 3, padding=1, bias=False),
    )


def _spatial_attention(site: Site, a: int, b: int) -> Step:
    """CBAM's second half: mean and maximum over the channels make a gate over space."""

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        gate = s.conv(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1))
        return s.next(x * gate.sigmoid()) if a % 2 else x * gate.sigmoid()

    return Step(run, conv=nn.Conv2d(2, 1, 3, padding=1), next=nn.Conv2d(site.channels, 4 + b % 3, 1))


def _partial_convolution(site: Site, a: int, b: int) -> Step:
    """FasterNet and InceptionNeXt: only some channels are convolved; their number is an attribute."""
    c = site.channels
    first = max(1, c // (2 + a % 3))
    sizes = (first, c - first) if b % 2 or c < 3 else (first, 1, c - first - 1)

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        mixed, *others = torch.split(x, s.sizes, dim=1)
        if b % 3 == 0:
            x = x.clone()
            x[:, : s.sizes[0]] = s.conv(x[:, : s.sizes[0]])
        else:
            x = torch.cat((s.conv(mixed), *others), 1)
        return s.second(F.relu(s.first(x))) + x

    return Step(
        run,
        sizes=sizes,
        conv=nn.Conv2d(first, first, 3, padding=1, groups=first if b % 4 == 1 else 1),
        first=nn.Conv2d(c, 5, 1),
        second=nn.Conv2d(5, c, 1),
    )


def _partial_shortcut(site: Site, a: int, b: int) -> Step:
    """ReXNet: the shortcut is added in place to the first channels only."""
    c = site.channels

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        y = s.norm(s.conv(x))
        if b % 3 == 0:
            return torch.cat([y[:, 0 : s.in_channels] + x, y[:, s.in_channels :]], dim=1)
        y[:, : s.in_channels if b % 3 == 1 else x.shape[1]] += x
        return y

    out = c + a % 4
    return Step(run, in_channels=c, conv=nn.Conv2d(c, out, 3, padding=1), norm=nn.BatchNorm2d(out))


def _involution(site: Site, a: int, b: int) -> Step:
    """A kernel per position out of the map itself, shared by the channels of a group."""
    c, groups = site.channels, divisor(site.channels, a)

    def run(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        n, channels, h, w = x.shape
        kernel = s.span(F.relu(s.reduce(x))).view(n, s.groups, 1, 9, h, w)
        if b % 2:
            padded = F.pad(x, (1, 1, 1, 1))
            near = torch.stack([padded[:, :, i : i + h, j : j + w] for i in range(3) for j in range(3)], 2)
        else:
            near = F.unfold(x, 3, padding=1)
        return (near.view(n, s.groups, channels // s.groups, 9, h, w) * kernel).sum(3).view(n, channels, h, w)

    return Step(run, groups=groups, reduce=nn.Conv2d(c, 4, 1), span=nn.Conv2d(4, 9 * groups, 1))


BLOCKS: dict[str, Maker] = {
    "standardised": _standardised,
    "parametrised": _parametrised,
    "split_attention": _split_attention,
    "selective_kernel": _selective_kernel,
    "conditional": _conditional,
    "blurred": _blurred,
    "squeeze_excite": _squeeze_excite,
    "spatial_attention": _spatial_attention,
    "partial_convolution": _partial_convolution,
    "partial_shortcut": _partial_shortcut,
    "involution": _involution,
}
