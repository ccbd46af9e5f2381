"""Steps position by position: activations, scales, masks, gates; reductions, orders; what looks at its own width."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from random_networks.step import Maker, Run, Site, Step, free, just, pick

__all__ = ["POINTWISE"]


def _act(site: Site, a: int, b: int) -> Step:
    c = site.channels
    layers = (nn.PReLU(c), nn.PReLU(), nn.Hardswish(inplace=True), nn.GELU(), nn.Softplus(), nn.ReLU6(), nn.ELU())
    layers += (nn.Mish(), nn.SiLU(inplace=True), nn.Hardtanh(-1, 2), nn.LeakyReLU(0.1), nn.Threshold(0.1, 0.2))
    return Step(lambda s, x, e: s.act(x.clone()), act=pick(layers, a))


def _scale(site: Site, a: int, b: int) -> Step:
    """Layer scale and constants per channel, in the ways they are shaped."""
    c = site.channels
    kinds: tuple[Run, ...] = (
        lambda s, x, e: x * s.gamma,
        lambda s, x, e: x * s.constant + s.gamma,
        lambda s, x, e: x.clone().mul_(s.gamma),
        lambda s, x, e: torch.where(s.constant > 0, x, x * s.gamma),
        lambda s, x, e: x.mul(s.flat.reshape(1, -1, 1, 1)),
        lambda s, x, e: (x.movedim(1, -1) * s.flat).movedim(-1, 1),
        lambda s, x, e: torch.addcmul(x, x, s.gamma, value=0.5),
        lambda s, x, e: torch.lerp(x, -x, s.gamma),
        lambda s, x, e: x * F.softplus(s.flat)[:, None, None] + s.flat.exp().view(1, -1, 1, 1),
        lambda s, x, e: x * s.flat[None, :, None, None].expand_as(x),
        lambda s, x, e: x * s.flat.softmax(0)[:, None, None],
        lambda s, x, e: x + s.flat.cumsum(0)[:, None, None],
    )
    return Step(pick(kinds, a), gamma=free(c, 1, 1), flat=free(c), constant=torch.randn(c, 1, 1))


def _mask(site: Site, a: int, b: int) -> Step:
    """Boolean masks: fixed, per channel, or out of the values."""
    c = site.channels
    kinds: tuple[Run, ...] = (
        lambda s, x, e: x.masked_fill(s.spots, 0.0),
        lambda s, x, e: x * (x > 0),
        lambda s, x, e: torch.where(x > s.gamma, x, torch.zeros_like(x)),
        lambda s, x, e: x[:, s.chosen],
        lambda s, x, e: x * s.chosen[:, None, None],
        lambda s, x, e: x.clone().masked_fill_(x.abs() < 0.1, 0.5),
        lambda s, x, e: x.masked_fill((x > 0).all(1, keepdim=True), 0.1),
        lambda s, x, e: x.masked_fill((x > 1).any(1, keepdim=True), 0.1),
        lambda s, x, e: x.new_zeros(x.shape).masked_scatter(x > 0, x),
        lambda s, x, e: x * torch.ones(x.shape[-2:], dtype=x.dtype).tril(1),
        lambda s, x, e: x * torch.triu(torch.ones_like(x[0, 0])),
        lambda s, x, e: x.tril() if b % 2 else x.triu(),
    )
    chosen = torch.arange(c) % 3 != 1
    return Step(pick(kinds, a), gamma=free(c, 1, 1), spots=torch.rand(site.space) > 0.7, chosen=chosen)


def _dropout(site: Site, a: int, b: int) -> Step:
    """No more than itself in evaluation; in training the other way round of a random branch."""
    kinds: tuple[Run, ...] = (
        lambda s, x, e: s.drop(x),
        lambda s, x, e: F.dropout2d(x, 0.3, s.training),
        lambda s, x, e: torch.native_dropout(x, 0.3, s.training)[0],
        lambda s, x, e: x * x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(0.9).div_(0.9) if s.training else x,
        lambda s, x, e: F.feature_alpha_dropout(x, 0.2, s.training),
    )
    return Step(pick(kinds, a), drop=nn.Dropout(0.4))


def _glu(site: Site, a: int, b: int) -> Step:
    """One half of the channels gates the other."""
    c = site.channels

    def halves(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        first, second = s.conv(x).chunk(2, dim=1)
        return first * second.sigmoid()

    def after_norm(s: Step, x: Tensor, e: list[Tensor]) -> Tensor:
        return F.glu(s.norm(s.conv(x)), dim=1)

    kinds: tuple[Run, ...] = (
        lambda s, x, e: F.glu(s.conv(x), 1),
        lambda s, x, e: F.glu(s.conv(x).movedim(1, -1)).movedim(-1, 1),
        halves,
        after_norm,
        lambda s, x, e: F.glu(x, 1) if c % 2 == 0 else F.glu(s.conv(x), 1),
    )
    out = 2 * (3 + b % 3)
    return Step(pick(kinds, a), conv=nn.Conv2d(c, out, 1), norm=nn.BatchNorm2d(out))


_REDUCERS: tuple[Callable[..., Tensor], ...] = (
    lambda x, d: x.mean(d, keepdim=True),
    lambda x, d: x.sum(d, keepdim=True),
    lambda x, d: x.amax(d, keepdim=True),
    lambda x, d: x.amin(d, keepdim=True),
    lambda x, d: torch.var(x, d, correction=0, keepdim=True),
    lambda x, d: torch.std(x, d, correction=0, keepdim=True),
    lambda x, d: torch.var_mean(x, d, correction=0, keepdim=True)[0],
    lambda x, d: torch.std_mean(x, d, correction=0, keepdim=True)[1],
    lambda x, d: torch.linalg.vector_norm(x, 2, d, keepdim=True),
    lambda x, d: torch.ops.aten.norm(x, 2, list(d), True),
    lambda x, d: torch.logsumexp(x, d, keepdim=True),
    lambda x, d: torch.any(x > 1, d, keepdim=True).to(x.dtype),
    lambda x, d: torch.all(x > -1, d, keepdim=True).to(x.dtype),
    lambda x, d: x.max(d[0], keepdim=True)[0],
    lambda x, d: x.min(d[0], keepdim=True).values,
    lambda x, d: x.prod(d[0], keepdim=True),
    lambda x, d: x.argmax(d[0], keepdim=True).to(x.dtype),
    lambda x, d: x.argmin(d[0], keepdim=True).to(x.dtype),
    lambda x, d: torch.aminmax(x, dim=d[0], keepdim=True).max,
    lambda x, d: torch.aminmax(x, dim=d[0], keepdim=True).min,
    lambda x, d: x.median(d[0], keepdim=True).values,
    lambda x, d: x.max() + x.min(),
    lambda x, d: x.mean(),
    lambda x, d: x.argmax() * x.new_ones(1) * 0.01,
)


def _reduced(site: Site, a: int, b: int) -> Step:
    """A statistic over space, over channels or over the batch scales the map; without the dimension for some."""
    reducer = pick(_REDUCERS, a + 12 * (b % 2))
    dims = pick(((2, 3), (2, 3), (1, 2), (3, 2), (0, 1)), b // 2)
    return just(lambda x: x * (reducer(x, dims) * 0.5).tanh() + x)


def _ordered(site: Site, a: int, b: int) -> Step:
    """Sums and products so far, sorted values, the largest few."""
    c, k = site.channels, max(1, site.channels // 2)
    dim = 1 if b % 3 else 3
    kinds: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda x: torch.cumsum(x, dim),
        lambda x: torch.cumprod(x, dim),
        lambda x: x.sort(dim).values,
        lambda x: x.argsort(dim).to(x.dtype) * x,
        lambda x: x.topk(k, 1).values,
        lambda x: x * (x >= x.topk(k, 1).values[:, -1:]),
        lambda x: x * (x >= x.topk(max(1, x.shape[1] // 2), 1)[0][:, -1:]),
        lambda x: x.topk(1, dim)[0] + x,
        lambda x: x.kthvalue(1, dim, keepdim=True).values + x,
        lambda x: F.one_hot(x.argmax(1), c).movedim(-1, 1).to(x.dtype) * x,
        lambda x: x.gather(1, x.argmax(1, keepdim=True)) + x,
        lambda x: torch.cummax(x, dim).values,
    )
    return just(pick(kinds, a))


def _width(site: Site, a: int, b: int) -> Step:
    """Numbers that come out of the width, of now or of the time of construction."""
    c = site.channels
    kinds: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda x: x / x.shape[1] ** 0.5,
        lambda x: x * 2 if c > 3 else x,
        lambda x: x + torch.linspace(0, 1, x.shape[1], dtype=x.dtype)[:, None, None],
        lambda x: F.pad(x, (0, 0, 0, 0, 0, max(0, 16 - x.shape[1]))),
        lambda x: torch.maximum(x, x.amax((2, 3), keepdim=True) * 0.3),
        lambda x: x * torch.arange(1, x.shape[1] + 1)[:, None, None],
        lambda x: x * torch.full((c, 1, 1), 0.5, dtype=x.dtype),
        lambda x: x + torch.eye(c, dtype=x.dtype)[0][:, None, None],
        lambda x: x * x.new_tensor([0.5 + i for i in range(c)])[:, None, None],
        lambda x: x.mean(1, keepdim=True).expand_as(x) + x,
        lambda x: x + x.numel() / x.shape[0],
        lambda x: x[:, torch.randperm(c, generator=torch.Generator().manual_seed(0))],
    )
    return just(pick(kinds, a))


def _escaped(site: Site, a: int, b: int) -> Step:
    """Numbers that leave PyTorch and come back: labels cannot follow them."""
    kinds: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda x: x * float(x.detach().mean()),
        lambda x: x * x.detach().abs().max().item(),
        lambda x: x * torch.tensor(x.detach().mean((2, 3)).tolist(), dtype=x.dtype)[:, :, None, None],
        lambda x: torch.from_numpy(x.detach().numpy().copy()) + 1,
        lambda x: x + float(x.detach().numpy().std()),
        lambda x: torch.vmap(lambda t: t.relu() * 2)(x),
        lambda x: torch.vmap(lambda t: t - t.mean(), in_dims=1, out_dims=1)(x),
        lambda x: checkpoint(lambda t: t.sigmoid() * t, x, use_reentrant=False),
    )
    return just(pick(kinds, a))


def _coincidence(site: Site, a: int, b: int) -> Step:
    """An attribute that is as large as the width, and has nothing to do with it; a view, behind which it could have."""
    c = site.channels
    kinds: tuple[Run, ...] = (
        lambda s, x, e: x.clamp(-s.number, s.number),
        lambda s, x, e: torch.where(x < s.number, x, x * 0.5),
        lambda s, x, e: x.roll(s.number, 3),
        lambda s, x, e: x * s.number,
        lambda s, x, e: F.adaptive_avg_pool2d(x, s.number),
        lambda s, x, e: x.flatten(2).topk(min(s.number, x.shape[2] * x.shape[3]), 2).values.sum(2)[..., None, None] + x,
    )
    kind = pick(kinds, a)
    return Step(lambda s, x, e: kind(s, x.view(x.shape[0], -1, x[0, 0].numel()).view(x.shape), e), number=c)


def _stateful(site: Site, a: int, b: int) -> Step:
    """Lists of scales that are summed, a gate held in one number, an exponential of a parameter."""
    c = site.channels
    kinds: tuple[Run, ...] = (
        lambda s, x, e: sum((scale * x for scale in s.scales), torch.zeros_like(x)),
        lambda s, x, e: x + s.alpha.tanh() * s.conv(x),
        lambda s, x, e: x * s.power[:, None, None].exp(),
        lambda s, x, e: torch.einsum("c,nchw->nchw", s.power, x).clamp(-3, 3),
    )
    scales = nn.ParameterList([free(c, 1, 1), free(1)])
    return Step(pick(kinds, a), scales=scales, alpha=free(1), power=free(c), conv=nn.Conv2d(c, c, 3, padding=1))


POINTWISE: dict[str, Maker] = {
    "act": _act,
    "scale": _scale,
    "mask": _mask,
    "dropout": _dropout,
    "glu": _glu,
    "reduced": _reduced,
    "ordered": _ordered,
    "width": _width,
    "escaped": _escaped,
    "coincidence": _coincidence,
    "stateful": _stateful,
}
