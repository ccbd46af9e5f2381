"""Lower bounds on the best path through the arcs: prices on the limits turn costs into losses (Lagrange).

With prices p >= 0 per share of a limit, every network within the limits has ``loss >= min(loss + p . cost) - p . 1``,
and that minimum over all paths is one sweep over the arcs. The prices with the highest bound come from cutting planes
(Kelley 1960): each path that was found bounds the dual function from above, a linear programme picks the next prices.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts are imported when they are used first
from jaxtyping import Float64, Int64

from widthwise.search.division.arcs import Arcs

__all__ = ["Bounds", "backward", "forward", "price_bounds"]

ROUNDS = 60
"""Linear programmes at most; a bound holds whatever the prices are, so stopping early costs time only."""

Sweep = list[Float64[np.ndarray, "_"]]
"""A number for each state, before the first stage, between stages, and behind the last."""


def backward(arcs: Sequence[Arcs], weights: Sequence[Float64[np.ndarray, "_"]]) -> Sweep:
    """The smallest sum of weights from each state to the end; infinite where no path leads there."""
    sweep = [np.zeros(1)]
    for stage, weight in zip(reversed(arcs), reversed(weights), strict=True):
        values = np.full(stage.states, np.inf)
        if len(weight):
            starts = np.flatnonzero(np.diff(stage.source, prepend=-1))
            values[stage.source[starts]] = np.minimum.reduceat(weight + sweep[0][stage.target], starts)
        sweep.insert(0, values)
    return sweep


def forward(arcs: Sequence[Arcs], weights: Sequence[Float64[np.ndarray, "_"]]) -> Sweep:
    """The smallest sum of weights from the start to each state."""
    sweep = [np.zeros(1)]
    sizes = [*(stage.states for stage in arcs[1:]), 1]
    for stage, weight, size in zip(arcs, weights, sizes, strict=True):
        values = np.full(size, np.inf)
        order = np.argsort(stage.target, kind="stable")
        if len(order):
            target = stage.target[order]
            starts = np.flatnonzero(np.diff(target, prepend=-1))
            values[target[starts]] = np.minimum.reduceat((weight + sweep[-1][stage.source])[order], starts)
        sweep.append(values)
    return sweep


@dataclass(frozen=True, eq=False)
class Bounds:
    """What the prices say."""

    prices: Float64[np.ndarray, "bounds metrics"]
    """The best prices, the highest bound first; in units of loss per whole limit."""
    lower: float
    """No network within the limits has a smaller loss; infinite where no path reaches the end."""
    path: tuple[int, ...] | None
    """The best path within the limits that turned up on the way, an arc per stage."""
    upper: float
    """Its loss; infinite without one."""


def price_bounds(arcs: Sequence[Arcs], limit: Int64[np.ndarray, "metrics"], keep: int = 3) -> Bounds:
    """The best prices on the limits, and a first path within them."""
    shares = [stage.cost / np.maximum(limit, 1) for stage in arcs]
    spread = sum(float(np.ptp(stage.loss)) if len(stage.loss) else 0.0 for stage in arcs)
    scale = spread if spread > 0 else 1.0
    tried: list[tuple[float, Float64[np.ndarray, metrics]]] = []
    planes: list[tuple[float, Float64[np.ndarray, metrics]]] = []
    best: tuple[int, ...] | None = None
    upper = np.inf
    prices = np.zeros(len(limit))
    for turn in range(ROUNDS):
        weights = [stage.loss + share @ (prices * scale) for stage, share in zip(arcs, shares, strict=True)]
        sweep = backward(arcs, weights)
        bound = float(sweep[0][0]) - float(prices.sum()) * scale
        if not np.isfinite(bound):
            return Bounds(prices[None] * scale, np.inf, None, np.inf)
        tried.append((bound, prices * scale))
        path = _trace(arcs, weights, sweep)
        loss = sum(float(stage.loss[arc]) for stage, arc in zip(arcs, path, strict=True))
        cost = sum(stage.cost[arc] for stage, arc in zip(arcs, path, strict=True))
        if bool((cost <= limit).all()) and loss < upper:
            best, upper = path, loss
        planes.append((loss / scale, cost / np.maximum(limit, 1) - 1))
        prices, ceiling = _next_prices(planes, 10.0 if turn == 0 else 1e4)
        if ceiling * scale <= max(value for value, _ in tried) + 1e-10 * scale:
            break
    tried.sort(key=lambda item: -item[0])
    return Bounds(np.stack([price for _, price in tried[:keep]]), tried[0][0], best, upper)


def _next_prices(
    planes: Sequence[tuple[float, Float64[np.ndarray, "metrics"]]], box: float
) -> tuple[Float64[np.ndarray, "metrics"], float]:
    """The prices in [0, box] at which the lowest plane ``loss + p . excess`` is highest, and how high."""
    excess = np.stack([plane[1] for plane in planes])
    metrics = excess.shape[1]
    rows = np.concatenate([np.ones((len(planes), 1)), -excess], 1)
    bounds = [(None, None)] + [(0.0, box)] * metrics
    found = scipy.optimize.linprog(
        [-1.0] + [0.0] * metrics, rows, [plane[0] for plane in planes], bounds=bounds, method="highs"
    )
    if found.x is None:  # pragma: no cover - the programme has a solution; numbers may spoil it
        return np.zeros(metrics), -np.inf
    return np.maximum(found.x[1:], 0.0), float(found.x[0])


def _trace(arcs: Sequence[Arcs], weights: Sequence[Float64[np.ndarray, "_"]], sweep: Sweep) -> tuple[int, ...]:
    """The path of the smallest sum of weights."""
    state, path = 0, []
    for stage, weight, ahead in zip(arcs, weights, sweep[1:], strict=True):
        start, end = np.searchsorted(stage.source, [state, state + 1])
        arc = int(start) + int((weight[start:end] + ahead[stage.target[start:end]]).argmin())
        path.append(arc)
        state = int(stage.target[arc])
    return tuple(path)
