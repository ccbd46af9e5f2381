"""The exact division of a budget over stages: a multiple-choice knapsack along the chain, with the links as states.

Labels (loss and cost of a partial network) are carried from stage to stage. A label is dropped if another one of its
state is no worse in loss and every cost, if even the cheapest rest breaks a limit, or if its bound (see
:mod:`widthwise.search.division.bounds`) lies above a network that is known. All three are exact. Only where more labels
remain than memory should hold are the most promising kept; then the result says by how much it may miss the optimum.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64

from widthwise.errors import InfeasibleBudget
from widthwise.search.base import Widths
from widthwise.search.division.arcs import Arcs, build_arcs, new_groups
from widthwise.search.division.bounds import Bounds, backward, forward, price_bounds
from widthwise.search.division.labels import Path, best_path, look_ahead, priced
from widthwise.search.division.losses import Archive
from widthwise.search.division.problem import StageProblem

__all__ = ["Choice", "regrets", "solve_knapsack"]

BEAM = 1000
"""Labels per stage in the first pass, which looks for a good network only."""

SLACK = 1e-9
"""Rounding of sums, as a share of the losses: what lies so near to a bound is not dropped."""


@dataclass(frozen=True, eq=False)
class Choice:
    """The best network that can be put together from the archives."""

    widths: Widths
    """int64 [groups]."""
    losses: tuple[float, ...]
    """Of each stage."""
    gap: float
    """No combination of the archived genes is better by more than this; 0 where the result is exact."""

    @property
    def loss(self) -> float:
        """The sum over the stages."""
        return sum(self.losses)


def solve_knapsack(problem: StageProblem, archives: list[Archive], *, max_labels: int = 200_000) -> Choice:
    """The smallest sum of losses over all combinations of archived genes within the limits of the whole network.

    Args:
        problem: the stages.
        archives: of each stage, the genes that may be used.
        max_labels: partial networks per stage that are kept at most.

    Raises:
        InfeasibleBudget: no combination meets the limits.
    """
    arcs, limit = build_arcs(problem, archives), problem.limit.numpy()
    bounds = price_bounds(arcs, limit)
    best = None if bounds.path is None else Path.of(arcs, bounds.path)
    dropped = np.inf
    for most in (BEAM, max_labels):
        upper = np.inf if best is None else best.loss + SLACK * sum(map(abs, best.losses))
        arcs = _promising(arcs, limit, bounds, upper)
        found, dropped = best_path(arcs, look_ahead(arcs, limit, bounds, upper), most)
        if found is not None and (best is None or found.loss < best.loss):
            best = found
        if dropped == np.inf:
            break
    if best is None:
        raise InfeasibleBudget(
            f"Some combination of the genes that were looked at must meet {problem.limits.limits}, but none of "
            f"{' x '.join(str(len(a.losses)) for a in archives)} does; look at more genes, the narrowest among them."
        )
    widths = problem.allowed.smallest.clone()
    for stage, (archive, gene, entering) in enumerate(zip(archives, best.genes, best.entering, strict=True)):
        widths[list(new_groups(problem, stage))] = torch.from_numpy(entering)
        widths[list(problem.own[stage])] = archive.genes[gene]
    return Choice(widths, best.losses, max(0.0, best.loss - float(dropped)))


def regrets(problem: StageProblem, archives: list[Archive]) -> list[Float64[np.ndarray, "_"]]:
    """For each archived gene by how much the bound on the best loss rises if the network must have the gene.

    Infinite for a gene that no network within the limits can have, or that others beat. Where the regret is small is
    where better genes are worth most.
    """
    arcs, limit = build_arcs(problem, archives), problem.limit.numpy()
    bounds = price_bounds(arcs, limit)
    result = [np.full(len(archive.losses), np.inf) for archive in archives]
    if np.isfinite(bounds.lower):
        for values, stage, through in zip(result, arcs, _through(arcs, limit, bounds.prices[0]), strict=True):
            np.minimum.at(values, stage.gene, through - bounds.lower)
    return result


def _through(arcs: Sequence[Arcs], limit: np.ndarray, prices: np.ndarray) -> list[Float64[np.ndarray, "_"]]:
    """The bound on the loss of a network that has an arc, for each arc of each stage."""
    return [through - float(prices.sum()) for through in _sums_through(arcs, priced(arcs, limit, prices))]


def _sums_through(arcs: Sequence[Arcs], weights: Sequence[Float64[np.ndarray, "_"]]) -> list[Float64[np.ndarray, "_"]]:
    """The smallest sum of weights of a path that has an arc, for each arc of each stage."""
    before, behind = forward(arcs, weights), backward(arcs, weights)
    return [
        before[index][stage.source] + weight + behind[index + 1][stage.target]
        for index, (stage, weight) in enumerate(zip(arcs, weights, strict=True))
    ]


def _promising(arcs: Sequence[Arcs], limit: np.ndarray, bounds: Bounds, upper: float) -> list[Arcs]:
    """The arcs that may lie in a network within the limits, no worse than ``upper``."""
    kept = [np.ones(len(stage.loss), dtype=bool) for stage in arcs]
    for metric, most in enumerate(limit):
        for mask, least in zip(kept, _sums_through(arcs, [s.cost[:, metric] * 1.0 for s in arcs]), strict=True):
            mask &= least <= most
    for prices in bounds.prices:
        for mask, least in zip(kept, _through(arcs, limit, prices), strict=True):
            mask &= least <= upper
    return [stage.keep(mask) for stage, mask in zip(arcs, kept, strict=True)]
