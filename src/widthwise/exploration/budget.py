"""A budget on random sub-networks: what they cost on average, and probabilities that meet it (equations 3 to 5).

The paper has a chain of layers, where a channel costs its layer's and the next layer's multiply-adds (equation 5).
That is the derivative of the expected cost with respect to the channel's probability, which every traced graph has.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from widthwise.cost import Limits
from widthwise.exploration.distribution import EDGE, inside
from widthwise.subnet import Space

__all__ = ["RandomBudget"]

_HALVINGS = 32
"""Of the interval in which a multiplier lies."""

Probabilities = Float64[Tensor, "channels"]


class RandomBudget:
    """Limits on the average of sub-networks whose channels are kept at random.

    Args:
        space: whose groups; those of a single allowed width are kept whole.
        limits: macs, params or both. With both, the tightest one counts.
    """

    def __init__(self, space: Space, limits: Limits) -> None:
        graph = space.graph
        self._limits, self._channels, self._count = limits, graph.channels, len(graph.prunable)
        whole = torch.tensor([len(choices) == 1 for choices in space.choices])
        self.fixed = whole[self._channels]
        """bool [channels]: what is always kept."""
        self._prices = self.prices(self._uniform())

    def used(self, p: Probabilities) -> Float64[Tensor, ""]:
        """The expected cost as a share of the tightest limit; differentiable."""
        p = torch.where(self.fixed, 1.0, p)
        means, variances = (self._sums(values)[None] for values in (p, p * (1 - p)))
        cost = self._limits.cost
        shares = [cost.expected(metric, means, variances)[0] / limit for metric, limit in self._limits.limits.items()]
        return torch.stack(shares).amax()

    def prices(self, p: Probabilities) -> Probabilities:
        """What each channel costs: the derivative of the expected cost with respect to p, generalising equation 5."""
        at = p.detach().clone().requires_grad_()
        with torch.enable_grad():
            (found,) = torch.autograd.grad(self.used(at), at)
        return found

    def corrected(self, p: Probabilities, t_alpha: float = 1.0) -> Probabilities:
        """Equation 4: probabilities lowered until a sample costs T_alpha times the budget on average, if it costs more.

        Each is multiplied by ``min(mu g(b) / g(p), 1)``, where g is the price of a channel: the printed fraction is
        the wrong way round (it would lower what is cheap already). The factor mu makes the average exact; in the paper
        it is T_alpha, which overshoots, because each layer's cost falls with its inputs and its outputs.
        """
        if float(self.used(p)) <= t_alpha:
            return p
        ratios = torch.where(self.fixed, torch.inf, self._prices / self.prices(p).clamp(min=1e-30))
        ratios = torch.where(self._prices <= 0, torch.inf, ratios)
        return self._meeting(t_alpha, lambda mu: p * (ratios * mu).clamp(max=1))

    def projected(self, p: Probabilities, t_alpha: float = 1.0) -> Probabilities:
        """The constraint of equation 2 on p itself: the nearest distribution that costs T_alpha times the budget.

        Nearest by the KL divergence, with the cost linearised: each log-odds moves in proportion to the channel's
        price, so channels that are certain stay so. What is left of a budget is given out, too: nearly every channel
        lowers the loss.
        """
        prices = self.prices(p)
        odds = torch.logit(p)
        scale = prices.max().clamp(min=1e-30)
        return self._meeting(t_alpha, lambda mu: torch.sigmoid(odds + mu.log() * prices / scale))

    def _meeting(self, share: float, move: Callable[[Tensor], Tensor]) -> Probabilities:
        """What the largest mu gives that is within the share of the budget; it grows with mu."""
        low, high = (torch.tensor(end, dtype=torch.float64) for end in (1e-12, 1e12))
        for _ in range(_HALVINGS):
            middle = (low * high).sqrt()
            low, high = (middle, high) if float(self.used(inside(move(middle)))) <= share else (low, middle)
        return inside(move(low))

    def _uniform(self) -> Probabilities:
        """The same probability for all, as high as the budget allows."""
        ones = torch.ones(len(self._channels), dtype=torch.float64)
        low, high = EDGE, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if float(self.used(ones * middle)) <= 1 else (low, middle)
        return ones * low

    def _sums(self, values: Probabilities) -> Float64[Tensor, "groups"]:
        return values.new_zeros(self._count).index_add(0, self._channels, values)
