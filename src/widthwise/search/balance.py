"""Widths from scores of channels: no search, but the layers are weighed against each other."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from widthwise.cost.budget import Limits
from widthwise.search.widths import fill
from widthwise.subnet.space import Space

__all__ = ["balanced_widths"]

ROUNDS = 20
"""Steps from the full network down to the budget. What a channel costs depends on how wide other layers still are, so
prices are asked for anew at each."""

STEP = 0.9
"""Share of a group's channels that remain where the price of those that go is asked for."""


def balanced_widths(space: Space, limits: Limits, scores: Float64[Tensor, "channels"]) -> Int64[Tensor, "groups"]:
    """The widths at which every layer's next channel is worth the same for what it costs (ours).

    Channels go in the order of score per share of the tightest limit that they use. If what a strategy loses is the
    sum of the scores of its removed channels, and prices did not change, nothing would lose less under the budget.

    Args:
        space: the allowed widths.
        limits: the budget.
        scores: of every channel, at least 0, comparable between layers (:func:`widthwise.evaluate.sensitivity`).
    """
    ordered = _ordered(space, scores)
    widths = space.full
    used = float(limits.used(widths[None])[0])
    for step in range(1, ROUNDS + 1 if used > 1 else 1):
        values = ordered / _prices(space, limits, widths)[:, None]
        widths = _cut(space, limits, widths, values, used ** (1 - step / ROUNDS))
    return fill(space, limits, widths)


def _ordered(space: Space, scores: Float64[Tensor, "channels"]) -> Float64[Tensor, "groups widest"]:
    """The scores of each group, the highest first; infinitely small behind its last channel."""
    rows = [scores[group.ids].sort(descending=True).values for group in space.graph.prunable]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-torch.inf)


def _prices(space: Space, limits: Limits, widths: Int64[Tensor, "groups"]) -> Float64[Tensor, "groups"]:
    """Share of the tightest limit that a channel of each group uses; hardly anything where none can go."""
    narrower = widths.repeat(len(widths), 1)
    for place, allowed in enumerate(space.choices):
        below = allowed[allowed < widths[place]]
        if len(below):
            wanted = widths[place] * STEP
            narrower[place, place] = below[(below - wanted).abs().argmin()]
    saved = limits.used(widths[None]) - limits.used(narrower)
    channels = (widths - narrower.diagonal()).clamp(min=1)
    return (saved / channels).clamp(min=1e-12)


def _cut(
    space: Space,
    limits: Limits,
    widths: Int64[Tensor, "groups"],
    values: Float64[Tensor, "groups widest"],
    share: float,
) -> Int64[Tensor, "groups"]:
    """Keep the channels above the least value that brings the strategy down to a share of its limits."""

    def above(value: Tensor) -> Tensor:
        return space.snap((values > value).sum(1)[None])[0].minimum(widths)

    steps = values[values > -torch.inf].sort().values
    low, high = 0, len(steps) - 1  # above the highest value nothing is left but the narrowest widths
    while low < high:
        middle = (low + high) // 2
        if float(limits.used(above(steps[middle])[None])[0]) <= share:
            high = middle
        else:
            low = middle + 1
    return above(steps[low])
