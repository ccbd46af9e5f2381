"""What workers do: each job is one training or one judgement, with the key of its record."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import Any, Protocol

import torch
from torch import nn

from benchmarks.stagewise.bench import Bench
from benchmarks.stagewise.proxies import PROXIES
from widthwise import accuracy, adaptive_bn, materialize
from widthwise.evaluate.devices import search_device
from widthwise.methods.evaluators import AdaptiveBN, calibration_batches, inherited
from widthwise.supernet import Sampler, expected_accuracy
from widthwise.train import TrainConfig, fit

__all__ = ["Expect", "FineTune", "Job", "Judge", "Key", "Scratch", "Train", "Worker", "text"]

Value = dict[str, Any]
Key = tuple[int, ...]
"""Widths."""


class Job(Protocol):
    """One record's worth of work; picklable."""

    @property
    def key(self) -> str:
        """Of its record; with the settings of the experiment it decides the outcome."""
        ...

    def run(self, worker: "Worker") -> Value:
        """JSON data."""
        ...


class Worker:
    """Runs jobs, and keeps what several of them need."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._proxies: dict[str, Callable[[Key], Value]] = {}
        self._others: dict[str, Bench] = {}

    def proxy(self, name: str) -> Callable[[Key], Value]:
        """A judge of sub-networks; its super-net is loaded once."""
        if name not in self._proxies:
            self._proxies[name] = PROXIES[name](self.bench)
        return self._proxies[name]

    def bench_of(self, name: str) -> Bench:
        """The same for another network."""
        b = self.bench
        return b if name == b.name else self._others.setdefault(name, Bench(b.settings, b.data, b.out, name))

    def __call__(self, job: Job) -> Value:
        """Run one; adds the wall time."""
        start = time.perf_counter()
        value = job.run(self)
        return {**value, "seconds": round(time.perf_counter() - start, 3)}


@dataclass(frozen=True)
class Train:
    """A training that others build on."""

    name: str
    """``full``, ``slimmable``, ``meta``, ``other-teacher``, or ``stagewise-`` with a variant."""

    @property
    def key(self) -> str:
        """See `Job`."""
        return f"train/{self.name}"

    def run(self, worker: Worker) -> Value:
        """Train it; the record says how good the full network is, where there is one."""
        bench = worker.bench
        if self.name == "meta":
            bench.meta  # noqa: B018 - trains it
            return {}
        if self.name == "other-teacher":
            bench.other_teacher  # noqa: B018 - trains it
            return {}
        if self.name.startswith("stagewise-"):
            model = bench.stagewise(self.name.removeprefix("stagewise-")).network.model.to(search_device())
        else:
            model = bench.full if self.name == "full" else bench.slimmable
        return {"val": accuracy(model, bench.data.val)}


@dataclass(frozen=True)
class Scratch:
    """A network trained from scratch, and its accuracy: the only look at the test images."""

    widths: Key
    seed: int

    @property
    def key(self) -> str:
        """See `Job`."""
        return f"scratch/{text(self.widths)}/{self.seed}"

    def run(self, worker: Worker) -> Value:
        """Train and measure it."""
        bench = worker.bench
        small = bench.small(self.widths, self.seed)
        config = replace(bench.settings.scratch, seed=self.seed)
        return _trained(bench, self, small, config)


@dataclass(frozen=True)
class FineTune:
    """A sub-network of the trained full network, as FNNP finishes it: largest filters, calibrated, fine-tuned."""

    widths: Key
    seed: int

    @property
    def key(self) -> str:
        """See `Job`."""
        return f"finetune/{text(self.widths)}/{self.seed}"

    def run(self, worker: Worker) -> Value:
        """Train and measure it."""
        bench = worker.bench
        task, config = bench.full_task, replace(bench.settings.finetune, seed=self.seed)
        small = materialize(task.model, task.graph, bench.by_l1(torch.tensor(self.widths)))
        adaptive_bn(small, calibration_batches(bench.calibration))
        return _trained(bench, self, small, config)


@dataclass(frozen=True)
class Judge:
    """What one proxy says of one sub-network."""

    proxy: str
    widths: Key

    @property
    def key(self) -> str:
        """See `Job`."""
        return f"judge/{self.proxy}/{text(self.widths)}"

    def run(self, worker: Worker) -> Value:
        """``score``, higher is better, and what else the proxy says."""
        return worker.proxy(self.proxy)(self.widths)


@dataclass(frozen=True)
class Expect:
    """E(a_super) of one super-net of plain weight sharing (the paper's figure 1)."""

    model: str
    candidates: int
    epochs: int

    @property
    def key(self) -> str:
        """See `Job`."""
        return f"expect/{self.model}/{self.candidates}/{self.epochs}"

    def run(self, worker: Worker) -> Value:
        """Random networks of its own space; and of the coarsest one, whose networks every space has."""
        bench = worker.bench_of(self.model)
        model, sampler = bench.single_path(self.candidates, self.epochs)
        judge = AdaptiveBN(inherited(model, bench.task.graph), bench.calibration, bench.judge_val)
        spaces = {"own": sampler, "common": coarsest(bench)}
        value: Value = {}
        for name, drawn in spaces.items():
            found = expected_accuracy(judge, drawn, bench.settings.samples, seed=bench.settings.seed)
            macs = fmean(bench.task.cost.macs(subnet) for subnet in found.subnets) / bench.task.cost.full["macs"]
            value[name] = {"mean": found.mean, "accuracies": list(found.accuracies), "macs": macs}
        return value


def coarsest(bench: Bench) -> Sampler:
    """Two widths per layer, the narrowest and the full one."""
    ends = tuple(torch.stack([c[0], c[-1]]).unique() for c in bench.space.choices)
    return Sampler(replace(bench.space, choices=ends))


def text(widths: Key) -> str:
    """Widths as a part of a key and of a file's name."""
    return "-".join(map(str, widths))


def _trained(bench: Bench, job: Scratch | FineTune, small: nn.Module, config: TrainConfig) -> Value:
    """Train the job's network, from its checkpoint if there is one, and measure it."""
    data, cost = bench.data, bench.task.cost
    checkpoint = bench.out / "trainings" / f"{job.key.replace('/', '_')}.pt"
    fit(small, data.train, config, checkpoint=checkpoint)
    small.to(search_device())
    look = partial(accuracy, small, precision=config.precision, channels_last=config.channels_last)
    row = torch.tensor([job.widths])
    macs, params = int(cost.macs(row)[0]), int(cost.params(row)[0])
    test = look(data.test) if data.test is not None else None
    return {"val": look(data.val), "test": test, "macs": macs, "params": params}
