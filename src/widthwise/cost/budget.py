"""What a sub-network may cost."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from widthwise.cost.analytic import CostModel
from widthwise.errors import InfeasibleBudget, InvalidBudget
from widthwise.subnet.space import Space

__all__ = ["Budget", "Limits"]

TOLERANCE = 0.005
"""How far below the tightest constraint a delivered network may lie, as a share, where the widths allow it."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits on a sub-network; all that are given hold at once.

    A number up to 1 is a fraction of the full model's, a whole number above 1 is absolute.
    """

    macs: float | int | None = None
    """Multiply-adds of one forward pass on the traced example (a batch of one, usually)."""
    params: float | int | None = None
    """Parameters."""

    def __post_init__(self) -> None:
        given = {k: v for k, v in (("macs", self.macs), ("params", self.params)) if v is not None}
        if not given:
            raise InvalidBudget("A budget limits macs, params or both, but neither was given; try Budget(macs=0.5).")
        for name, value in given.items():
            if isinstance(value, bool) or not math.isfinite(value) or value <= 0:
                raise InvalidBudget(
                    f"A budget is above zero: a fraction in (0, 1] or an absolute count, but got {name}={value}."
                )
            if value > 1 and value != int(value):
                raise InvalidBudget(
                    f"A budget above 1 is an absolute count, a whole number, but got {name}={value}; for a share of "
                    "the full model give a fraction in (0, 1]."
                )

    def on(self, cost: CostModel, space: Space) -> "Limits":
        """Absolute limits for one model.

        Raises:
            InvalidBudget: an absolute limit above the full model.
            InfeasibleBudget: no sub-network of the space meets every limit at once.
        """
        full = cost.full
        limits: dict[str, int] = {}
        for name, value in (("macs", self.macs), ("params", self.params)):
            if value is None:
                continue
            limits[name] = int(value) if value > 1 else math.floor(value * full[name])
            if limits[name] > full[name]:
                raise InvalidBudget(
                    f"A budget lies at or below the full model, but {name}={int(value):,} was asked of a model with "
                    f"{full[name]:,}; a fraction in (0, 1] is a share of that."
                )
        result = Limits(cost, limits)
        if not bool(result.met(space.smallest[None])[0]):
            raise InfeasibleBudget(
                "The narrowest sub-network must fit the budget, but it does not:\n"
                f"{reachable(cost, space, limits)}\n"
                "Raise the budget, or allow narrower widths (min_ratio, min_width, multiple_of, keep_outputs_of)."
            )
        return result


@dataclass(frozen=True, eq=False)
class Limits:
    """Absolute limits, checked for whole populations at once."""

    cost: CostModel
    limits: dict[str, int]
    """Limit per metric (macs, params); where there is none, everything is met."""

    def used(self, widths: Int64[Tensor, "population groups"]) -> Float64[Tensor, "population"]:
        """Share of the tightest limit that each strategy uses; at most 1 where every limit is met."""
        shares = [
            torch.as_tensor(self.cost.measure(m, widths), device="cpu").double() / limit
            for m, limit in self.limits.items()
        ]
        return torch.stack(shares).amax(0) if shares else torch.zeros(len(widths), dtype=torch.float64, device="cpu")

    def met(self, widths: Int64[Tensor, "population groups"]) -> Bool[Tensor, "population"]:
        """Whether each strategy meets every limit."""
        return self.used(widths) <= 1

    def maybe_met(self, widths: Tensor, margin: float = 1e-5) -> Bool[Tensor, "population"]:
        """A fast first look: never false for a strategy that lies within the limits and ``TOLERANCE`` of them."""
        shares = [self.cost.estimate(metric, widths) / limit for metric, limit in self.limits.items()]
        used = torch.stack(shares).amax(0)
        return (used <= 1 + margin) & (used >= 1 - TOLERANCE - margin)


def reachable(cost: CostModel, space: Space, limits: dict[str, int]) -> str:
    """A table of what widths can reach: smallest, uniform and full, beside what was asked."""
    rows = {"smallest": space.smallest[None]}
    for ratio in (0.25, 0.5, 0.75):
        rows[f"uniform {ratio:.0%}"] = space.snap(space.full[None] * ratio)
    rows["full"] = space.full[None]
    lines = ["  " + "".join(f"{head:>18}" for head in ("", *limits))]
    for name, widths in rows.items():
        values = "".join(f"{int(torch.as_tensor(cost.measure(m, widths), device='cpu')[0]):>18,}" for m in limits)
        lines.append(f"  {name:>18}{values}")
    lines.append(f"  {'asked':>18}" + "".join(f"{v:>18,}" for v in limits.values()))
    return "\n".join(lines)
