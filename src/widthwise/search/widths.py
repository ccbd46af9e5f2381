"""Strategies under a budget: random rates, uniform widths, and the projection of any ratios onto the budget."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from widthwise.cost.budget import TOLERANCE, Limits
from widthwise.errors import InfeasibleBudget
from widthwise.subnet.space import Space

__all__ = ["Draws", "draw_rates", "fill", "project", "uniform_widths"]

BATCH = 1 << 15
"""Strategies drawn at once."""


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
    cost the same; where the allowed widths are too coarse for that in ``max_draws`` draws, those that merely meet the
    budget are filled up instead.

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
        found.extend(fill(space, limits, row)[None] for row in rest)
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
    widths = widths.clone()
    full = space.full.double()
    while float(limits.used(widths[None])[0]) < 1 - TOLERANCE:
        wider = torch.stack([_next(c, int(w)) for c, w in zip(space.choices, widths.tolist(), strict=True)])
        steps = widths.repeat(len(widths), 1)
        steps.fill_diagonal_(0)
        steps += torch.diag(wider)
        fits = limits.met(steps) & (wider > widths)
        if not bool(fits.any()):
            break
        narrowest = torch.where(fits, widths / full, torch.inf).argmin()
        widths[narrowest] = wider[narrowest]
    return widths


def _next(choices: Int64[Tensor, "_"], width: int) -> Tensor:
    """The next allowed width above one; the full width at the end."""
    return choices[min(int(torch.searchsorted(choices, width, right=True)), len(choices) - 1)]


def project(
    space: Space, limits: Limits, ratios: Float[Tensor, "population groups"]
) -> Int64[Tensor, "population groups"]:
    """Scale each row of width ratios by one factor so that it just meets the budget, then :func:`fill` it.

    Twenty bisections over the factor for the whole population at once; the shape of a strategy stays, its size is
    given by the budget.
    """
    full = space.full.double()
    low = torch.zeros(len(ratios), dtype=torch.float64)
    high = 1 / ratios.amin(1).double().clamp(min=1e-3)  # every group whole
    for _ in range(20):
        middle = (low + high) / 2
        met = limits.met(space.snap(ratios * middle[:, None] * full))
        low, high = torch.where(met, middle, low), torch.where(met, high, middle)
    widths = space.snap(ratios * low[:, None] * full)
    return torch.stack([fill(space, limits, row) for row in widths])


def uniform_widths(space: Space, limits: Limits) -> Int64[Tensor, "groups"]:
    """The same share of every group, as wide as the budget allows."""
    ones: Float32[Tensor, "one groups"] = torch.ones(1, len(space.choices))
    return project(space, limits, ones)[0]
