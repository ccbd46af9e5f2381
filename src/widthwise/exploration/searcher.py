"""Exploration and estimation as a searcher: asked for sub-networks, told their scores (Algorithm 1)."""

from collections import deque
from dataclasses import dataclass
from math import isfinite

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from widthwise.channels import Subnet
from widthwise.cost import Limits
from widthwise.errors import NonFiniteLoss, SubnetMismatch
from widthwise.exploration.budget import RandomBudget
from widthwise.exploration.distribution import EDGE, inside, log_likelihood, weigh
from widthwise.exploration.estimate import Estimator
from widthwise.exploration.explore import explored, variance_gradient
from widthwise.exploration.finish import binarised
from widthwise.exploration.samples import Samples
from widthwise.exploration.settings import ExplorationSettings
from widthwise.exploration.surrogate import LinearSurrogate
from widthwise.subnet import Space

__all__ = ["ExplorationEstimation", "StepRecord"]

Probabilities = Float64[Tensor, "channels"]


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What one step did."""

    index: int
    t_alpha: float
    loss: float
    """Mean of its samples."""
    used: float
    """Expected share of the budget after the step."""
    effective: float
    """Effective sample size of the likelihood ratios as they are: 1 where one of the step's samples says all."""
    power: float
    """What they were raised to so that enough samples count, in [0, 1]."""
    samples: int
    undecided: float
    """Share of the channels with a probability between 0.1 and 0.9 after the step."""


class ExplorationEstimation:
    """Finds a keep probability for every channel.

    Deterministic in its seed and in what it is told, so that a log of the scores brings it back to where it was.
    ``settings.samples`` sub-networks may be asked for before the first is told; scores come in the order of the asks.

    Args:
        space: the allowed widths.
        limits: the budget; without one, all channels would stay.
        settings: of Algorithm 1.
        start: probabilities to start from, such as :func:`~widthwise.exploration.by_rank`, brought under ``t_alpha``
            times the budget; as near to 1 as they come (line 1) if not given.
        seed: of all that is drawn.
    """

    def __init__(
        self,
        space: Space,
        limits: Limits,
        settings: ExplorationSettings | None = None,
        *,
        start: Probabilities | None = None,
        seed: int = 0,
    ) -> None:
        self.settings = settings or ExplorationSettings()
        self._space, self._limits = space, limits
        self.budget = RandomBudget(space, limits)
        self._generator = torch.Generator().manual_seed(seed)
        self.p = inside(torch.ones(space.graph.num_channels, dtype=torch.float64))
        """float64 [channels]."""
        if start is not None:
            self.p = self._settled(self.budget.projected(inside(start), self.settings.t_alpha))
        self._t_alpha, self._t_beta = self.settings.t_alpha, self.settings.t_beta
        self._surrogate = LinearSurrogate(len(self.p), self.settings.surrogate)
        self._estimator = Estimator(
            self._surrogate,
            lr=self.settings.lr,
            steps=self.settings.proximal_steps,
            proximity=self.settings.proximity,
            least_effective=self.settings.least_effective,
        )
        self.steps = 0
        """Steps that are over."""
        self.last: StepRecord | None = None
        """What the last one did."""
        self._sets: list[Samples] = []
        self._waiting: deque[Subnet] = deque()
        self._scores: list[float] = []
        self._begin()

    def ask(self) -> Subnet:
        """The next sub-network to score."""
        if not self._waiting:
            raise RuntimeError(f"the scores of the last {self.settings.samples} sub-networks must be told first")
        return self._waiting.popleft()

    def tell(self, subnet: Subnet, score: float) -> None:
        """Its score, higher is better: minus the loss. In the order of the asks.

        Raises:
            SubnetMismatch: it is not the sub-network whose turn it is.
            NonFiniteLoss: the score is not a finite number.
        """
        if not torch.equal(subnet.keep, self._keep[len(self._scores)]):
            raise SubnetMismatch(
                f"Scores are told in the order in which sub-networks were asked for, but that of number "
                f"{len(self._scores)} of this set was told for another one. Keep the order of the asks."
            )
        if not isfinite(score):
            raise NonFiniteLoss(
                f"A score is a finite number, but got {score}; tell a low one for a broken sub-network."
            )
        self._scores.append(score)
        if len(self._scores) < self.settings.samples:
            return
        losses = -torch.tensor(self._scores, dtype=torch.float64)
        self._sets.append(Samples(self._keep, self._drawn_from.expand(len(losses), -1), losses))
        if len(self._sets) <= self.settings.resamplings:
            self._explore()
        else:
            self._estimate()

    def found(self) -> Subnet:
        """Line 18: the sub-network of the channels that are likelier kept than not, fitted to the budget."""
        return binarised(self._space, self._limits, self.p)

    def _begin(self) -> None:
        """Lines 3 to 5."""
        self._sets = []
        self._draw(self.budget.corrected(self.p, self._t_alpha))

    def _explore(self) -> None:
        """Lines 7 to 14."""
        settings, seen = self.settings, Samples.joined(self._sets)
        self._t_alpha = max(settings.decay * self._t_alpha, 1.0)
        self._t_beta *= settings.decay
        power = weigh(log_likelihood(seen.keep, self._place) - seen.log_drawn, settings.least_effective).power

        def energy_gradient(p: Tensor) -> Tensor:
            by_loss = self._surrogate.gradient(seen, p, power=power)
            return by_loss + settings.variance_weight * variance_gradient(self.budget, p, self._t_beta)

        level = min(self._t_alpha, float(self.budget.used(self._place)))
        moved = explored(self._place, energy_gradient, settings.moves, settings.move_size, self._generator)
        self._draw(self.budget.held(moved, level))

    def _estimate(self) -> None:
        """Line 15, and the constraint of equation 2."""
        if not self.settings.resamplings:
            self._t_alpha = max(self.settings.decay * self._t_alpha, 1.0)
        samples = Samples.joined(self._sets)
        p, found = self._estimator.step(self.p, samples, self.budget.prices(self.p))
        self.p = self._settled(self.budget.projected(p, self._t_alpha))
        free = self.p[~self.budget.fixed]
        record = StepRecord(
            index=self.steps,
            t_alpha=self._t_alpha,
            loss=float(samples.losses.mean()),
            used=float(self.budget.used(self.p)),
            effective=found.effective,
            power=found.power,
            samples=len(samples.losses),
            undecided=float(((free > 0.1) & (free < 0.9)).double().mean()),
        )
        self.steps, self.last = self.steps + 1, record
        self._begin()

    def _draw(self, p: Probabilities) -> None:
        """Sub-networks of a distribution; a group that would have too few channels gets its likeliest."""
        self._place = inside(p)
        certain = self.budget.certain(self._place)
        # What is drawn whatever p says counts for nothing when samples are weighed: its ratio of likelihoods is 1.
        self._drawn_from = torch.where(certain, self.p, self._place)
        chances = torch.rand(self.settings.samples, len(p), dtype=torch.float64, generator=self._generator)
        self._keep = self._with_least(chances < torch.where(certain, 1.0, self._place))
        self._waiting = deque(Subnet(row) for row in self._keep)
        self._scores = []

    def _settled(self, p: Probabilities) -> Probabilities:
        """What is always kept stays as likely as can be."""
        return torch.where(self.budget.fixed, 1 - EDGE, p)

    def _with_least(self, keep: Bool[Tensor, "samples channels"]) -> Bool[Tensor, "samples channels"]:
        for group, least in zip(self._space.graph.prunable, self._space.smallest.tolist(), strict=True):
            short = (keep[:, group.ids].sum(1) < least).nonzero().flatten()
            for row in short.tolist():
                likely = torch.where(keep[row, group.ids], 2.0, self._place[group.ids])
                keep[row, group.ids[likely.argsort(descending=True, stable=True)[:least]]] = True
        return keep
