"""Random search over layer-wise pruning rates (FNNP, section 3)."""

import torch
from torch import Tensor

from widthwise.cost.budget import Limits
from widthwise.search.base import Widths
from widthwise.search.widths import draw_rates
from widthwise.subnet.space import Space

__all__ = ["RandomRates"]


class RandomRates:
    """Independent strategies with rates ``U[0, R]`` that meet the budget; scores do not change what comes next."""

    def __init__(self, space: Space, limits: Limits, *, max_rate: float, seed: int, batch: int = 64) -> None:
        self._space, self._limits = space, limits
        self._max_rate, self._batch = max_rate, batch
        self._generator = torch.Generator().manual_seed(seed)
        self._waiting: list[Tensor] = []

    def ask(self) -> Widths:
        """The next random strategy."""
        if not self._waiting:
            draws = draw_rates(self._space, self._limits, self._max_rate, self._batch, self._generator)
            self._waiting = list(draws.widths)
        return self._waiting.pop(0)

    def tell(self, widths: Widths, score: float) -> None:
        """Nothing is learnt from a score."""
