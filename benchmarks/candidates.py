"""Candidates judged per minute, and the share of the time that the network itself takes."""

import copy
from contextlib import ExitStack
from typing import Protocol

import torch
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks import peer
from benchmarks.measure import ForwardClock, Timing, alternate, ready
from benchmarks.report import Check, ratio
from benchmarks.subjects import SpeedConfig, Subject, subject
from widthwise import load_data
from widthwise.data import Split
from widthwise.evaluate import accuracy, adaptive_bn
from widthwise.experiments import Table
from widthwise.methods.evaluators import AdaptiveBN, inherited

__all__ = ["candidates", "forward_share"]


def candidates(config: SpeedConfig, subjects: list[Subject]) -> tuple[Table, list[Check]]:
    """Candidates per minute when both are judged by the same functions on the same images."""
    rows = []
    for s in subjects:
        calibration, val = _images(config.calibration_images, config.validation_images, config.candidate_size)
        judges: dict[str, _Judge] = {
            "ours": _OurCandidates(s, calibration, val),
            "theirs": _TheirCandidates(s, calibration, val, config.candidate_size),
        }
        times, shares = _judged(judges, config.repeats)
        speeds = [f"{60 / times[side].median:.0f}" for side in ("ours", "theirs")]
        gain = ratio(times["ours"].median, times["theirs"].median)
        rows.append((s.name, *speeds, gain, f"{shares['ours']:.1%}", f"{shares['theirs']:.1%}"))
    columns = ("network", "ours, per minute", "theirs, per minute", "ratio", "forward, ours", "forward, theirs")
    note = (
        f"A candidate: produce the copy (half of every width), adaptive batch norm on {config.calibration_images} "
        f"images, accuracy on {config.validation_images}, at {config.candidate_size} pixels; the same functions of "
        "Widthwise judge both. `forward`: share of the wall time within forward passes of the judged networks."
    )
    return Table("Candidates per minute", columns, tuple(rows), note), []


def forward_share(config: SpeedConfig, _: list[Subject]) -> tuple[Table, list[Check]]:
    """The share of forward passes in FNNP's own candidate evaluation, on images of CIFAR's size."""
    count, held = config.cifar_images
    calibration, val = _images(count, held, 32, classes=10)
    network = subject(config.cifar_model, 32)
    times, shares = _judged({"ours": _OurCandidates(network, calibration, val)}, config.repeats)
    share = shares["ours"]
    row = (config.cifar_model, f"{count} + {held}", str(times["ours"]), f"{share:.1%}")
    note = (
        "`AdaptiveBN` of `widthwise.methods.evaluators` on synthetic images of 32 pixels, half of every width. The "
        "hooks that collect batch-norm statistics run within the forward pass and count as part of it."
    )
    table = Table("Share of forward passes", ("network", "images", "per candidate", "forward"), (row,), note)
    return table, [Check("candidate evaluation spends 90 % in the network", f"{share:.1%}", share >= 0.9)]


class _Judge(Protocol):
    """Produces and judges one candidate, under a clock for forward passes."""

    clock: ForwardClock
    model: nn.Module

    def judge(self) -> float:
        """The score of one candidate."""
        ...


class _OurCandidates:
    """The way of FNNP: rank once, then materialise and judge."""

    def __init__(self, subject: Subject, calibration: Split, val: Split) -> None:
        self.clock, self.model, self._subject = ForwardClock(), subject.model, subject
        self._ranking = subject.graph.importance("l1")
        self._evaluate = AdaptiveBN(inherited(subject.model, subject.graph), calibration, val)

    def judge(self) -> float:
        """The score of one candidate."""
        return self._evaluate(self._subject.graph.top(self._ranking, self._subject.half))


class _TheirCandidates:
    """Torch-Pruning's copy, judged by the same functions on the same images."""

    def __init__(self, subject: Subject, calibration: Split, val: Split, image_size: int) -> None:
        self.clock, self.model = ForwardClock(), copy.deepcopy(subject.model)
        self._example = torch.zeros(1, 3, image_size, image_size)
        self._batches = [images for images, _ in calibration.batches(250)]
        self._val = val

    def judge(self) -> float:
        """The score of one candidate; the forward pass of their tracing is not evaluation."""
        self.clock.counting = False
        small = peer.pruned_copy(self.model, self._example)
        self.clock.counting = True
        adaptive_bn(small, self._batches)
        return accuracy(small, self._val)


def _judged(judges: dict[str, _Judge], repeats: int) -> tuple[dict[str, Timing], dict[str, float]]:
    """Times of the judges in turns, and the share of forward passes in each one's time."""
    for judge in judges.values():
        judge.judge()  # so that no clock sees a first pass
    with ExitStack() as stack:
        for judge in judges.values():
            stack.enter_context(judge.clock.on(judge.model))
        times = alternate({name: ready(judge.judge) for name, judge in judges.items()}, repeats, warmup=0)
    shares = {name: judge.clock.seconds / sum(times[name].seconds) for name, judge in judges.items()}
    return times, shares


def _images(calibration: int, validation: int, size: int, classes: int = 1000) -> tuple[Split, Split]:
    """Random images: what they show changes no time."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for count in (calibration, validation):
        pixels = torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
        labels = torch.randint(classes, (count,), generator=generator)
        parts.append(TensorDataset(pixels, labels))
    data = load_data((parts[0], parts[1]), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    return data.train, data.val
