"""Drives the search: asks for sub-networks, has them evaluated side by side, writes their losses down, tells them."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from widthwise.channels import Subnet
from widthwise.errors import CorruptRun, NonFiniteLoss
from widthwise.exploration.evaluate import Draw
from widthwise.exploration.searcher import ExplorationEstimation
from widthwise.parallel import in_order
from widthwise.search import Log

__all__ = ["Evaluate", "digest_of", "explore_and_estimate", "finite", "known"]

SNAPSHOTS = 20
"""How often the probabilities are written down, for pictures."""

Scores = list[tuple[float, float]]


@runtime_checkable
class Evaluate(Protocol):
    """Runs several draws side by side, such as a pool's ``map``."""

    def __call__(self, tasks: list[Draw]) -> Iterator[tuple[int, Scores]]:
        """(position, cross-entropy and accuracy of each sub-network) as they come."""
        ...


def explore_and_estimate(
    searcher: ExplorationEstimation,
    evaluate: Evaluate,
    log: Log,
    *,
    steps: int,
    batches: int,
    workers: int = 1,
    on_step: Callable[[int, float], None] = lambda step, accuracy: None,
) -> Subnet:
    """Take all steps that are left; what the log holds already is told again, not evaluated.

    Args:
        searcher: fresh.
        evaluate: runs draws.
        log: receives the losses of every set of samples, and the probabilities now and then.
        steps: of the search.
        batches: in one pass over the images; each step sees one.
        workers: into how many parts a set of samples is divided.
        on_step: is told the number of the step and the mean accuracy of its samples.

    Raises:
        CorruptRun: the log is that of other samples.
        NonFiniteLoss: a whole set of samples has no finite loss.
    """
    done = iter([event for event in log.events if event.get("event") == "samples"])
    shown = {event["step"] for event in log.events if event.get("event") == "probabilities"}
    while searcher.steps < steps:
        step, right = searcher.steps, []
        _show(searcher, log, step, steps, shown)
        while searcher.steps == step:
            subnets = [searcher.ask() for _ in range(searcher.settings.samples)]
            keep = torch.stack([subnet.keep for subnet in subnets])
            event = next(done, None)
            facts = (
                known(event, keep, f"step {step}", step=step)
                if event
                else _evaluated(evaluate, step, batches, keep, workers, log)
            )
            right += facts["accuracies"]
            for subnet, loss in zip(subnets, facts["losses"], strict=True):
                searcher.tell(subnet, -loss)
        on_step(step, sum(right) / len(right))
    _show(searcher, log, steps, steps, shown)
    return searcher.found()


def _evaluated(
    evaluate: Evaluate, step: int, batches: int, keep: Bool[Tensor, "samples channels"], workers: int, log: Log
) -> Mapping[str, Any]:
    parts: list[Draw] = [(step // batches, step % batches, part) for part in keep.chunk(max(1, workers))]
    scores = [score for part in in_order(evaluate(parts)) for score in part]
    losses = finite([loss for loss, _ in scores], f"step {step}")
    facts = {"losses": losses, "accuracies": [accuracy for _, accuracy in scores]}
    log.append({"event": "samples", "step": step, "digest": digest_of(keep), **facts})
    return facts


def finite(losses: list[float], of: str) -> list[float]:
    """The losses of one set: a sub-network whose outputs are no numbers counts as the worst of its set."""
    known = [loss for loss in losses if isfinite(loss)]
    if not known:
        raise NonFiniteLoss(
            f"Sub-networks are compared by their losses, but none of the {len(losses)} of {of} is a finite "
            "number. Judge with precision='fp32' (or bf16) and statistics='batch', and look whether the full network "
            "computes finite outputs on these images."
        )
    return [loss if isfinite(loss) else max(known) for loss in losses]


def known(
    event: Mapping[str, Any], keep: Bool[Tensor, "samples channels"], what: str, **place: int
) -> Mapping[str, Any]:
    """An event of the log, if it is that of these sub-networks.

    Raises:
        CorruptRun: it is that of others.
    """
    if event["digest"] != digest_of(keep) or any(event[name] != value for name, value in place.items()):
        raise CorruptRun(
            f"A search that is resumed draws the same sub-networks again, but those of {what} in the journal are "
            "others. The run was made by another version of Widthwise or on other hardware; start a new folder."
        )
    return event


def digest_of(keep: Bool[Tensor, "samples channels"]) -> int:
    """By which a log knows the sub-networks of a set."""
    return zlib.crc32(np.packbits(keep.numpy()).tobytes())


def _show(searcher: ExplorationEstimation, log: Log, step: int, steps: int, shown: set[int]) -> None:
    """Write the probabilities down at the start, the end, and in between."""
    if step in shown or (step % max(1, steps // SNAPSHOTS) and step != steps):
        return
    facts = {} if searcher.last is None else asdict(searcher.last)
    p = [round(value, 4) for value in searcher.p.tolist()]
    log.append({"event": "probabilities", "step": step, "p": p, "record": facts})
    shown.add(step)
