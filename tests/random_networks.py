"""Random small networks out of everything that couples channels; each step is a module ``(x, earlier) -> x``."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

Spec = list[tuple[str, int, int]]


class Step(nn.Module):
    """Modules made for the present width, and a function that uses them."""

    def __init__(self, function: Callable[..., Tensor], *modules: nn.Module, **tensors: Tensor) -> None:
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(modules)
        for name, tensor in tensors.items():
            if name.startswith("p_"):
                self.register_parameter(name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)

    def forward(self, x: Tensor, earlier: list[Tensor]) -> Tensor:
        return self.function(self, x, earlier)


def _groups(c: int, a: int) -> int:
    return next((g for g in (4, 3, 2)[a % 3 :] if c % g == 0), 1)


def _conv(x: Tensor, a: int, b: int) -> Step:
    conv = nn.Conv2d(x.shape[1], 4 + 2 * (a % 5), (1, 3)[b % 2], padding=b % 2, bias=a % 2 == 0)
    return Step(lambda s, x, e: s.parts[0](x), conv)


def _conv_norm(x: Tensor, a: int, b: int) -> Step:
    out = 4 + 4 * (a % 3)
    norm = (nn.BatchNorm2d(out), nn.GroupNorm(1, out), nn.GroupNorm(out, out), nn.GroupNorm(2, out))[b % 4]
    inplace = nn.ReLU(inplace=True)
    return Step(
        lambda s, x, e: s.parts[2](s.parts[1](s.parts[0](x))), nn.Conv2d(x.shape[1], out, 3, padding=1), norm, inplace
    )


def _grouped(x: Tensor, a: int, b: int) -> Step:
    groups = _groups(x.shape[1], a)
    return Step(lambda s, x, e: s.parts[0](x), nn.Conv2d(x.shape[1], groups * (2 + b % 3), 1, groups=groups))


def _depthwise(x: Tensor, a: int, b: int) -> Step:
    c = x.shape[1]
    return Step(lambda s, x, e: s.parts[0](x), nn.Conv2d(c, c * (1 + a % 2), 3, padding=1, groups=c, bias=b % 2 == 0))


def _transposed(x: Tensor, a: int, b: int) -> Step:
    c, groups = x.shape[1], (1, _groups(x.shape[1], a), x.shape[1])[b % 3]
    return Step(lambda s, x, e: s.parts[0](x), nn.ConvTranspose2d(c, groups * 2, 3, padding=1, groups=groups))


def _residual(x: Tensor, a: int, b: int) -> Step:
    c = x.shape[1]

    def run(s: Any, x: Tensor, e: list[Tensor]) -> Tensor:
        y = s.parts[1](F.silu(s.parts[0](x)))
        if b % 2:
            y += x
            return y
        return x + y

    return Step(run, nn.Conv2d(c, 4 + a % 3, 1), nn.Conv2d(4 + a % 3, c, 3, padding=1))


def _project(x: Tensor, a: int, b: int) -> Step:
    """Add an earlier tensor through a projection."""

    def run(s: Any, x: Tensor, e: list[Tensor]) -> Tensor:
        return x + s.parts[0](F.adaptive_avg_pool2d(e[a % len(e)], x.shape[2:]))

    return Step(run, nn.LazyConv2d(x.shape[1], 1))


def _concat(x: Tensor, a: int, b: int) -> Step:
    def run(s: Any, x: Tensor, e: list[Tensor]) -> Tensor:
        other = F.interpolate(e[a % len(e)], size=x.shape[2:], mode="nearest")
        return torch.cat([x, other] if b % 2 else [other, x, other], 1)

    return Step(run)


def _add_earlier(x: Tensor, a: int, b: int) -> Step:
    """An earlier tensor, zero-padded to the channels there are at build time, added or as a gate."""

    def run(s: Any, x: Tensor, e: list[Tensor]) -> Tensor:
        if s.extra is None:  # decided once: a forward that looks at its width afterwards cannot be proved
            s.source, s.extra = a % len(e), x.shape[1] - e[a % len(e)].shape[1]
        other = e[s.source]
        if s.extra < 0 or other.shape[2:] != x.shape[2:]:
            return x.relu()
        if s.extra:
            other = F.pad(other, (0, 0, 0, 0, s.extra // 2, s.extra - s.extra // 2))
        return x * torch.sigmoid(other) if b % 3 == 0 else x + other

    step = Step(run)
    step.source, step.extra = 0, None  # type: ignore[assignment]
    return step


def _padded(x: Tensor, a: int, b: int) -> Step:
    """Option-A shortcut: pads fixed at build time."""
    c, before, after = x.shape[1], a % 3, b % 3
    conv = nn.Conv2d(c, c + before + after, 3, padding=1)
    return Step(lambda s, x, e: s.parts[0](x) + F.pad(x, (0, 0, 0, 0, before, after)), conv)


def _chunk(x: Tensor, a: int, b: int) -> Step:
    c = x.shape[1]
    pieces = _groups(c, a)

    def run(s: Any, x: Tensor, e: list[Tensor]) -> Tensor:
        first, *rest = x.chunk(pieces, 1)
        if b % 3 == 0:
            return first * torch.sigmoid(rest[-1]) if rest else first
        if b % 3 == 1:
            return torch.cat([*rest, s.parts[0](first)], 1)
        return torch.cat([*rest, first], 1)

    return Step(run, nn.Conv2d(c // pieces, c // pieces, 1))


def _split(x: Tensor, a: int, b: int) -> Step:
    """Fixed sizes, equal or not, or sizes from the shape."""
    c = x.shape[1]

    def run(s: Any, x: Tensor, e: list[Tensor]) -> Tensor:
        now = x.shape[1]
        if b % 3 == 0:
            return torch.cat(list(x.split(max(1, c // 2), 1))[::-1], 1)
        if b % 3 == 1:
            left, right = x.split([1 + a % (c - 1), c - 1 - a % (c - 1)], 1) if c > 1 else (x, x)
            return torch.cat([right, left], 1)
        return torch.cat([x[:, now // 2 :], F.relu(x[:, : now // 2])], 1)

    return Step(run)


def _shuffle(x: Tensor, a: int, b: int) -> Step:
    g = _groups(x.shape[1], a)

    def run(s: Any, x: Tensor, e: list[Tensor]) -> Tensor:
        n, c, h, w = x.shape
        if b % 3 == 0:
            return F.channel_shuffle(x, g)
        if b % 3 == 1:
            return x.view(n, g, c // g, h, w).transpose(1, 2).reshape(n, c, h, w)
        return x.reshape(n, c // g, g, h, w).transpose(1, 2).flatten(1, 2)

    return Step(run)


def _excite(x: Tensor, a: int, b: int) -> Step:
    c = x.shape[1]

    def run(s: Any, x: Tensor, e: list[Tensor]) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True) if b % 2 else F.adaptive_avg_pool2d(x, 1)
        if a % 2:
            gate = s.parts[3](F.relu(s.parts[2](pooled.flatten(1)))).sigmoid()[:, :, None, None]
        else:
            gate = torch.sigmoid(s.parts[1](F.relu(s.parts[0](pooled))))
        return x * gate.expand_as(x)

    return Step(run, nn.Conv2d(c, 3, 1), nn.Conv2d(3, c, 1), nn.Linear(c, 3), nn.Linear(3, c))


def _twice(x: Tensor, a: int, b: int) -> Step:
    c = x.shape[1]
    return Step(lambda s, x, e: s.parts[0](F.relu(s.parts[1](s.parts[0](x)))), nn.Conv2d(c, c, 1), nn.BatchNorm2d(c))


def _tied(x: Tensor, a: int, b: int) -> Step:
    c = x.shape[1]
    first, second = nn.Conv2d(c, c, 1), nn.Conv2d(c, c, 1)
    second.weight = first.weight
    if b % 2:
        weight = torch.randn(4, c)
        return Step(
            lambda s, x, e: F.linear(F.relu(F.linear(x.movedim(1, -1), s.p_w)), s.p_w.t()).movedim(-1, 1), p_w=weight
        )
    return Step(lambda s, x, e: s.parts[1](F.relu(s.parts[0](x))), first, second)


def _scale(x: Tensor, a: int, b: int) -> Step:
    c = x.shape[1]
    kinds: tuple[Callable[..., Tensor], ...] = (
        lambda s, x, e: x * s.p_gamma,
        lambda s, x, e: x * s.constant + s.p_gamma,
        lambda s, x, e: x.mul_(s.p_gamma) if not x.requires_grad else x * s.p_gamma,
        lambda s, x, e: torch.where(s.constant > 0, x, x * s.p_gamma),
    )
    return Step(kinds[a % 4], p_gamma=torch.rand(c, 1, 1) + 0.5, constant=torch.randn(c, 1, 1))


def _act(x: Tensor, a: int, b: int) -> Step:
    c = x.shape[1]
    layer = (nn.PReLU(c), nn.PReLU(), nn.Hardswish(inplace=True), nn.GELU(), nn.Softplus(), nn.ReLU6(), nn.ELU())[a % 7]
    return Step(lambda s, x, e: s.parts[0](x.clone()), layer)


def _last(x: Tensor, a: int, b: int) -> Step:
    """ConvNeXt's way: norm and linear layers over channels that lie last."""
    c = x.shape[1]
    norm = nn.LayerNorm(c) if b % 2 else nn.Identity()
    return Step(
        lambda s, x, e: s.parts[2](F.gelu(s.parts[1](s.parts[0](x.permute(0, 2, 3, 1))))).permute(0, 3, 1, 2),
        norm,
        nn.Linear(c, 6),
        nn.Linear(6, 4 + a % 4),
    )


def _pool(x: Tensor, a: int, b: int) -> Step:
    kinds: tuple[Callable[..., Tensor], ...] = (
        lambda s, x, e: F.max_pool2d(x, 3, 1, 1),
        lambda s, x, e: F.avg_pool2d(x, 3, 1, 1),
        lambda s, x, e: (
            F.interpolate(F.max_pool2d(x, 2), size=x.shape[2:], mode="bilinear") if min(x.shape[2:]) > 1 else x
        ),
        lambda s, x, e: F.pad(x, (1, 1, 1, 1), mode="reflect")[:, :, 1:-1, 1:-1] if min(x.shape[2:]) > 1 else x,
    )
    return Step(kinds[a % 4])


def _mixing(x: Tensor, a: int, b: int) -> Step:
    """Operations that mix channels: what they touch must be pinned."""
    c = x.shape[1]
    kinds: tuple[Callable[..., Tensor], ...] = (
        lambda s, x, e: x.softmax(1),
        lambda s, x, e: x * x.mean(1, keepdim=True),
        lambda s, x, e: x.flip(1),
        lambda s, x, e: x.roll(1, 1),
        lambda s, x, e: (x.flatten(2) @ x.flatten(2).transpose(1, 2)).softmax(-1)[:, :, :, None] + x.mean(),
        lambda s, x, e: x / x.shape[1] ** 0.5,
        lambda s, x, e: torch.cumsum(x, 1),
        lambda s, x, e: F.normalize(x, dim=1),
        lambda s, x, e: x[:, s.order],
        lambda s, x, e: torch.einsum("nchw,ncxy->nhwxy", x, x).mean((3, 4))[:, None] * x,
    )
    return Step(kinds[a % 10], order=torch.randperm(c))


def _odd(x: Tensor, a: int, b: int) -> Step:
    """Hard-coded numbers and unusual ways to say usual things."""
    _, c, h, w = x.shape

    def buffer(s: Any, x: Tensor, e: list[Tensor]) -> Tensor:
        out = torch.zeros(x.shape[0], 2 * x.shape[1], *x.shape[2:], dtype=x.dtype)
        out[:, : x.shape[1]] = x
        out[:, x.shape[1] :] = x.abs()
        return out

    def inplace(s: Any, x: Tensor, e: list[Tensor]) -> Tensor:
        x = x.clone()
        x[:, : x.shape[1] // 2] *= 2
        return x

    kinds: tuple[Callable[..., Tensor], ...] = (
        lambda s, x, e: x.view(x.shape[0], c, h * w).relu().view(x.shape[0], c, h, w),
        lambda s, x, e: torch.cat([x[:, : c // 2], x[:, c // 2 :] * 2], 1),
        lambda s, x, e: torch.stack([x, x.relu()], 1).sum(1),
        lambda s, x, e: torch.stack([x, -x], 2).flatten(1, 2),
        lambda s, x, e: x.repeat(1, 2, 1, 1),
        lambda s, x, e: x.repeat_interleave(2, 1),
        lambda s, x, e: torch.stack([p * (i + 1) for i, p in enumerate(x.unbind(1))], 1),
        lambda s, x, e: x[:, ::2],
        lambda s, x, e: x[:, :1] * x,
        lambda s, x, e: F.glu(x, 1) if x.shape[1] % 2 == 0 else x,
        lambda s, x, e: F.pixel_shuffle(x, 2) if c % 4 == 0 and h < 9 else x,
        lambda s, x, e: F.pixel_unshuffle(x, 2) if c < 9 and h % 2 == 0 else x,
        lambda s, x, e: x.view(x.shape[0], c // _groups(c, b), -1, *x.shape[2:]).flatten(1, 2),
        lambda s, x, e: x.view(x.shape[0], -1, _groups(c, b), *x.shape[2:]).transpose(1, 2).flatten(1, 2),
        lambda s, x, e: torch.maximum(x, x.amax((2, 3), keepdim=True) * 0.3),
        lambda s, x, e: x + torch.linspace(0, 1, x.shape[1], dtype=x.dtype)[:, None, None],
        lambda s, x, e: F.pad(x, (0, 0, 0, 0, 0, max(0, 16 - x.shape[1]))),
        lambda s, x, e: F.unfold(x, 3, padding=1).view(x.shape[0], -1, *x.shape[2:]) if c < 5 else x,
        lambda s, x, e: x.squeeze()[None] if x.shape[0] == 1 and x.squeeze().ndim == 3 else x,
        lambda s, x, e: x * 2 if c > 3 else x,
        buffer,
        inplace,
    )
    return Step(kinds[(3 * a + b) % len(kinds)])


MAKERS: dict[str, Callable[[Tensor, int, int], Step]] = {
    "conv": _conv,
    "conv_norm": _conv_norm,
    "grouped": _grouped,
    "depthwise": _depthwise,
    "transposed": _transposed,
    "residual": _residual,
    "project": _project,
    "concat": _concat,
    "add_earlier": _add_earlier,
    "padded": _padded,
    "chunk": _chunk,
    "split": _split,
    "shuffle": _shuffle,
    "excite": _excite,
    "twice": _twice,
    "tied": _tied,
    "scale": _scale,
    "act": _act,
    "last": _last,
    "pool": _pool,
    "mixing": _mixing,
    "odd": _odd,
}


class RandomNet(nn.Module):
    """Runs steps one after another; each sees what came before. The head flattens, pools, or gives maps."""

    def __init__(self, spec: Spec, head: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        self.kind = head
        x = self.example()
        earlier = [x]
        with torch.no_grad():
            for name, a, b in spec:
                step = MAKERS[name](x, a, b)
                y = step.eval()(x, earlier)
                if y.shape[1] > 40 or y.shape[2] > 12 or y.shape[1] < 1:
                    continue
                self.steps.append(step)
                x = y
                earlier.append(x)
        pooled = x.shape[1] * (1 if head % 3 == 0 else x.shape[2] * x.shape[3])
        self.head = nn.Linear(pooled, 3) if head % 3 < 2 else nn.Conv2d(x.shape[1], 2, 1)

    @staticmethod
    def example() -> Tensor:
        return torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))

    def forward(self, x: Tensor) -> Tensor:
        earlier = [x]
        for step in self.steps:
            x = step(x, earlier)
            earlier.append(x)
        if self.kind % 3 == 0:
            return self.head(x.mean((2, 3)))
        return self.head(torch.flatten(x, 1) if self.kind % 3 == 1 else x)


numbers = st.integers(0, 11)
specs = st.lists(st.tuples(st.sampled_from(sorted(MAKERS)), numbers, numbers), min_size=2, max_size=9)
