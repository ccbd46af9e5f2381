"""The runs that are compared: the method, its ablations, and what one would do instead."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.joint.settings import JointSettings
from widthwise import Budget, CostModel, WidthSpace, accuracy, build_model, compress, materialize, trace
from widthwise.data import ImageData, JoinedSplit
from widthwise.methods import Joint, Method
from widthwise.methods.evaluators import search_device
from widthwise.methods.initialise import fresh
from widthwise.runs import read_events
from widthwise.search import uniform_widths
from widthwise.train import TrainConfig, fit

__all__ = ["ARMS", "Bench", "Value"]

Value = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Bench:
    """What every run is given."""

    settings: JointSettings
    data: ImageData
    out: Path
    """Folder of the experiment; each run has one of its own inside."""

    def network(self, seed: int) -> nn.Module:
        """The full network with fresh weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build_model(
                self.settings.model, num_classes=self.data.num_classes, in_channels=self.data.input_shape[0]
            )
        fresh(model, seed)
        return model

    def compressed(self, name: str, method: Method, seed: int, train: TrainConfig | None = None) -> Value:
        """One run of a method in the folder ``name-seed``; goes on where it was cut."""
        folder = self.out / "runs" / f"{name}-{seed}"
        start = time.perf_counter()
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
        value["seconds"] = round(time.perf_counter() - start, 1)
        rounds = [event for event in read_events(folder / "journal.jsonl") if event.get("event") == "round"]
        keys = ("accuracy", "macs", "exponent", "entropy", "reward", "thresholds", "widths")
        value["rounds"] = [{key: event[key] for key in keys} for event in rounds]
        return value

    def joint(self, name: str, seed: int, rounds: Mapping[str, Any], **changes: Any) -> Value:
        """The method, with some of its settings changed."""
        base = self.settings.joint
        method = replace(base, seed=seed, rounds=replace(base.rounds, **rounds), **changes)
        assert isinstance(method, Joint)
        return self.compressed(name, method, seed)

    def fnnp(self, seed: int) -> Value:
        """The full network trained, then FNNP."""
        return self.compressed("fnnp", replace(self.settings.fnnp, seed=seed), seed, self.settings.full)

    def uniform(self, seed: int, seconds: float) -> Value:
        """Uniform width, trained from scratch for as long as a joint run took, on all training images."""
        graph = trace(self.network(seed), self.data.example())
        space, cost = WidthSpace().of(graph), CostModel(graph)
        subnet = graph.subnet(widths=uniform_widths(space, Budget(macs=self.settings.budget).on(cost, space)))
        small = materialize(graph.model, graph, subnet)
        fresh(small, seed)
        epochs = max(1, round(seconds / self.seconds_per_epoch(small)))
        start = time.perf_counter()
        config = replace(self.settings.scratch, epochs=epochs, seed=seed)
        checkpoint = self.out / "runs" / f"uniform-{seed}.pt"
        fit(small, self.images, config, checkpoint=checkpoint)
        assert self.data.test is not None
        small.to(search_device())
        spent = round(time.perf_counter() - start, 1)
        test = accuracy(small, self.data.test)
        return {"test": test, "macs": cost.macs(subnet), "params": cost.params(subnet), "epochs": epochs} | {
            "seconds": spent,
            "widths": graph.widths(subnet).tolist(),
            "rounds": [],
        }

    @cached_property
    def images(self) -> JoinedSplit:
        """All training images."""
        return JoinedSplit(self.data.train, self.data.val)

    def seconds_per_epoch(self, small: nn.Module) -> float:
        """Of an ordinary training of this network, from one epoch of a copy of it."""
        one = copy.deepcopy(small)
        start = time.perf_counter()
        fit(one, self.images, replace(self.settings.scratch, epochs=1))
        return time.perf_counter() - start


ARMS: dict[str, Callable[[Bench, int], Value]] = {
    "joint": lambda bench, seed: bench.joint("joint", seed, {}),
    "fixed rate": lambda bench, seed: bench.joint("fixed", seed, {"fixed_rate": 0.0}),
    "no noise": lambda bench, seed: bench.joint("quiet", seed, {"noise": 0.0}),
    "weights on filters": lambda bench, seed: bench.joint("filters", seed, {}, placement="filters"),
    "full, then FNNP": lambda bench, seed: bench.fnnp(seed),
}
"""By the name that the page shows."""
