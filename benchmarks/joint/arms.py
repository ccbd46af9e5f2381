"""The runs that are compared: the method, its ablations, and what one would do instead."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from time import process_time
from typing import Any

from torch import nn

from benchmarks.experiments import Records, Value, fresh_network
from benchmarks.joint.settings import JointSettings
from widthwise import Budget, CostModel, Subnet, WidthSpace, accuracy, compress, load, materialize, trace
from widthwise.data import ImageData, JoinedSplit
from widthwise.evaluate.devices import search_device
from widthwise.experiments.rows import seeded
from widthwise.methods import Method, RunRecord
from widthwise.methods.initialise import fresh
from widthwise.search import uniform_widths
from widthwise.train import TrainConfig, fit

__all__ = ["ARMS", "LITERAL", "Bench"]


@dataclass(frozen=True, eq=False)
class Bench:
    """What every run is given."""

    settings: JointSettings
    data: ImageData
    out: Path
    """Folder of the experiment; each run has one of its own inside."""
    records: Records

    def network(self, seed: int) -> nn.Module:
        """The full network with fresh weights."""
        return fresh_network(self.settings.model, self.data, seed)

    def compressed(self, name: str, method: Method, seed: int, train: TrainConfig | None = None) -> Value:
        """One run of a method in the folder ``name-seed``; goes on where it was ``cut``: then time is missing.

        Seconds are those that this process computed: what else the machine does meanwhile counts little.
        """
        folder = self.out / "runs" / f"{name}-{seed}"
        cut, start = folder.exists(), process_time()
        result = compress(
            self.network(seed),
            self.data,
            budget=Budget(macs=self.settings.budget),
            method=method,
            run=folder,
            train=None if train is None else replace(train, seed=seed),
            finetune=replace(self.settings.finetune, seed=seed),
        )
        after = result.metrics["after"]
        value: Value = {"test": after.test_accuracy, "macs": after.macs, "params": after.params}
        value["widths"] = result.graph.widths(result.subnet).tolist()
        value |= {"seconds": round(process_time() - start, 1), "cut": cut}
        record = RunRecord.read(folder)
        value["phases"] = record.seconds
        keys = ("accuracy", "macs", "exponent", "entropy", "reward", "thresholds", "widths")
        value["rounds"] = [{key: event[key] for key in keys} for event in record.of("round")]
        return value

    def joint(self, name: str, seed: int, rounds: Mapping[str, Any], **changes: Any) -> Value:
        """The method, with some of its settings changed."""
        base = self.settings.joint
        method = replace(base, rounds=replace(base.rounds, **rounds), **changes)
        return self.compressed(name, seeded(method, seed), seed)

    def fnnp(self, seed: int) -> Value:
        """The full network trained, then FNNP."""
        return self.compressed("fnnp", seeded(self.settings.fnnp, seed), seed, self.settings.full)

    def uniform(self, seed: int, epochs: int) -> Value:
        """Uniform width, trained from scratch on all training images."""
        cost, subnet, small = self._narrow(seed)
        cut, start = self._uniform_checkpoint(seed).exists(), process_time()
        self._train_uniform(small, seed, epochs)
        seconds = process_time() - start
        return {
            "test": self.test(small),
            "macs": cost.macs(subnet),
            "params": cost.params(subnet),
            "epochs": epochs,
            "seconds": round(seconds, 1),
            "cut": cut,
            "widths": cost.graph.widths(subnet).tolist(),
            "rounds": [],
        }

    def uniform_network(self, seed: int, epochs: int) -> nn.Module:
        """It, trained; its checkpoint is read where that has been done."""
        _, _, small = self._narrow(seed)
        self._train_uniform(small, seed, epochs)
        return small

    def _train_uniform(self, small: nn.Module, seed: int, epochs: int) -> None:
        fresh(small, seed)
        config = replace(self.settings.scratch, epochs=epochs, seed=seed)
        fit(small, self.images, config, checkpoint=self._uniform_checkpoint(seed))

    def _uniform_checkpoint(self, seed: int) -> Path:
        return self.out / "runs" / f"uniform-{seed}.pt"

    def delivered(self, name: str, seed: int) -> nn.Module:
        """The final network of a run."""
        return load(self.out / "runs" / f"{name}-{seed}", builder=lambda: self.network(seed))

    def longer(self, small: nn.Module, name: str, seed: int) -> Value:
        """A final network, trained on as all others are."""
        checkpoint, start = self.out / "runs" / f"longer-{name}-{seed}.pt", process_time()
        fit(small, self.images, replace(self.settings.longer, seed=seed), checkpoint=checkpoint)
        return {"after": self.test(small), "seconds": round(process_time() - start, 1)}

    def test(self, small: nn.Module) -> float:
        """Accuracy on the test images."""
        assert self.data.test is not None
        return accuracy(small.to(search_device()), self.data.test)

    @cached_property
    def images(self) -> JoinedSplit:
        """All training images."""
        return JoinedSplit(self.data.train, self.data.val)

    def seconds_per_epoch(self) -> float:
        """Of an ordinary training of the uniform network."""
        _, _, small = self._narrow(0)
        start = process_time()
        fit(small, self.images, replace(self.settings.scratch, epochs=1))
        return process_time() - start

    def _narrow(self, seed: int) -> tuple[CostModel, Subnet, nn.Module]:
        """The costs, and the sub-network of uniform width at the budget, also as a network of its own."""
        graph = trace(self.network(seed), self.data.example())
        space, cost = WidthSpace().of(graph), CostModel(graph)
        subnet = graph.subnet(widths=uniform_widths(space, Budget(macs=self.settings.budget).on(cost, space)))
        return cost, subnet, materialize(graph.model, graph, subnet)


def _changed(name: str, **rounds: Any) -> Callable[[Bench, int], Value]:
    return lambda bench, seed: bench.joint(name, seed, rounds)


ARMS: dict[str, Callable[[Bench, int], Value]] = {
    "joint": _changed("joint"),
    "fixed rate": _changed("fixed", fixed_rate="budget"),
    "no noise": _changed("quiet", noise=0.0),
    "full, then FNNP": lambda bench, seed: bench.fnnp(seed),
}
"""The method, its ablations, and what one would do instead; by the name that the page shows."""

LITERAL: dict[str, Callable[[Bench, int], Value]] = {
    "noise of scale 1": _changed("loud", noise=1.0),
    "lambda 0.1": lambda bench, seed: bench.joint("penalty", seed, {}, penalty=0.1),
    "weights on filters": lambda bench, seed: bench.joint("filters", seed, {}, placement="filters"),
}
"""Where we differ from the paper: the method as it is printed."""
