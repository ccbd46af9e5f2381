"""The rows of a comparison: every method and the baselines, by name, and any of them with another seed."""

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from widthwise.methods import METHODS, Baseline, Method
from widthwise.train import TrainConfig

__all__ = ["baselines", "every_method", "seeded"]


def baselines(scratch: TrainConfig) -> dict[str, Method]:
    """What a search has to beat: uniform width with four ways to choose filters or trained from scratch, streams that
    stay nearly whole, and widths balanced by sensitivity.

    Args:
        scratch: how ``uniform`` is trained from fresh weights.
    """
    return {
        "uniform": Baseline(widths="uniform", importance="random", scratch=scratch),
        "l1": Baseline(widths="uniform", importance="l1"),
        "shared": Baseline(widths="shared", importance="l1"),
        "balanced": Baseline(widths="balanced", importance="sensitivity"),
        "geometric_median": Baseline(widths="uniform", importance="geometric_median"),
        "bn_scale": Baseline(widths="uniform", importance="bn_scale"),
        "random": Baseline(widths="uniform", importance="random"),
    }


def every_method(scratch: TrainConfig) -> dict[str, Method]:
    """The published methods with their defaults, and the :func:`baselines`."""
    return {name: method() for name, method in METHODS.items()} | baselines(scratch)


S = TypeVar("S")


def seeded(settings: S, seed: int) -> S:
    """A settings dataclass with this seed in it, and in every setting that it holds."""
    if not is_dataclass(settings) or isinstance(settings, type):
        return settings
    values: dict[str, Any] = {f.name: getattr(settings, f.name) for f in fields(settings) if f.init}
    changed = {name: seed if name == "seed" else seeded(value, seed) for name, value in values.items()}
    return replace(settings, **{name: value for name, value in changed.items() if value is not values[name]})
