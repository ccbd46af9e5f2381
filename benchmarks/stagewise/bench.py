"""The network, its data and budget, and the super-nets that are trained on them: what every worker has."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from benchmarks.experiments import fresh_network
from benchmarks.stagewise.settings import StagewiseSettings
from widthwise import Budget, CostModel, Subnet, WidthSpace, build_model, materialize, trace
from widthwise.data import ImageData, Split, at_most
from widthwise.evaluate.devices import search_device
from widthwise.methods import Stagewise, Task, Trainer
from widthwise.methods.initialise import fresh
from widthwise.parallel import ParallelConfig
from widthwise.runs import write_atomic
from widthwise.search import DivisionSettings, Log, SilentSearchReporter, Widths
from widthwise.subnet import Space, SuperNet
from widthwise.supernet import (
    FeatureLosses,
    PruningNet,
    Sampler,
    SinglePathObjective,
    SlimmableObjective,
    StageLoss,
    StagewiseObjective,
)
from widthwise.train import TrainConfig, fit
from widthwise.train.objective import Objective

__all__ = ["VARIANTS", "Bench", "Forgetful", "supernet_of"]

VARIANTS: dict[str, dict[str, Any]] = {
    "inplace": {},
    "chained": {"chained": 400},
    "pretrained": {"teacher": "given"},
    "other": {"teacher": "other"},
    "no-small": {"smallest": False},
}
"""Kinds of stage-wise pruning: the paper's; with networks judged whole (on the same super-net); with the
teachers S1 and S2 (table 3); without the smallest sub-network."""


def supernet_of(variant: str) -> str:
    """Networks are judged whole on the super-net, and after the division, of the paper's kind."""
    return "inplace" if variant == "chained" else variant


class Forgetful:
    """A log for what needs none."""

    events: tuple[dict[str, Any], ...] = ()

    def append(self, event: Mapping[str, Any]) -> None:
        """Lets go of it."""


@dataclass(frozen=True, eq=False)
class Bench:
    """Everything that is derived from the settings and the data, and finished trainings, loaded when asked for."""

    settings: StagewiseSettings
    data: ImageData
    out: Path
    """Folder of the experiment; checkpoints lie in ``trainings``."""
    name: str
    """Of the network."""

    @cached_property
    def model(self) -> nn.Module:
        """The traced full network with fresh weights."""
        return fresh_network(self.name, self.data, self.settings.seed)

    @cached_property
    def task(self) -> Task:
        """Stage-wise pruning's task; `Forgetful` of what it logs."""
        return self.task_of(self.model, Forgetful())

    @cached_property
    def space(self) -> Space:
        """The paper's 31 ratios of every width."""
        return Stagewise().search_space(self.task.space)

    @cached_property
    def sampler(self) -> Sampler:
        """Draws from the paper's 31 ratios."""
        return Sampler(self.space)

    def task_of(self, model: nn.Module, log: Log, training: str = "task") -> Task:
        """A search on some weights of the network, with trainings in a folder of that name."""
        graph = trace(model, self.data.example())
        cost, space = CostModel(graph), WidthSpace().of(graph)
        limits = Budget(macs=self.settings.budget).on(cost, space)
        trainer = Trainer(self.out / "trainings" / training, self.data)
        return Task(model, graph, cost, space, limits, self.data, log, SilentSearchReporter(), trainer)

    def parallel(self) -> ParallelConfig:
        """Where genes are evaluated."""
        return ParallelConfig(workers=self.settings.workers, threads=self.settings.threads)

    def small(self, widths: tuple[int, ...], seed: int) -> nn.Module:
        """A network of these widths with fresh weights."""
        task = self.task
        network = materialize(task.model, task.graph, self.sampler.of(torch.tensor(widths)))
        fresh(network, seed)
        return network

    # -- trainings that others build on: done once, then loaded from their checkpoints

    @cached_property
    def full(self) -> nn.Module:
        """The full network, trained with one pass per step."""
        return self._trained("full", copy.deepcopy(self.model), self.settings.single_pass)

    @cached_property
    def slimmable(self) -> nn.Module:
        """The universally slimmable super-net."""
        model = copy.deepcopy(self.model)
        objective = SlimmableObjective(SuperNet(model, self.task.graph), self.sampler)
        return self._trained("slimmable", model, self.settings.supernet, objective)

    @cached_property
    def meta(self) -> tuple[PruningNet, nn.Module]:
        """MetaPruning's generator, and the model whose other tensors are shared."""
        model = copy.deepcopy(self.model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            generator = PruningNet(model, self.task.graph)
        objective = SinglePathObjective(SuperNet(model, self.task.graph), self.sampler, generator)
        self._trained("meta", model, self.settings.single_pass, objective)
        return generator.to(search_device()), model

    @cached_property
    def other_teacher(self) -> Path:
        """Weights of the teacher of another architecture."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            model = build_model(self.settings.other_teacher, num_classes=self.data.num_classes)
        self._trained("other-teacher", model, self.settings.teacher)
        path = self.out / "trainings" / "other-teacher.safetensors"
        tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
        write_atomic(path, lambda temporary: temporary.write_bytes(save(tensors)))
        return path

    def method(self, variant: str) -> Stagewise:
        """The method with a super-net of this kind."""
        s, options = self.settings, {"chained": 0, **VARIANTS[variant]}
        if options.get("teacher") == "other":
            options |= {"teacher": s.other_teacher, "teacher_weights": self.other_teacher}
        return Stagewise(
            start="fresh",
            supernet=s.supernet,
            division=DivisionSettings(evaluations=s.evaluations, exhaustive=s.exhaustive, seed=s.seed),
            search_images=s.search_images,
            search_batch=s.search_batch,
            parallel=self.parallel(),
            seed=s.seed,
            **options,
        )

    def stagewise_task(self, variant: str, log: Log) -> Task:
        """What the method is given: for S1 the trained network, whose features teach."""
        pretrained = VARIANTS[variant].get("teacher") == "given"
        model = copy.deepcopy(self.full).cpu() if pretrained else self.model
        return self.task_of(model, log, f"stagewise-{supernet_of(variant)}")

    def stagewise(self, variant: str) -> StagewiseObjective:
        """A trained stage-wise super-net with its stages and adapters."""
        return self.method(variant).prepare(self.stagewise_task(variant, Forgetful()))

    @cached_property
    def stage_losses(self) -> StageLoss:
        """Of the paper's kind, on the stored features of its search."""
        objective, batch = self.stagewise("inplace"), self.settings.search_batch
        return FeatureLosses(objective, self.search_images, batch, search_device()).stored()

    def single_path(self, candidates: int, epochs: int) -> tuple[nn.Module, Sampler]:
        """A super-net of plain weight sharing with so many widths per layer."""
        model = copy.deepcopy(self.model)
        sampler = Sampler(Stagewise(ratios=candidates).search_space(self.task.space))
        objective = SinglePathObjective(SuperNet(model, self.task.graph), sampler)
        name = f"single-path-{self.name}-{candidates}-{epochs}"
        return self._trained(name, model, self.settings.single_path(epochs), objective), sampler

    def _trained(
        self, name: str, model: nn.Module, config: TrainConfig, objective: Objective | None = None
    ) -> nn.Module:
        path = self.out / "trainings" / f"{name}.pt"
        fit(model, self.data.train, config, objective=objective, checkpoint=path)
        return model.eval().to(search_device())

    # -- images

    @cached_property
    def calibration(self) -> Split:
        """For batch-norm statistics."""
        return at_most(self.data.train, self.settings.calibration_images, self.settings.seed)

    @cached_property
    def judge_val(self) -> Split:
        """What the accuracy of a sub-network is looked up on."""
        return at_most(self.data.val, self.settings.judge_images, self.settings.seed)

    @cached_property
    def search_images(self) -> Tensor:
        """[images, C, H, W]: what features are stored of; those of :class:`widthwise.Stagewise`."""
        chosen = at_most(self.data.val, self.settings.search_images, self.settings.seed)
        return torch.cat([images for images, _ in chosen.batches(self.settings.search_batch)])

    @cached_property
    def full_task(self) -> Task:
        """The trained full network as FNNP's task: filters are ranked by its weights."""
        return self.task_of(copy.deepcopy(self.full).cpu(), Forgetful())

    @cached_property
    def by_l1(self) -> Callable[[Widths], Subnet]:
        """The sub-network of the trained full network with the largest filters."""
        graph = self.full_task.graph
        return partial(graph.top, graph.importance("l1"))
