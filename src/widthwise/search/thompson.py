"""Thompson sampling over widths: a search that learns which groups may be narrow."""

from collections.abc import Sequence

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from widthwise.cost.budget import Limits
from widthwise.search.base import Widths
from widthwise.search.breeding import Breeder, offspring
from widthwise.search.widths import project
from widthwise.subnet.space import Space

__all__ = ["ThompsonSampling"]

PARENTS = 8
"""How many of the best so far children descend from."""

POOL = 512
"""Children that the next strategy is chosen from."""

SPREAD = 0.5
"""Standard deviation of the change of a ratio's logarithm."""

NARROWEST = 0.02
"""Ratios below this are drawn no narrower; the logarithm has to end somewhere."""

LEAST_DEVIATION = 0.05
"""Least standard deviation that a feature is divided by. Where a group has been tried at one width, another one is no
more than unknown: without this it would outweigh all other groups."""


class ThompsonSampling(Breeder):
    """Asks for what is best by a guess of the scores that is drawn anew each time, from all guesses they allow (ours).

    The score is taken to be a sum over the groups, each quadratic in the logarithm of its width: that is what a layer
    costs in accuracy, while the budget, which couples them, is known exactly. Bayesian ridge regression
    (Tipping, "Sparse Bayesian learning and the relevance vector machine", 2001; scikit-learn's) gives a distribution of
    such sums after every score. One is drawn from it (Thompson, "On the likelihood that one unknown probability exceeds
    another", 1933), and of many children of the best strategies the one that it likes best is asked for. So what is
    uncertain gets tried, strategies that are asked for together differ, and nothing has to be tuned.

    The first strategies are those of :func:`widthwise.search.first_widths`, then mutations, in all groups, of the best
    one so far. None is asked for twice.

    Args:
        space: the allowed widths.
        limits: the budget.
        first: more strategies to start with.
        start: scores that there must be before the first guess.
        seed: of everything random.
    """

    def __init__(
        self, space: Space, limits: Limits, *, first: Sequence[Widths] = (), start: int = 12, seed: int = 0
    ) -> None:
        super().__init__(space, limits, first, seed)
        self._start = start

    def ask(self) -> Widths:
        """The next strategy."""
        if self._waiting:
            return self._waiting.pop(0)
        if len(self._scores) < self._start:
            chosen = self._children(self._best(1), everywhere=True, count=1)[0]
        else:
            children = self._children(self._best(PARENTS), everywhere=False, count=POOL)
            chosen = children[int(self._guess(children).argmax())]
        self._seen.add(tuple(chosen.tolist()))
        return chosen

    def _children(
        self, parents: Int64[Tensor, "parents groups"], *, everywhere: bool, count: int
    ) -> Int64[Tensor, "children groups"]:
        """New ones of the parents, mutated and scaled onto the budget; up to ``count``."""
        for attempt in range(20):
            ratios = self._mutated(parents, everywhere, count, SPREAD * (1 + attempt / 2))  # wider where all was seen
            children: Tensor = torch.unique(project(self._space, self._limits, ratios), dim=0)
            new = torch.tensor([tuple(row) not in self._seen for row in children.tolist()])
            if bool(new.any()):
                return children[new]
        return children  # a tiny space may be used up: then repeat

    def _mutated(
        self, parents: Int64[Tensor, "parents groups"], everywhere: bool, count: int, spread: float
    ) -> Float64[Tensor, "children groups"]:
        """Ratios of children: of each a few groups are mutated, or nearly all."""
        children = offspring(parents / self._space.full.double(), count, spread, self._generator)
        chance = torch.rand(children.crossed.shape, generator=self._generator)
        mutated = (chance < torch.rand((count, 1), generator=self._generator)) | everywhere
        return torch.where(mutated, children.changed, children.crossed).clamp(NARROWEST, 1)

    def _guess(self, children: Int64[Tensor, "children groups"]) -> Float64[Tensor, "children"]:
        """Scores by one sum that the scores so far allow, up to a constant."""
        from sklearn.linear_model import BayesianRidge  # takes a second, which only this search needs

        known = self._features(torch.stack(self._scored))
        centre, scale = known.mean(0), known.std(0).clamp(min=LEAST_DEVIATION)
        inputs = (known - centre) / scale
        fitted = BayesianRidge().fit(inputs.numpy(), torch.tensor(self._scores, dtype=torch.float64).numpy())
        drawn = _drawn(torch.as_tensor(fitted.coef_), inputs, fitted.alpha_, fitted.lambda_, self._generator)
        guessed: Tensor = ((self._features(children) - centre) / scale) @ drawn
        return guessed

    def _features(self, widths: Int64[Tensor, "n groups"]) -> Float64[Tensor, "n features"]:
        logs = (widths.double() / self._space.full).log()
        return torch.cat([logs, logs.square()], 1)


def _drawn(
    mean: Float64[Tensor, "features"],
    inputs: Float64[Tensor, "n features"],
    alpha: float,
    precision: float,
    generator: torch.Generator,
) -> Float64[Tensor, "features"]:
    """Coefficients drawn from what Bayesian ridge regression leaves open: a normal distribution.

    Its covariance is the inverse of ``precision I + alpha X'X``, which is factorised by Cholesky: eigenvectors would
    do, but where there are more features than scores many eigenvalues are the same, any basis of theirs is right, and
    another machine would draw something else.

    Args:
        mean: of the distribution.
        inputs: X, centred.
        alpha: precision of the noise.
        precision: of the coefficients, before any score.
        generator: the source of everything random.
    """
    factor = torch.linalg.cholesky(precision * torch.eye(len(mean), dtype=torch.float64) + alpha * inputs.mT @ inputs)
    noise = torch.randn(len(mean), 1, generator=generator, dtype=torch.float64)
    drawn: Tensor = mean + torch.linalg.solve_triangular(factor.mT, noise, upper=True).squeeze(1)
    return drawn
