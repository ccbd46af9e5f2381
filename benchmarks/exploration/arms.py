"""The ways to choose channels that are compared, each a function of the budget and the seed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.experiments import Records, Value, fresh_network
from benchmarks.exploration.settings import ExplorationBenchSettings
from widthwise import (
    Budget,
    ChannelGraph,
    CostModel,
    Subnet,
    WidthSpace,
    accuracy,
    adaptive_bn,
    materialize,
    trace,
)
from widthwise.data import ImageData, at_most
from widthwise.evaluate.devices import search_device
from widthwise.exploration import SampleLosses, batches_per_epoch
from widthwise.exploration.evaluate import Draw
from widthwise.methods import Exploration, Method, Task, Trainer
from widthwise.methods.evaluators import calibration_batches
from widthwise.runs import Journal, read_events
from widthwise.search import RandomRates, SilentSearchReporter, uniform_widths
from widthwise.train import fit
from widthwise.zoo import load_weights

__all__ = ["ABLATIONS", "ARMS", "Arm", "Bench"]


@dataclass(frozen=True, eq=False)
class Bench:
    """What every choice is given."""

    settings: ExplorationBenchSettings
    data: ImageData
    weights: Path | None
    out: Path
    """Folder of the experiment; searches have logs in ``searches``."""
    records: Records

    @cached_property
    def model(self) -> nn.Module:
        """The trained full network."""
        model = fresh_network(self.settings.model, self.data, 0)
        if self.weights is not None:
            load_weights(model, self.weights)
        elif self.settings.full is not None:
            fit(model, self.data.train, self.settings.full, checkpoint=self.out / "full.pt")
        return model.eval()

    @cached_property
    def graph(self) -> ChannelGraph:
        """Its trace."""
        return trace(self.model, self.data.example())

    def task(self, budget: float, log: Journal) -> Task:
        """A search under a budget."""
        space, cost = WidthSpace().of(self.graph), CostModel(self.graph)
        limits = Budget(macs=budget).on(cost, space)
        trainer = Trainer(self.out, self.data)
        return Task(self.model, self.graph, cost, space, limits, self.data, log, SilentSearchReporter(), trainer)

    def found(self, name: str, budget: float, seed: int, search: Callable[[Task], Subnet]) -> Value:
        """The choice of a search, its time, and its accuracy before fine-tuning."""
        start = perf_counter()
        with Journal.open(self._log(name, budget, seed)) as log:
            task = self.task(budget, log)
            subnet = search(task)
            records = [event["record"] for event in log.events if event.get("event") == "probabilities"]
        seconds = perf_counter() - start
        value: Value = {"kept": subnet.to_dict()["kept"], "macs": task.cost.macs(subnet), "search_s": seconds}
        evidence = {name: fmean(r[name] for r in records if r) for name in ("effective", "power") if any(records)}
        value |= {"evidence": evidence} if evidence else {}
        return value | {"params": task.cost.params(subnet), **self.before(subnet)}

    def network(self, subnet: Subnet) -> nn.Module:
        """The small network with its own statistics."""
        small = materialize(self.model, self.graph, subnet).to(search_device())
        calibration = at_most(self.data.train, self.settings.calibration_images, 0)
        adaptive_bn(small, calibration_batches(calibration, search_device()))
        return small

    def before(self, subnet: Subnet) -> Value:
        """Accuracy before fine-tuning."""
        small = self.network(subnet)
        assert self.data.test is not None
        return {"val": accuracy(small, self.data.val), "test": accuracy(small, self.data.test)}

    def tuned(self, subnet: Subnet, name: str, seed: int) -> Value:
        """Accuracy after fine-tuning."""
        small = self.network(subnet).cpu()
        checkpoint = self.out / "trainings" / f"{name}.pt".replace(" ", "_").replace("/", "-")
        fit(small, self.data.train, replace(self.settings.finetune, seed=seed), checkpoint=checkpoint)
        assert self.data.test is not None
        return {"test": accuracy(small.to(search_device()), self.data.test)}

    def probabilities(self, name: str, budget: float, seed: int) -> Tensor:
        """What a search ended with, float [channels]."""
        path = self._log(name, budget, seed)
        *_, last = (event["p"] for event in read_events(path) if event["event"] == "probabilities")
        return torch.tensor(last)

    def _log(self, name: str, budget: float, seed: int) -> Path:
        return self.out / "searches" / f"{name}-{budget}-{seed}.jsonl".replace(" ", "_")

    def subnet(self, kept: list[int]) -> Subnet:
        """From the channels of a record."""
        keep = torch.zeros(self.graph.num_channels, dtype=torch.bool)
        keep[kept] = True
        return Subnet(keep)


Arm = Callable[[Bench, int], Callable[[Task], Subnet]]
"""From the seed to a way to choose."""


def _by(method: Callable[[Bench], Method]) -> Arm:
    def with_seed(bench: Bench, seed: int) -> Callable[[Task], Subnet]:
        seeded: Any = replace(method(bench), seed=seed)  # type: ignore[type-var]
        return lambda task: seeded.search(task).finalists[0]

    return with_seed


def _uniform(bench: Bench, seed: int) -> Callable[[Task], Subnet]:
    """The largest filters by L1, the same share of every layer."""
    return lambda task: task.graph.top(task.graph.importance("l1"), uniform_widths(task.space, task.limits))


def _judge(bench: Bench, task: Task, seed: int) -> tuple[Callable[[Draw], list[tuple[float, float]]], int]:
    """What the method judges samples by, and how many batches one pass has."""
    method = bench.settings.method
    images = at_most(bench.data.train, method.images, seed)
    losses = SampleLosses(
        task.model, task.graph, images, method.batch, seed, method.statistics, method.precision, search_device()
    )
    return losses(), batches_per_epoch(images, method.batch)


def _random(bench: Bench, seed: int) -> Callable[[Task], Subnet]:
    """Random rates and the largest filters by L1; as many evaluations as the method makes, on the same images.

    A candidate is judged on all batches of one pass, so there are that many times fewer candidates than samples.
    """
    method = bench.settings.method

    def search(task: Task) -> Subnet:
        judge, batches = _judge(bench, task, seed)
        searcher = RandomRates(task.space, task.limits, max_rate=bench.settings.max_rate, seed=seed)
        ranking, best = task.graph.importance("l1"), (float("inf"), Subnet(torch.ones(0, dtype=torch.bool)))
        samples = method.settings.samples * (method.settings.resamplings + 1) * method.epochs * batches
        samples += method.candidates * min(method.candidate_batches, batches)
        for _ in range(max(1, samples // batches)):
            subnet = task.graph.top(ranking, searcher.ask())
            losses = [judge((0, index, subnet.keep[None]))[0][0] for index in range(batches)]
            best = min(best, (sum(losses) / batches, subnet), key=lambda pair: pair[0])
        task.model.cpu()
        return best[1]

    return search


def _method(**changes: Any) -> Arm:
    def changed(bench: Bench) -> Exploration:
        base = bench.settings.method
        own = {field.name: changes[field.name] for field in fields(base) if field.name in changes}
        inner = {key: value for key, value in changes.items() if key not in own}
        return replace(base, settings=replace(base.settings, **inner), **own)

    return _by(changed)


def _start(bench: Bench, seed: int) -> Callable[[Task], Subnet]:
    """The widths that the method starts at, with the largest filters by L1; no sample seen."""

    def search(task: Task) -> Subnet:
        method = replace(bench.settings.method, seed=seed)
        judge, batches = _judge(bench, task, seed)
        batches = min(method.candidate_batches, batches)
        widths = method.first_widths(task, lambda draws: enumerate(map(judge, draws)), batches)
        assert widths is not None
        task.model.cpu()
        return task.graph.top(task.graph.importance("l1"), widths)

    return search


def _as_many(bench: Bench, seed: int) -> Callable[[Task], Subnet]:
    """All samples of a step from one distribution: as many evaluations, and T_alpha falls as fast."""
    inner = bench.settings.method.settings
    sets = inner.resamplings + 1
    return _method(resamplings=0, samples=sets * inner.samples, decay=inner.decay**inner.resamplings)(bench, seed)


ARMS: Mapping[str, Arm] = {
    "exploration": _method(),
    "random search": _random,
    "FNNP": _by(lambda bench: bench.settings.fnnp),
    "L1, uniform width": _uniform,
}
"""By the name that the page shows."""

ABLATIONS: Mapping[str, Arm] = {
    "start, no search": _start,
    "from uniform width": _method(candidates=0),
    "no exploration": _method(resamplings=0),
    "no exploration, as many samples": _as_many,
    "K = m = 1": _method(resamplings=1, moves=1),
    "K = m = 3": _method(resamplings=3, moves=3),
    "global statistics": _method(statistics="global"),
    "no surrogate": _method(surrogate=0.0),
    "from p = 1": _method(prior=None, t_alpha=2.0),
}
"""The method with one setting changed (table 3; the last one starts as the paper does); steps are as many, so those
with fewer sets see fewer samples, but for the one that says so."""
