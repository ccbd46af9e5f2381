"""Partial networks carried from stage to stage: the search of the knapsack, with what may be dropped on the way."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from widthwise.search.division.arcs import Arcs, runs
from widthwise.search.division.bounds import Bounds, backward
from widthwise.search.division.pareto import undominated

__all__ = ["Path", "best_path", "look_ahead", "priced"]

PAIRS = 1 << 20
"""Labels times arcs that are joined at once."""


@dataclass(frozen=True, eq=False)
class Path:
    """A whole network: a gene for each stage."""

    genes: tuple[int, ...]
    entering: tuple[Int64[np.ndarray, "_"], ...]
    losses: tuple[float, ...]

    @property
    def loss(self) -> float:
        """The sum over the stages."""
        return sum(self.losses)

    @classmethod
    def of(cls, arcs: Sequence[Arcs], path: Sequence[int]) -> "Path":
        """The path with one arc of each stage."""
        pairs = list(zip(arcs, path, strict=True))
        return cls(
            tuple(int(stage.gene[arc]) for stage, arc in pairs),
            tuple(stage.entering[arc] for stage, arc in pairs),
            tuple(float(stage.loss[arc]) for stage, arc in pairs),
        )


@dataclass(frozen=True, eq=False)
class _Labels:
    """Partial networks that end in the states behind a stage; sorted by state."""

    state: Int64[np.ndarray, "labels"]
    loss: Float64[np.ndarray, "labels"]
    cost: Int64[np.ndarray, "labels metrics"]
    parent: Int64[np.ndarray, "labels"]
    """Which label of the stage before."""
    arc: Int64[np.ndarray, "labels"]

    def keep(self, chosen: np.ndarray) -> "_Labels":
        return _Labels(*(x[chosen] for x in (self.state, self.loss, self.cost, self.parent, self.arc)))


@dataclass(frozen=True, eq=False)
class Ahead:
    """What the rest of the network takes at least, from each state before and behind each stage."""

    limit: Int64[np.ndarray, "metrics"]
    cost: list[Float64[np.ndarray, "_ metrics"]]
    prices: Float64[np.ndarray, "bounds metrics"]
    priced: list[Float64[np.ndarray, "bounds _"]]
    """The smallest sum of loss and priced cost, less the priced limits, for each of the best prices."""
    upper: float
    """The loss of a network that is known, and a little more."""

    def bound(self, stage: int, state: np.ndarray, loss: np.ndarray, cost: np.ndarray) -> Float64[np.ndarray, "labels"]:
        """No network within the limits that goes on from such a label has a smaller loss."""
        prices = self.prices / np.maximum(self.limit, 1)
        return np.asarray((loss + prices @ cost.T + self.priced[stage][:, state]).max(0))

    def hopeful(self, stage: int, state: np.ndarray, loss: np.ndarray, cost: np.ndarray) -> Bool[np.ndarray, "labels"]:
        """Which labels may still become the best network."""
        fits = (cost + self.cost[stage][state] <= self.limit).all(1)
        return np.asarray(fits & (self.bound(stage, state, loss, cost) <= self.upper))


def priced(arcs: Sequence[Arcs], limit: np.ndarray, prices: np.ndarray) -> list[Float64[np.ndarray, "_"]]:
    """Loss plus priced cost of each arc."""
    return [stage.loss + stage.cost @ (prices / np.maximum(limit, 1)) for stage in arcs]


def look_ahead(arcs: Sequence[Arcs], limit: np.ndarray, bounds: Bounds, upper: float) -> Ahead:
    """What is known of the rest of the network at each place."""
    costs = [backward(arcs, [stage.cost[:, m] * 1.0 for stage in arcs]) for m in range(len(limit))]
    sweeps = [backward(arcs, priced(arcs, limit, prices)) for prices in bounds.prices]
    paid = bounds.prices.sum(1)[:, None]
    return Ahead(
        limit=limit,
        cost=[np.stack(values, 1) for values in zip(*costs, strict=True)],
        prices=bounds.prices,
        priced=[np.stack(values) - paid for values in zip(*sweeps, strict=True)],
        upper=upper,
    )


def best_path(arcs: Sequence[Arcs], ahead: Ahead, most: int) -> tuple[Path | None, float]:
    """The best path that at most so many labels per stage can find, and a bound on the loss of any that was lost."""
    none = np.zeros(1, dtype=np.int64)
    labels = _Labels(none, np.zeros(1), np.zeros((1, len(ahead.limit)), dtype=np.int64), none, none)
    history: list[_Labels] = []
    dropped = np.inf
    for index, stage in enumerate(arcs):
        labels = _extend(labels, stage, index + 1, ahead)
        if len(labels.loss) > most:
            bound = ahead.bound(index + 1, labels.state, labels.loss, labels.cost)
            kept = _most_promising(labels, bound, ahead.limit, most)
            dropped = min(dropped, float(bound[~kept].min(initial=np.inf)))
            labels = labels.keep(kept)
        history.append(labels)
    if not len(labels.loss):
        return None, dropped
    label, path = int(labels.loss.argmin()), []
    for labels in reversed(history):
        path.append(int(labels.arc[label]))
        label = int(labels.parent[label])
    return Path.of(arcs, path[::-1]), dropped


def _extend(labels: _Labels, stage: Arcs, index: int, ahead: Ahead) -> _Labels:
    """Every label with every arc from its state, as far as they are hopeful and not dominated."""
    if not len(labels.loss):
        return labels
    starts = np.searchsorted(stage.source, labels.state, side="left")
    counts = np.searchsorted(stage.source, labels.state, side="right") - starts
    chunk = np.cumsum(counts) // PAIRS
    parts: list[_Labels] = []
    for number in np.unique(chunk):
        rows = np.flatnonzero(chunk == number)
        parent, arc = runs(starts[rows], counts[rows])
        parent = rows[parent]
        loss, cost = labels.loss[parent] + stage.loss[arc], labels.cost[parent] + stage.cost[arc]
        made = _Labels(stage.target[arc], loss, cost, parent, arc)
        parts.append(_front(made.keep(ahead.hopeful(index, made.state, made.loss, made.cost))))
    return _front(_joined(parts)) if len(parts) != 1 else parts[0]


def _joined(parts: Sequence[_Labels]) -> _Labels:
    columns = zip(*((p.state, p.loss, p.cost, p.parent, p.arc) for p in parts), strict=True)
    return _Labels(*(np.concatenate(column) for column in columns))


def _front(labels: _Labels) -> _Labels:
    return labels.keep(undominated(labels.state, labels.loss, labels.cost))


def _most_promising(
    labels: _Labels, bound: Float64[np.ndarray, "labels"], limit: np.ndarray, most: int
) -> Bool[np.ndarray, "labels"]:
    """The labels of the lowest bounds, and the cheapest of each state, which can be finished if any can."""
    kept = np.zeros(len(bound), dtype=bool)
    kept[np.argsort(bound, kind="stable")[:most]] = True
    share = (labels.cost / np.maximum(limit, 1)).sum(1)
    order = np.lexsort((share, labels.state))
    kept[order[np.flatnonzero(np.diff(labels.state[order], prepend=-1))]] = True
    return kept
