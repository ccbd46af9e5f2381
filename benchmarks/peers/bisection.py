"""A pruning ratio that meets a budget, for tools that know none: what their users write."""

from collections.abc import Callable

from torch import nn

__all__ = ["bisect"]

Prune = Callable[[float], nn.Module]
"""A new network for a ratio in (0, 1); a larger ratio must not give a larger network."""

Cost = Callable[[nn.Module], int]
"""Of a network."""


# user code
def bisect(prune: Prune, cost: Cost, limit: int, steps: int = 12) -> tuple[nn.Module | None, float]:
    """The largest network within a limit, and its ratio; None where no ratio that was tried meets it.

    Twelve halvings are finer than any layer here has channels.
    """
    low, high, best = 0.0, 1.0, None
    for _ in range(steps):
        ratio = (low + high) / 2
        network = prune(ratio)
        if cost(network) > limit:
            low = ratio
        else:
            high, best = ratio, network
    return best, high


# end of user code
