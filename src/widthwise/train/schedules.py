"""Learning rates as functions of the step.

A schedule here is a pure function, not an object with state: a resumed training needs nothing but the number of
its next step to go on with exactly the same rates.
"""

import math

from widthwise.train.config import TrainConfig

__all__ = ["learning_rate"]

# The usual shape of one-cycle (torch.optim.lr_scheduler.OneCycleLR's defaults).
_RISE = 0.3
_START = 1 / 25
_END = _START / 1e4


def learning_rate(config: TrainConfig, step: int, total: int, steps_per_epoch: int) -> float:
    """The learning rate of optimiser step `step` (from 0) of `total`.

    - ``constant``: `lr` throughout.
    - ``cosine``: half a cosine from `lr` down towards 0, which it would reach at step `total`.
    - ``step``: `lr`, times `step_gamma` at each milestone passed.
    - ``one_cycle``: cosine rise from lr/25 over 30 % of the steps, cosine fall to lr/250000.

    The first `warmup_epochs` rise linearly instead: step t of w has ``lr * (t + 1) / w``. The cosine then spans
    what is left.
    """
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total)
    if step < warmup:
        return config.lr * ((step + 1) / warmup)
    if config.schedule == "cosine":
        return config.lr * _cosine(1.0, 0.0, (step - warmup) / (total - warmup))
    if config.schedule == "step":
        passed = sum(step >= round(milestone * total) for milestone in config.step_milestones)
        return float(config.lr * config.step_gamma**passed)
    if config.schedule == "one_cycle":
        return config.lr * _one_cycle(step, total)
    return config.lr


def _one_cycle(step: int, total: int) -> float:
    peak = max(_RISE * total - 1, 0.0)
    if step < peak:
        return _cosine(_START, 1.0, step / peak)
    return _cosine(1.0, _END, (step - peak) / max(total - 1 - peak, 1.0))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
