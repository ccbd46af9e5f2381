"""What a sub-network may cost."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from widthwise.cost.analytic import CostModel
from widthwise.cost.latency import TICKS, Latency
from widthwise.errors import InfeasibleBudget, InvalidBudget
from widthwise.subnet.space import Space

__all__ = ["Budget", "Limits"]

HEADS = {"macs": "macs", "params": "params", "latency": "latency (ms)"}
"""Of the table of what is reachable."""

TOLERANCE = 0.005
"""How far below the tightest constraint a delivered network may lie, as a share, where the widths allow it."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits on a sub-network; all that are given hold at once.

    Of ``macs`` and ``params`` a number up to 1 is a fraction of the full model's, a whole number above 1 is absolute.
    Latency is measured where the model lies (see :func:`widthwise.measure_latency`).
    """

    macs: float | int | None = None
    """Multiply-adds of one forward pass on the traced example (a batch of one, usually)."""
    params: float | int | None = None
    """Parameters."""
    latency: float | None = None
    """Time of a forward pass as a fraction of the full model's."""
    latency_ms: float | None = None
    """The same in milliseconds."""
    latency_batch: int = 1
    """Images of a forward pass that is timed."""

    def __post_init__(self) -> None:
        names = ("macs", "params", "latency", "latency_ms")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if not given:
            raise InvalidBudget(
                "A budget limits macs, params or latency (or several), but none was given; try Budget(macs=0.5)."
            )
        for name, value in given.items():
            if isinstance(value, bool) or not math.isfinite(value) or value <= 0:
                raise InvalidBudget(
                    f"A budget is above zero: a fraction in (0, 1] or an absolute count, but got {name}={value}."
                )
            if name in ("macs", "params") and value > 1 and value != int(value):
                raise InvalidBudget(
                    f"A budget above 1 is an absolute count, a whole number, but got {name}={value}; for a share of "
                    "the full model give a fraction in (0, 1]."
                )
        if self.latency is not None and self.latency > 1:
            raise InvalidBudget(
                f"latency is a fraction of the full model's, in (0, 1], but got {self.latency}; for milliseconds give "
                "latency_ms."
            )
        if type(self.latency_batch) is not int or self.latency_batch < 1:
            raise InvalidBudget(f"latency_batch is a number of images, 1 or more, but got {self.latency_batch}.")

    @property
    def needs_latency(self) -> bool:
        """Whether times must be measured for it."""
        return self.latency is not None or self.latency_ms is not None

    def on(self, cost: CostModel, space: Space) -> "Limits":
        """Absolute limits for one model.

        Raises:
            InvalidBudget: an absolute limit above the full model, or one of latency where no times are known.
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
        limits |= self._latency(full, cost.timed)
        result = Limits(cost, limits)
        if not bool(result.met(space.smallest[None])[0]):
            raise InfeasibleBudget(
                "The narrowest sub-network must fit the budget, but it does not:\n"
                f"{reachable(cost, space, limits)}\n"
                "Raise the budget, or allow narrower widths (min_ratio, min_width, multiple_of, keep_outputs_of)."
            )
        return result

    def _latency(self, full: Mapping[str, int], timed: Latency | None) -> dict[str, int]:
        """The limit in ticks, if there is one."""
        if not self.needs_latency:
            return {}
        if timed is None:
            raise InvalidBudget(
                "A budget of latency needs measured times, but this cost model has none; give it "
                "CostModel(graph, latency=widthwise.measure_latency(model, graph, example))."
            )
        if timed.batch != self.latency_batch:
            raise InvalidBudget(
                f"Times belong to one size of batch, but the budget is for {self.latency_batch} images and batches of "
                f"{timed.batch} were timed. Ask for latency_batch={timed.batch}, or measure again (in a new folder)."
            )
        limit = math.floor(full["latency"] * (1 if self.latency is None else self.latency))
        if self.latency_ms is None:
            return {"latency": limit}
        asked = math.floor(self.latency_ms * TICKS / 1000)
        if asked > full["latency"]:
            raise InvalidBudget(
                f"A budget lies at or below the full model, but latency_ms={self.latency_ms} was asked of a model that "
                f"takes {_milliseconds(full['latency']):.3g} ms."
            )
        return {"latency": min(limit, asked)}


@dataclass(frozen=True, eq=False)
class Limits:
    """Absolute limits, checked for whole populations at once."""

    cost: CostModel
    limits: dict[str, int]
    """Limit per metric (macs, params, latency); where there is none, everything is met."""

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
    lines = ["  " + "".join(f"{head:>18}" for head in ("", *(HEADS[m] for m in limits)))]
    for name, widths in rows.items():
        values = "".join(_shown(m, int(torch.as_tensor(cost.measure(m, widths), device="cpu")[0])) for m in limits)
        lines.append(f"  {name:>18}{values}")
    lines.append(f"  {'asked':>18}" + "".join(_shown(m, v) for m, v in limits.items()))
    return "\n".join(lines)


def _shown(metric: str, value: int) -> str:
    text = f"{_milliseconds(value):.4g}" if metric == "latency" else f"{value:,}"
    return f"{text:>18}"


def _milliseconds(ticks: int) -> float:
    return ticks * 1000 / TICKS
