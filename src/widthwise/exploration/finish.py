"""From probabilities to a sub-network that meets the budget exactly (Algorithm 1, line 18)."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from widthwise.channels import Subnet
from widthwise.cost import Limits
from widthwise.subnet import Space

__all__ = ["binarised"]


def binarised(space: Space, limits: Limits, p: Float64[Tensor, "channels"]) -> Subnet:
    """The channels with p above 0.5, then fewer or more of them until the budget is met and nothing more fits.

    Over the budget, the steps between allowed widths go in the order of the mean probability of the channels that they
    remove, the lowest first; under it they come back, the highest first.

    Args:
        space: the allowed widths.
        limits: what the sub-network may cost; the narrowest one must.
        p: of each channel.
    """
    ranked = [p[group.ids].sort(descending=True, stable=True).values for group in space.graph.prunable]
    wanted = torch.stack([(row > 0.5).sum() for row in ranked])
    widths = space.snap(wanted[None].double())[0].maximum(space.smallest)
    means = [row.cumsum(0) for row in ranked]

    def mean(group: int, low: int, high: int) -> float:
        """Of the channels between two widths."""
        below = float(means[group][low - 1]) if low else 0.0
        return (float(means[group][high - 1]) - below) / (high - low)

    while not bool(limits.met(widths[None])[0]):
        steps = _neighbours(space, widths, -1)
        group = min(steps, key=lambda g: mean(g, steps[g], int(widths[g])))
        widths[group] = steps[group]
    while True:
        steps = _fitting(limits, widths, _neighbours(space, widths, 1))
        if not steps:
            return space.graph.top(p, widths)
        group = max(steps, key=lambda g: mean(g, int(widths[g]), steps[g]))
        widths[group] = steps[group]


def _neighbours(space: Space, widths: Int64[Tensor, "groups"], way: int) -> dict[int, int]:
    """The next allowed width of each group below (-1) or above (1) its own, where there is one."""
    found = {}
    for group, (choices, width) in enumerate(zip(space.choices, widths, strict=True)):
        place = int(torch.searchsorted(choices, width)) + way
        if 0 <= place < len(choices):
            found[group] = int(choices[place])
    return found


def _fitting(limits: Limits, widths: Int64[Tensor, "groups"], steps: dict[int, int]) -> dict[int, int]:
    """The steps that the budget has room for."""
    rows = widths.repeat(len(steps), 1)
    rows[torch.arange(len(steps)), list(steps)] = torch.tensor(list(steps.values()), dtype=torch.int64)
    return {group: width for (group, width), fits in zip(steps.items(), limits.met(rows).tolist(), strict=True) if fits}
