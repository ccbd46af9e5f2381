"""Strategies under a budget: random rates, uniform widths, and the projection of any ratios onto the budget."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from widthwise.cost.budget import TOLERANCE, Limits
from widthwise.errors import InfeasibleBudget
from widthwise.subnet.space import Space

__all__ = [
    "Draws",
    "Used",
    "draw_rates",
    "fill",
    "fill_rows",
    "first_widths",
    "project",
    "same_limits",
    "scale_rows",
    "shared_widths",
    "uniform_widths",
]

BATCH = 1 << 15
"""Strategies drawn at once."""

STEPS = 1 << 22
"""Numbers in the widths of the steps that are compared at once."""

Used = Callable[[Tensor, Tensor], Tensor]
"""(widths [n, groups], the row of the population that each comes from [n]) to the share of the tightest limit of that
row, [n]; at most 1 where all its limits are met."""


@dataclass(frozen=True)
class Draws:
    """Strategies that met the budget, and how many had to be drawn for them."""

    widths: Int64[Tensor, "count groups"]
    """int64 [count, groups]."""
    drawn: int


def draw_rates(
    space: Space,
    limits: Limits,
    max_rate: float,
    count: int,
    generator: torch.Generator,
    *,
    max_draws: int = 50_000_000,
) -> Draws:
    """Pruning rates ``r_l ~ U[0, R]`` per group, kept when the budget holds (FNNP, section 3).

    A strategy is kept when it meets every limit and uses the tightest one up to ``TOLERANCE``, so all candidates
    cost the same; where the allowed widths are too coarse for that in ``max_draws`` draws, or hardly any draw comes
    near, those that merely meet the budget are scaled up to it instead.

    Args:
        space: the allowed widths.
        limits: the budget.
        max_rate: R, the largest rate of a layer, in (0, 1].
        count: strategies wanted.
        generator: the source of the rates.
        max_draws: after so many draws without enough strategies, give up.

    Raises:
        InfeasibleBudget: no draw met the budget.
    """
    narrowest = space.snap(space.full[None] * (1 - max_rate))
    if not bool(limits.met(narrowest)[0]):
        raise InfeasibleBudget(
            f"Rates up to R={max_rate} must be able to meet the budget, but with R everywhere the network still uses "
            f"{float(limits.used(narrowest)[0]):.2f} times the tightest limit; raise max_rate (R), or the budget."
        )
    table, offsets = _lookup(space)
    full = space.full.to(torch.float32)
    found: list[Tensor] = []
    loose: list[Tensor] = []
    accepted = drawn = 0
    while accepted < count and drawn < max_draws:
        rates = torch.rand(BATCH, len(full), generator=generator)
        # round to the nearest whole width; + 0.5 and truncation, because rounding costs a second pass
        wanted = torch.add(full + 0.5, rates.mul_(full), alpha=-max_rate).to(torch.int32)
        widths = (
            table[(wanted + offsets).reshape(-1)].reshape(wanted.shape) if table is not None else wanted.clamp_(min=1)
        )
        drawn += BATCH
        near = widths[limits.maybe_met(widths)].to(torch.int64)
        exact = near[_within(limits, near)] if len(near) else near
        if len(exact):
            found.append(exact)
            accepted += len(exact)
        elif drawn <= 8 * BATCH and accepted == 0:
            sample = widths[:1024].to(torch.int64)
            loose.append(sample[limits.met(sample)])
        if drawn >= 2_000_000 and accepted == 0 and sum(map(len, loose)) >= count:
            break  # the widths are too coarse to come closer
    if accepted < count and loose and sum(map(len, loose)):
        rest = torch.cat(loose)[: count - accepted]
        found.append(project(space, limits, rest.double() / space.full))
    if not found:
        raise InfeasibleBudget(
            f"Some random strategy must meet the budget, but none of {drawn:,} with rates up to R={max_rate} did; "
            "raise max_rate (R), or raise the budget."
        )
    return Draws(torch.cat(found)[:count], drawn)


def _lookup(space: Space) -> tuple[Tensor | None, Tensor]:
    """The nearest allowed width to each number as one flat table, or none if every width is allowed."""
    table = space.table().to(torch.int32)
    offsets = torch.arange(len(table), dtype=torch.int32) * table.shape[1]
    every = all(len(c) == int(c[-1]) for c in space.choices)
    return (None if every else table.reshape(-1)), offsets


def _within(limits: Limits, widths: Int64[Tensor, "n groups"]) -> Tensor:
    used = limits.used(widths)
    return (used <= 1) & (used >= 1 - TOLERANCE)


def fill(space: Space, limits: Limits, widths: Int64[Tensor, "groups"]) -> Int64[Tensor, "groups"]:
    """Widen a strategy step by step, the relatively narrowest group first, until it is within ``TOLERANCE``.

    Stops earlier when no single step fits any more. Deterministic.
    """
    return fill_rows(space, same_limits(limits), widths[None], range(len(widths)))[0]


def project(
    space: Space,
    limits: Limits,
    ratios: Float[Tensor, "population groups"],
    powers: Float[Tensor, "groups"] | None = None,
) -> Int64[Tensor, "population groups"]:
    """Scale each row of width ratios by one factor so that it just meets the budget, then :func:`fill` it.

    The shape of a strategy stays, its size is given by the budget. With ``powers`` a group is scaled by the factor to
    its power.
    """
    every, used = range(ratios.shape[1]), same_limits(limits)
    base = space.full.repeat(len(ratios), 1)
    return fill_rows(space, used, scale_rows(space, used, ratios, base, every, powers), every)


def same_limits(limits: Limits) -> Used:
    """What rows use of limits that are the same for each of them."""
    return lambda widths, rows: limits.used(widths)


def scale_rows(
    space: Space,
    used: Used,
    ratios: Float[Tensor, "population groups"],
    base: Int64[Tensor, "population groups"],
    free: Sequence[int],
    powers: Float[Tensor, "groups"] | None = None,
) -> Int64[Tensor, "population groups"]:
    """Scale the ratios of each row by one factor so that the row just meets its limits.

    Twenty bisections over the factor for the whole population at once.

    Args:
        space: the allowed widths.
        used: what the rows cost.
        ratios: shares of the full widths; looked at where ``free``.
        base: the widths of the other groups, which stay.
        free: the groups that may change.
        powers: above 0; each group is scaled by the factor to this power, by the factor itself if not given.
    """
    columns = list(free)
    if not columns:
        return base
    table, full = space.table()[columns], space.full[columns]
    wanted, rows = ratios[:, columns].double(), torch.arange(len(ratios))
    exponents = torch.ones_like(full).double() if powers is None else powers.double()[columns]

    def scaled(factor: Tensor) -> Tensor:
        near = (wanted * factor[:, None] ** exponents * full).round().to(torch.int64).minimum(full).clamp(min=0)
        widths = base.clone()
        widths[:, columns] = table.expand(len(near), -1, -1).gather(2, near[:, :, None])[:, :, 0]
        return widths

    low = torch.zeros(len(ratios), dtype=torch.float64)
    high = (wanted.clamp(min=1e-3) ** (-1 / exponents)).amax(1)  # every free group whole
    for _ in range(20):
        middle = (low + high) / 2
        met = used(scaled(middle), rows) <= 1
        low, high = torch.where(met, middle, low), torch.where(met, high, middle)
    return scaled(low)


def fill_rows(
    space: Space, used: Used, widths: Int64[Tensor, "population groups"], free: Sequence[int]
) -> Int64[Tensor, "population groups"]:
    """:func:`fill` for a population at once, each row under its own limits; only the ``free`` groups are widened."""
    columns = torch.tensor(list(free), dtype=torch.int64)
    widths, wider = widths.clone(), _wider(space)[columns]
    full = space.full.double()[columns]
    share = max(1, STEPS // max(1, len(columns) * widths.shape[1]))
    for rows in torch.arange(len(widths)).split(share):
        rows = rows[used(widths[rows], rows) < 1 - TOLERANCE]
        while len(rows) and len(columns):
            now = widths[rows][:, columns]
            following = wider.expand(len(rows), -1, -1).gather(2, now[:, :, None])[:, :, 0]
            steps = widths[rows][:, None].repeat(1, len(columns), 1)
            steps[:, torch.arange(len(columns)), columns] = following
            cost = used(steps.flatten(0, 1), rows.repeat_interleave(len(columns))).reshape(now.shape)
            fits = (cost <= 1) & (following > now)
            narrowest = torch.where(fits, now / full, torch.inf).argmin(1)
            picked = torch.arange(len(rows))[fits.any(1)]
            widths[rows[picked], columns[narrowest[picked]]] = following[picked, narrowest[picked]]
            rows = rows[picked][cost[picked, narrowest[picked]] < 1 - TOLERANCE]
    return widths


def _wider(space: Space) -> Int64[Tensor, "groups widths"]:
    """int64 [groups, widest + 1]: the next allowed width above each number; the full width at the end."""
    numbers = torch.arange(int(space.full.max()) + 1)
    above = [torch.searchsorted(c, numbers, right=True).clamp(max=len(c) - 1) for c in space.choices]
    return torch.stack([c[index] for c, index in zip(space.choices, above, strict=True)])


def uniform_widths(space: Space, limits: Limits) -> Int64[Tensor, "groups"]:
    """The same share of every group, as wide as the budget allows."""
    return project(space, limits, _ones(space))[0]


def shared_widths(space: Space, limits: Limits) -> Int64[Tensor, "groups"]:
    """The more layers make a group, the more of it stays; as wide as the budget allows (ours).

    The share is ``f^(1 / makers)`` with one f for all groups: a residual stream, whose channels all of its blocks add
    to, stays nearly whole, and the channels within the blocks are as narrow as that demands. Deep networks bear this
    far better than uniform width (docs/fnnp.md), because what a stream loses every later block is without.
    """
    return project(space, limits, _ones(space), 1 / space.graph.makers.double())[0]


def _ones(space: Space) -> Float32[Tensor, "one groups"]:
    return torch.ones(1, len(space.choices))


def first_widths(space: Space, limits: Limits) -> list[Int64[Tensor, "groups"]]:
    """What a search tries before it has learned anything: uniform width and :func:`shared_widths`, if that differs."""
    starts = [uniform_widths(space, limits), shared_widths(space, limits)]
    return starts[:1] if torch.equal(*starts) else starts
