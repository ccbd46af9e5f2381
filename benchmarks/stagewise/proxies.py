"""Quick judgements of a sub-network by a super-net, each a function of its widths (the paper's figure 4)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.stagewise.bench import Bench
from widthwise import Subnet
from widthwise.methods.evaluators import AdaptiveBN, Build, inherited, search_device
from widthwise.methods.stagewise import StoredFor
from widthwise.search import Widths
from widthwise.supernet import StagewiseObjective, harms, stored_features, worth

__all__ = ["PROXIES"]

Value = dict[str, Any]
Key = tuple[int, ...]
"""Widths."""


def _by_stages(bench: Bench) -> Callable[[Key], Value]:
    """Minus the sum of the stages' losses; beside it, minus the sum of their shares of the targets' variance, and of
    what they are worth."""
    objective = bench.stagewise("inplace")
    evaluate = StoredFor(objective, bench.search_images, bench.settings.search_batch).losses()
    stages = range(len(objective.stages))
    variances, worths = _variances(bench, objective), worth(harms(evaluate, bench.settings.seed), len(stages))

    def judge(widths: Key) -> Value:
        losses = [evaluate(stage, torch.tensor(widths)) for stage in stages]
        relative = -sum(loss / variance for loss, variance in zip(losses, variances, strict=True))
        weighed = -sum(loss * nats for loss, nats in zip(losses, worths, strict=True))
        return {"score": -sum(losses), "measured": weighed, "losses": losses, "relative": relative}

    return judge


def _variances(bench: Bench, objective: StagewiseObjective) -> list[float]:
    """Of each stage's targets, over images, positions and channels."""
    images = bench.search_images[: bench.settings.search_batch].to(search_device())
    return [float(target.var()) for target in stored_features(objective, [images])[0].targets]


def _by(bench: Bench, build: Build, subnet: Callable[[Widths], Subnet]) -> Callable[[Key], Value]:
    """The accuracy of a sub-network without any training of its own."""
    judge = AdaptiveBN(build, bench.calibration, bench.judge_val)
    return lambda widths: {"score": judge(subnet(torch.tensor(widths)))}


def _by_slimmable(bench: Bench) -> Callable[[Key], Value]:
    return _by(bench, inherited(bench.slimmable, bench.task.graph), bench.sampler.of)


def _by_meta(bench: Bench) -> Callable[[Key], Value]:
    generator, model = bench.meta
    return _by(bench, partial(generator.materialize, model), bench.sampler.of)


def _by_adaptive_bn(bench: Bench) -> Callable[[Key], Value]:
    return _by(bench, inherited(bench.full, bench.full_task.graph), bench.by_l1)


PROXIES: dict[str, Callable[[Bench], Callable[[Key], Value]]] = {
    "stagewise": _by_stages,
    "slimmable": _by_slimmable,
    "meta": _by_meta,
    "adaptive_bn": _by_adaptive_bn,
}
"""Judges of sub-networks, by name."""
