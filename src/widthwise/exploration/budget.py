"""A budget on random sub-networks: what they cost on average, and probabilities that meet it (equations 3 to 5).

The paper has a chain of layers, where a channel costs its layer's and the next layer's multiply-adds (equation 5).
That is the derivative of the expected cost with respect to the channel's probability, which every traced graph has.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from widthwise.cost import Limits
from widthwise.exploration.distribution import inside
from widthwise.subnet import Space

__all__ = ["RandomBudget"]

_MULTIPLIERS = (-12.0, 12.0)
"""Powers of ten that a multiplier lies between."""

_TRIED, _ROUNDS = 30, 6
"""Multipliers that are looked at side by side, and how often the interval between two of them is looked into."""

Probabilities = Float64[Tensor, "channels"]


class RandomBudget:
    """Limits on the average of sub-networks whose channels are kept at random.

    Args:
        space: whose groups; those of a single allowed width are kept whole, and no other loses more channels than its
            least allowed width lets it.
        limits: macs, params or both. With both, the tightest one counts.
    """

    def __init__(self, space: Space, limits: Limits) -> None:
        graph = space.graph
        self._limits, self._channels, self._count = limits, graph.channels, len(graph.prunable)
        whole = torch.tensor([len(choices) == 1 for choices in space.choices])
        self.fixed = whole[self._channels]
        """bool [channels]: what is always kept."""
        self._floors = [
            (group.ids, least)
            for group, least, all_ in zip(graph.prunable, space.smallest.tolist(), whole.tolist(), strict=True)
            if least > 1 and not all_
        ]
        self._prices = self.prices(self._uniform())

    def certain(self, p: Probabilities) -> Bool[Tensor, "channels"]:
        """What every sub-network keeps: what is fixed, and of a group with a least width so many, the likeliest.

        Only a least width of one channel is left to chance, which nearly always meets it.
        """
        found = self.fixed.clone()
        for ids, least in self._floors:
            found[ids[p.detach()[ids].argsort(descending=True, stable=True)[:least]]] = True
        return found

    def used(self, p: Probabilities) -> Float64[Tensor, ""]:
        """The expected cost as a share of the tightest limit; differentiable."""
        return self._shares(torch.where(self.certain(p), 1.0, p)[None])[0]

    def _shares(self, rows: Float64[Tensor, "population channels"]) -> Float64[Tensor, "population"]:
        """The expected costs of several distributions."""
        means, variances = self._sums(rows), self._sums(rows * (1 - rows))
        cost, limits = self._limits.cost, self._limits.limits
        return torch.stack([cost.expected(metric, means, variances) / limits[metric] for metric in limits]).amax(0)

    def prices(self, p: Probabilities) -> Probabilities:
        """What each channel costs: the derivative of the expected cost with respect to p, generalising equation 5."""
        at = torch.where(self.certain(p), 1.0, p.detach()).requires_grad_()
        with torch.enable_grad():
            (found,) = torch.autograd.grad(self._shares(at[None])[0], at)
        return torch.where(self.fixed, 0.0, found)

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
        return self._meeting(t_alpha, p, lambda mu: p * (ratios * mu).clamp(max=1))

    def projected(self, p: Probabilities, t_alpha: float = 1.0) -> Probabilities:
        """The constraint of equation 2 on p itself: the log-odds of all channels move by one amount, down or up.

        What is dear and what is cheap lose alike: what a channel is worth for its price has been weighed in the
        gradient (`widthwise.exploration.estimate.along`), and moves in proportion to prices, which the KL divergence
        would ask for, empty the dearest groups step by step whatever the losses say. Channels that are certain stay so.
        What is left of a budget is given out, too: nearly every channel lowers the loss. Above it (T_alpha > 1)
        nothing is: that would undo what was learned.
        """
        return p if t_alpha > 1 and float(self.used(p)) <= t_alpha else self._shifted(p, t_alpha)

    def held(self, p: Probabilities, share: float) -> Probabilities:
        """Probabilities that have moved away from a share of the budget: lowered to it by equation 4, or raised."""
        return self.corrected(p, share) if float(self.used(p)) > share else self._shifted(p, share)

    def _shifted(self, p: Probabilities, share: float) -> Probabilities:
        odds = torch.logit(p)
        return self._meeting(share, p, lambda mu: torch.sigmoid(odds + mu.log()))

    def _uniform(self) -> Probabilities:
        """The same probability for all, as high as the budget allows."""
        ones = torch.ones(len(self._channels), dtype=torch.float64)
        return self._meeting(1.0, ones, lambda mu: ones * mu.clamp(max=1))

    def _meeting(self, share: float, p: Probabilities, move: Callable[[Tensor], Tensor]) -> Probabilities:
        """What the largest mu gives that is within the share of the budget.

        Args:
            share: of the budget.
            p: what is moved.
            move: from multipliers ``[many, 1]`` to distributions, which grow with them; it keeps the order in a group.
        """
        certain, (low, high) = self.certain(p), _MULTIPLIERS
        for _ in range(_ROUNDS):
            tried = torch.logspace(low, high, _TRIED + 2, dtype=torch.float64)[:, None]
            within = self._shares(torch.where(certain, 1.0, inside(move(tried)))) <= share
            count = max(1, int(within.sum()))  # the first ones; if none is, the lowest has to do
            low, high = (float(tried[place].log10()) for place in (count - 1, min(count, _TRIED + 1)))
        return inside(move(torch.tensor([[10**low]], dtype=torch.float64)))[0]

    def _sums(self, values: Float64[Tensor, "population channels"]) -> Float64[Tensor, "population groups"]:
        return values.new_zeros(len(values), self._count).index_add(1, self._channels, values)
