"""What a super-net step costs beside plain steps, and how many genes are evaluated per second.

Prediction: a step costs at most 1.15 times the sum of plain training steps of the full, the random and the smallest
network as modules of their own, on CPU; 1.05 to 1.10 is expected for ResNet-20. More than the plain steps: the 1x1
adapters (2 x 0.8 M multiply-adds beside the 58 M of the three networks, 3 %), the loss over feature maps (29,000
numbers per image and sub-network, in float32, 3 to 5 %), the slices of the parameters and of the running statistics
and the stand-ins for the modules in front of a stage (Python, 1 to 3 ms per stage). Less: no stage but the first needs
the gradient of its input, there is no classifier and one optimiser step instead of three. MobileNet v1 pays more: the
inputs of its stages are whole, so its sub-networks are wider than the plain ones (`work` says by how much).

Prediction: on slices of the super-net's own parameters at least as many genes are evaluated per second as on
materialised copies, 1.2 times as many on few images; on many images the network itself takes all of the time.
"""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from math import prod
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.stagewise.lab import Lab
from widthwise import CostModel, Subnet, WidthSpace, build_model, materialize, trace
from widthwise.evaluate import Precision
from widthwise.evaluate.devices import search_device
from widthwise.evaluate.modes import autocast, evaluating, logits_of
from widthwise.methods import Stagewise
from widthwise.stages import find_stages
from widthwise.stages.alone import run_part
from widthwise.subnet import SuperNet
from widthwise.supernet import Sampler, StageLoss, StagewiseObjective, StoredBatch, feature_loss, stored_features
from widthwise.train import Objective, Step, Supervised, TrainConfig

__all__ = ["Subject", "cost", "gene_times", "materialised_loss", "step_times", "work_ratio"]

T = TypeVar("T")

WARM_UP = 2
"""Rounds before those that count."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A network that can be stepped."""

    objective: StagewiseObjective
    images: Tensor
    """[batch, C, H, W]."""
    labels: Tensor
    precision: Precision

    @classmethod
    def build(cls, name: str, pixels: int, batch: int, precision: Precision) -> "Subject":
        """A zoo network with random weights and images, channels last, on the accelerator if there is one."""
        torch.manual_seed(0)
        model, device = build_model(name, num_classes=10).eval(), search_device()
        images, labels = torch.randn(batch, 3, pixels, pixels), torch.randint(10, (batch,))
        graph = trace(model, images[:1])
        sampler = Sampler(Stagewise().search_space(WidthSpace().of(graph)))
        stages = find_stages(model, graph, images[:2])
        objective = StagewiseObjective(SuperNet(model, graph), stages, sampler)
        model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        objective.own.to(device)
        whole = images.to(device).contiguous(memory_format=torch.channels_last)
        return cls(objective, whole, labels.to(device), precision)

    @property
    def model(self) -> nn.Module:
        """The super-net."""
        return self.objective.network.model

    def alone(self, subnet: Subnet) -> nn.Module:
        """A sub-network as a module of its own."""
        return materialize(self.model, self.objective.network.graph, subnet)

    def stepper(self, model: nn.Module, objective: Objective) -> Callable[[int], None]:
        """One training step with an update, by its seed."""
        model.train()
        cast = partial(autocast, self.images.device, self.precision)
        own = [] if objective.own is None else list(objective.own.parameters())
        optimizer = torch.optim.SGD([*model.parameters(), *own], lr=1e-3, momentum=0.9, weight_decay=5e-4)

        def forward(images: Tensor) -> Tensor:
            with cast():
                return logits_of(model(images)).float()

        def step(seed: int) -> None:
            objective.step(
                Step(
                    model=model,
                    images=self.images,
                    labels=self.labels,
                    number=seed,
                    seed=seed,
                    forward=forward,
                    autocast=cast,
                    backward=lambda loss: loss.backward(),
                )
            )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return step


def cost(lab: Lab) -> None:
    """Both measurements, for each network and precision."""
    s = lab.settings
    for name, pixels, batch in s.cost_networks:
        for precision in s.cost_precisions:
            key = f"{name}/{pixels}/{batch}/{precision}"
            start = partial(Subject.build, name, pixels, batch, precision)
            lab.records.once(f"cost/step/{key}", lambda start=start: step_times(start(), s.cost_rounds))  # type: ignore[misc]
            for images in s.cost_gene_images:
                more = partial(Subject.build, name, pixels, images, precision)
                compute = partial(_genes, more, s.cost_genes)
                lab.records.once(f"cost/genes/{name}/{pixels}/{images}/{precision}", compute)


def step_times(subject: Subject, rounds: int) -> dict[str, Any]:
    """Seconds of a super-net step and of the plain steps, in turns; the random sub-network changes every round."""
    plain = TrainConfig(precision=subject.precision)
    whole = subject.stepper(copy.deepcopy(subject.model), Supervised(plain))
    small = subject.stepper(subject.alone(subject.objective.sampler.smallest), Supervised(plain))
    ours = subject.stepper(subject.model, subject.objective)
    times: dict[str, list[float]] = {"supernet": [], "full": [], "random": [], "smallest": []}
    work: list[float] = []
    for turn in range(rounds + WARM_UP):
        drawn = subject.objective.sampler.layerwise(turn)
        random = subject.alone(drawn)
        sides = {"supernet": ours, "full": whole, "random": subject.stepper(random, Supervised(plain))}
        for name, step in {**sides, "smallest": small}.items():
            spent, _ = _timed(partial(step, turn), subject.images.device)
            if turn >= WARM_UP:
                times[name].append(spent)
        work.append(work_ratio(subject, drawn))
    ratios = [
        own / sum(parts)
        for own, *parts in zip(times["supernet"], times["full"], times["random"], times["smallest"], strict=True)
    ]
    return {"times": times, "ratios": ratios, "work": median(work), "threads": torch.get_num_threads()}


def work_ratio(subject: Subject, random: Subnet) -> float:
    """Multiply-adds of a super-net step over those of the plain steps: whole inputs of stages, and adapters."""
    objective = subject.objective
    graph, stages = objective.network.graph, objective.stages
    whole, full = CostModel(graph), graph.subnet()
    plain, ours = whole.macs(full), whole.macs(full)
    for subnet in (random, objective.sampler.smallest):
        plain += whole.macs(subnet)
        for index, stage in enumerate(stages.stages):
            ours += CostModel(graph, stages.modules[index].__contains__).macs(stages.inside(index, subnet))
            if stage.leaves is not None:
                left, channels = stages.left(index, subnet), len(stage.leaves[1])
                ours += prod(stage.resolution) * channels * (channels if left is None else len(left))
    return ours / plain


def _timed(action: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """Seconds of an action, to its end on an accelerator, and what it returned."""
    wait = torch.cuda.synchronize if device.type == "cuda" else nullcontext
    wait()
    start = perf_counter()
    value = action()
    wait()
    return perf_counter() - start, value


def _genes(build: Callable[[], Subject], count: int) -> dict[str, Any]:
    return gene_times(build(), count)


def gene_times(subject: Subject, count: int) -> dict[str, Any]:
    """Seconds of each gene evaluated by `StageLoss`, and on a materialised copy; in turns, the same genes.

    Both by the learned adapter, so that the losses can be compared.
    """
    objective = subject.objective
    times: dict[str, list[float]] = {"shared": [], "materialised": []}
    subject.model.eval()
    stored = stored_features(objective, [subject.images], subject.precision)
    copies = partial(materialised_loss, subject, stored[0])
    sides: dict[str, Callable[[int, Tensor], float]] = {
        "shared": StageLoss(objective, stored, subject.precision, adapters="learned"),
        "materialised": copies,
    }
    gaps: list[float] = []
    graph, device = objective.network.graph, subject.images.device
    for index in range(-1, count):  # the first only warms up
        widths = graph.widths(objective.sampler.layerwise(index + 1))
        for stage in range(len(objective.stages)):
            found = []
            for name, evaluate in sides.items():
                spent, value = _timed(partial(evaluate, stage, widths), device)
                found.append(value)
                if index >= 0:
                    times[name].append(spent)
            gaps.append(abs(found[0] - found[1]) / max(found))
    return {"medians": {name: median(spent) for name, spent in times.items()}, "times": times, "gap": max(gaps)}


@torch.no_grad()
def materialised_loss(subject: Subject, batch: StoredBatch, stage: int, widths: Tensor) -> float:
    """What `StageLoss` gives, on a copy of the stage's sub-network that is made for it."""
    objective = subject.objective
    stages, subnet = objective.stages, objective.sampler.of(widths)
    inside = stages.inside(stage, subnet)
    small = subject.alone(inside)
    site, given = stages.stages[stage].enters, batch.given[stage]
    if site is not None:
        keep = inside.kept_at(site[1])
        given = given.index_select(site[0], keep.nonzero()[:, 0].to(given.device))
    with evaluating(small):
        for module in small.modules():
            if isinstance(module, _BatchNorm):
                module.training = True  # `evaluating` puts it back
        with autocast(given.device, subject.precision):
            found = objective.own(stage, run_part(small, stages.stages[stage].part, given), subnet)
    return float(feature_loss(found, batch.targets[stage]))
