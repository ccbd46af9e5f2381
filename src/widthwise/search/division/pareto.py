"""Points that no other one dominates: cheaper in every respect, and not worse."""

from bisect import bisect_right

import numpy as np
from jaxtyping import Float64, Int64

__all__ = ["undominated"]


def undominated(
    keys: Int64[np.ndarray, "points"],
    losses: Float64[np.ndarray, "points"],
    costs: Int64[np.ndarray, "points metrics"],
) -> Int64[np.ndarray, "front"]:
    """The indices of the points that no other point of the same key equals or beats in loss and every cost.

    Of equal points the first stays. One or two costs; ordered by key, then by the first cost.
    """
    order = np.lexsort((losses, *costs.T[::-1], keys))
    if costs.shape[1] == 1:
        front = _falls(keys[order], losses[order])
    else:
        front = _stairs(keys[order].tolist(), costs[order, 1].tolist(), losses[order].tolist())
    return np.asarray(order[front])


def _falls(keys: Int64[np.ndarray, "points"], losses: Float64[np.ndarray, "points"]) -> Int64[np.ndarray, "front"]:
    """Where the loss is below every earlier one of its key."""
    if not len(keys):
        return np.zeros(0, dtype=np.int64)
    rank = np.unique(losses, return_inverse=True)[1].reshape(-1)
    run = np.cumsum(np.diff(keys, prepend=keys[0]) != 0)
    low = np.minimum.accumulate(rank - run * (len(keys) + 1))  # each run starts below all of the last one
    before = np.concatenate([[len(keys) + 1], low[:-1]])
    return np.flatnonzero(low < before)


def _stairs(keys: list[int], costs: list[int], losses: list[float]) -> Int64[np.ndarray, "front"]:
    """Sorted by the first cost, a point must lie below the stairs of second cost and loss of those before it."""
    kept: list[int] = []
    last: int | None = None
    steps: list[int] = []
    levels: list[float] = []
    for index, (key, cost, loss) in enumerate(zip(keys, costs, losses, strict=True)):
        if key != last:
            last, steps, levels = key, [], []
        place = bisect_right(steps, cost)
        if place and levels[place - 1] <= loss:
            continue
        start = place - 1 if place and steps[place - 1] == cost else place
        end = place
        while end < len(levels) and levels[end] >= loss:
            end += 1
        steps[start:end], levels[start:end] = [cost], [loss]
        kept.append(index)
    return np.array(kept, dtype=np.int64)
