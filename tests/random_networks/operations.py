"""Steps that call what few forwards say outright, so that every rule of the tracer has somebody who needs it."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from random_networks.step import Maker, Site, Step, divisor, just, pick

__all__ = ["OPERATIONS"]

Kind = Callable[[Tensor], Tensor]

aten = torch.ops.aten

_COPIES: tuple[Kind, ...] = (
    lambda x: aten.alias(x) + x.detach(),
    lambda x: x.to(torch.float32).to(x.dtype),
    lambda x: x.contiguous(memory_format=torch.channels_last).relu(),
    lambda x: torch.ops.aten.lift(x) * torch.tensor(0.5, dtype=x.dtype),
    lambda x: aten.lift_fresh_copy(x),
    lambda x: aten.lift_fresh(x) * 1,
    lambda x: torch.view_as_real(torch.complex(x, x * 2)).sum(-1),
    lambda x: aten.view_as_real_copy(x.to(torch.complex128)).mean(-1).to(x.dtype),
    lambda x: torch.empty_like(x).copy_(x),
    lambda x: x.clone().copy_(x * 2),
    lambda x: aten.copy(torch.zeros_like(x), x),
    lambda x: aten._safe_softmax(x, 3),
)
"""Another tensor of the same numbers."""

_FILLED: tuple[Kind, ...] = (
    lambda x: x + torch.zeros_like(x),
    lambda x: x * torch.ones_like(x),
    lambda x: x * torch.full_like(x, 0.5),
    lambda x: x + torch.rand_like(x) * 0,
    lambda x: x + torch.randn_like(x) * 0,
    lambda x: x + torch.bernoulli(x.sigmoid()) * 0,
    lambda x: x + x.clone().bernoulli_(0.5) * 0,
    lambda x: x + x.clone().zero_(),
    lambda x: x + torch.zeros_like(x).fill_(0.3),
    lambda x: x + torch.zeros_like(x).uniform_() * 0,
    lambda x: x + torch.zeros_like(x).normal_() * 0,
    lambda x: x * x.new_full((1,), 0.5) + x.new_zeros(x.shape) + x.new_ones(x.shape[-2:]),
    lambda x: x + torch.zeros(x.shape, dtype=x.dtype) + torch.ones(1, dtype=x.dtype),
    lambda x: x + x.new_empty(x.shape).zero_(),
    lambda x: x + torch.empty(x.shape[1:], dtype=x.dtype).fill_(1),
    lambda x: x + torch.full((1, 1, *x.shape[2:]), 2.0, dtype=x.dtype),
    lambda x: x + torch.rand(1, 1, *x.shape[2:], dtype=x.dtype) * 0 + torch.randn(1, dtype=x.dtype) * 0,
    lambda x: x * aten.scalar_tensor(0.5, dtype=x.dtype),
    lambda x: x * 2 if aten.is_same_size(x, x) else x,
)
"""Together with a tensor made on the spot; random ones times zero, as the numbers would follow the shape."""

_VIEWS: tuple[Kind, ...] = (
    lambda x: torch.view_copy(x, (x.shape[0], -1, x.shape[2] * x.shape[3])).unflatten(2, x.shape[2:]),
    lambda x: torch.permute_copy(torch.permute_copy(x, (0, 2, 3, 1)), (0, 3, 1, 2)),
    lambda x: torch.transpose_copy(torch.transpose_copy(x, 1, 2), 1, 2),
    lambda x: x.clone().transpose_(1, 3).transpose_(1, 3),
    lambda x: x.clone().flatten(1).t_().t_().view(x.shape),
    lambda x: x.flatten(1).t().t().view(x.shape),
    lambda x: x.clone().unsqueeze_(1).squeeze_(1),
    lambda x: torch.expand_copy(x[:, :, :1], x.shape) + x,
    lambda x: aten._reshape_alias(x.contiguous(), x.shape, x.contiguous().stride()) * 1,
    lambda x: aten._unsafe_view(x.contiguous(), (x.shape[0], -1, x.shape[2] * x.shape[3])).view(x.shape),
    lambda x: torch.cat(torch.unsafe_chunk(x, 2, 1)[::-1], 1),
    lambda x: torch.cat([*aten.unsafe_split(x, max(1, x.shape[1] // 2), 1)][::-1], 1),
    lambda x: aten.native_channel_shuffle(x, divisor(x.shape[1], 0)),
    lambda x: torch.atleast_3d(x.unsqueeze(0)[0]).view(x.shape),
    lambda x: torch.narrow_copy(x, 2, 0, x.shape[2]) * 2,
    lambda x: torch.narrow_copy(x, 1, 0, max(1, x.shape[1] // 2)),
)
"""The same numbers in another place, and back."""


_NUMBERS: tuple[Kind, ...] = (
    lambda x: torch.view_as_complex(torch.stack([x, -x], -1)).abs(),
    lambda x: torch.view_as_real(torch.complex(x, x * 2).conj().resolve_conj()).sum(-1),
    lambda x: torch.polar(x.abs(), x).real,
    lambda x: torch.fft.ifft2(torch.fft.fft2(torch.complex(x, x)) * 0.5).imag,
    lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=2), n=x.shape[2], dim=2),
    lambda x: torch.fft.fft(x, dim=1).real,
    lambda x: F.rrelu(x, 0.1, 0.2),
    lambda x: F.logsigmoid(x),
    lambda x: torch.renorm(x, 2, 1, 1.5),
    lambda x: torch.renorm(x, 2, 2, 1.5),
    lambda x: torch.logcumsumexp(x, 3),
    lambda x: x.cummin(2).values + x.cummax(3).values,
    lambda x: x.nanmedian(3, keepdim=True).values + x,
    lambda x: x.mode(2, keepdim=True).values * x,
    lambda x: x.kthvalue(1, 2, keepdim=True).values + x.median(3, keepdim=True).values,
    lambda x: x * x.nansum((2, 3), keepdim=True).tanh(),
    lambda x: x * x.count_nonzero((2, 3))[..., None, None],
    lambda x: x.roll(1) + x,
    lambda x: x.roll((1, 1), (2, 3)) + x.median() * 0.1,
    lambda x: torch.cat(torch.unsafe_split_with_sizes(x, [1, x.shape[2] - 1], 2)[::-1], 2) if x.shape[2] > 1 else x,
)
"""Complex numbers, spectra, order statistics, and what else is rare."""


def _of(kinds: tuple[Kind, ...]) -> Maker:
    def make(site: Site, a: int, b: int) -> Step:
        return just(pick(kinds, a + 12 * (b % 2)))

    return make


OPERATIONS: dict[str, Maker] = {
    "copies": _of(_COPIES),
    "filled": _of(_FILLED),
    "views": _of(_VIEWS),
    "numbers": _of(_NUMBERS),
}
