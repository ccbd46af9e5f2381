"""One step of a random network: modules made for the present width, and a function that uses them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["Maker", "Run", "Site", "Step", "divisor", "free", "just", "maps", "pick", "tokens"]

Run = Callable[[Any, Tensor, list[Tensor]], Tensor]
"""``(step, x, earlier) -> x``; ``x`` is [N, C, H, W], ``earlier`` are all maps before it, the image first."""

T = TypeVar("T")


@dataclass(frozen=True)
class Site:
    """Where a step is built: the maps that it will read, and those before."""

    x: Tensor
    earlier: list[Tensor]

    @property
    def channels(self) -> int:
        return self.x.shape[1]

    @property
    def space(self) -> tuple[int, int]:
        return self.x.shape[2], self.x.shape[3]

    @property
    def area(self) -> int:
        return self.x.shape[2] * self.x.shape[3]


class Step(nn.Module):
    """Modules, parameters, buffers (plain tensors) and sizes as attributes, and the function that uses them."""

    def __init__(self, run: Run, **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x: Tensor, earlier: list[Tensor]) -> Tensor:
        return self.run(self, x, earlier)


Maker = Callable[[Site, int, int], Step]
"""A step for a site; the two numbers (0 to 11) choose among its variants."""


def just(function: Callable[[Tensor], Tensor]) -> Step:
    """A step without tensors of its own."""
    return Step(lambda s, x, e: function(x))


def pick(kinds: Sequence[T], number: int) -> T:
    """One of the variants."""
    return kinds[number % len(kinds)]


def divisor(size: int, number: int) -> int:
    """4, 3 or 2 if it divides the size; otherwise 1."""
    return next((d for d in (4, 3, 2)[number % 3 :] if size % d == 0), 1)


def free(*shape: int) -> nn.Parameter:
    """A parameter that belongs to no layer."""
    return nn.Parameter(torch.rand(shape) + 0.5)


def tokens(x: Tensor) -> Tensor:
    """[N, C, H, W] to [N, H * W, C]."""
    return x.flatten(2).transpose(1, 2)


def maps(x: Tensor, like: Tensor) -> Tensor:
    """[N, H * W, C] to [N, C, H, W]."""
    return x.transpose(1, 2).reshape(like.shape[0], -1, like.shape[2], like.shape[3])
