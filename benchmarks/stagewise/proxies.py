"""Quick judgements of a sub-network by a super-net, each a function of its widths (the paper's figure 4)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.stagewise.bench import Bench
from widthwise import Subnet
from widthwise.methods.evaluators import AdaptiveBN, Build, inherited
from widthwise.search import Widths

__all__ = ["PROXIES"]

Value = dict[str, Any]
Key = tuple[int, ...]
"""Widths."""


def _by_stages(bench: Bench) -> Callable[[Key], Value]:
    """Minus the sum of the stages' losses."""
    evaluate = bench.stage_losses
    stages = range(len(evaluate.objective.stages))

    def judge(widths: Key) -> Value:
        losses = [evaluate(stage, torch.tensor(widths)) for stage in stages]
        return {"score": -sum(losses), "losses": losses}

    return judge


def _by_chain(bench: Bench) -> Callable[[Key], Value]:
    """Minus the loss of the last stage, each stage fed by the one before."""
    return lambda widths: {"score": -bench.stage_losses.chained(torch.tensor(widths))}


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
    "chained": _by_chain,
    "slimmable": _by_slimmable,
    "meta": _by_meta,
    "adaptive_bn": _by_adaptive_bn,
}
"""Judges of sub-networks, by name."""
