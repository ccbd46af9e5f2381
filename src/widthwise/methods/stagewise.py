"""Stage-wise pruning: a super-net trained stage by stage, a search over stages, the winner trained from scratch.

Zhang and Ou, "Stage-wise Channel Pruning for Model Compression". No sub-network is ever run as a whole: the full
network's features are the input and the target of every stage, so each stage has few candidates, is trained on all of
them, and can be searched by itself.

Where we differ by default, and why: a stage is judged through an adapter that is mended for each sub-network
(``adapters="refitted"``): after training, the one that is learned for all widths fits the full stage no longer. The
positions of a feature map are averaged (``positions="mean"``) where equation 7 sums them. The division of the budget
over the stages is solved exactly from the losses that were looked at (``division.how="knapsack"``), instead of by the
paper's evolution over evolutions (``"evolution"``). And some networks are then judged whole (``chained``): a sum of
losses on whole features puts networks of one budget in almost no order (a stage is asked for features that the next one
may do without), the loss of the last stage in a chain does. docs/stagewise.md has what was measured.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Literal

import torch
from torch import Tensor

from widthwise.data import at_most
from widthwise.errors import ConfigError, NonFiniteLoss
from widthwise.evaluate.devices import search_device
from widthwise.evaluate.modes import placement
from widthwise.methods.base import Found, Task, check_choices
from widthwise.methods.initialise import fresh
from widthwise.parallel import ParallelConfig, Pool, in_order, workers
from widthwise.search import (
    DivisionSettings,
    Evolution,
    RichDivisionReporter,
    RichSearchReporter,
    SilentDivisionReporter,
    SilentSearchReporter,
    StageLosses,
    StageProblem,
    Trial,
    Widths,
    best_first,
    divide,
    fill,
    run_search,
)
from widthwise.stages import Stages, find_stages
from widthwise.subnet import Space, SuperNet
from widthwise.supernet import (
    AdapterUse,
    FeatureLosses,
    Positions,
    Sampler,
    StagewiseObjective,
    Teacher,
)
from widthwise.tracing import trace
from widthwise.train import TrainConfig
from widthwise.zoo import build_model, input_options

__all__ = ["Stagewise"]

Weights = Literal["fresh", "inherited"]
Start = Literal["given", "fresh"]

INPLACE, GIVEN = "inplace", "given"

GENERATION = 20
"""Networks that are judged whole side by side."""


def _supernet() -> TrainConfig:
    """The paper's settings for CIFAR-10 (section 4.1)."""
    return TrainConfig(
        epochs=50,
        batch_size=512,
        lr=0.025,
        nesterov=False,
        weight_decay=3e-4,
        schedule="step",
        step_milestones=(0.2, 0.4, 0.6, 0.8),
    )


@dataclass(frozen=True, kw_only=True)
class Stagewise:
    """Settings of stage-wise pruning; a method for :func:`widthwise.compress`."""

    stages: tuple[str, ...] | str = ()
    """Paths of the modules that end the stages, in order; found from the resolution of the feature maps if empty."""
    ratios: int = 31
    """Widths of a layer to choose from, evenly spaced shares of the full width; 0 for all that the space allows."""
    least_ratio: float = 0.1
    """The smallest of them, in (0, 1)."""
    supernet: TrainConfig = field(default_factory=_supernet)
    """How the super-net is trained."""
    start: Start = "given"
    """Whether the super-net's training starts from the weights of the model, or from fresh ones (the paper)."""
    smallest: bool = True
    """Whether each step also trains the smallest sub-network."""
    teacher: str = INPLACE
    """Whose features the stages learn: ``inplace``, the full network's of the same step; ``given``, those of the model
    as it came (the paper's S1: pre-trained); or a model by name, such as ``timm:efficientnet_b0`` (S2)."""
    teacher_weights: Path | None = None
    """Weights of a teacher by name."""
    teacher_stages: tuple[str, ...] | str = ()
    """Stages of a teacher by name, like ``stages``."""
    division: DivisionSettings = field(default_factory=DivisionSettings)
    """How widths are searched for, and the budget divided over the stages."""
    chained: int = 400
    """Networks that are judged whole after the division (ours; 0 is the paper), by the loss of the last stage where
    each stage is fed by the one before; they evolve from the division's and from uniform width. None with another
    teacher: its features are not what the next stage was trained on."""
    search_images: int = 2048
    """Validation images whose features are stored for the search (the paper: 2048); fewer if there are no more."""
    search_batch: int = 512
    """Images per batch; batch norms normalise with the statistics of one."""
    adapters: AdapterUse = "refitted"
    """By which adapters a stage is judged in the search: ``refitted`` to each sub-network on half of the images
    (ours), or ``learned``, one for all widths (the paper), behind which an untouched stage seems to lose something."""
    positions: Positions = "mean"
    """How the search takes the positions of a stage's feature map: their ``mean`` (ours), or their ``sum``, as equation
    7 has it, by which stages of larger maps weigh more. The super-net is trained on means."""
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    """Where stages and genes are evaluated."""
    weights: Weights = "fresh"
    """Whether the winner is trained from scratch (the paper) or fine-tuned from the super-net's weights: a start, no
    more, because its stages have only seen whole inputs."""
    retrain: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=100, lr=0.1))
    """How it is trained from scratch."""
    seed: int = 0
    """Of the images, of fresh weights, and of adapters to a teacher of other widths."""

    def __post_init__(self) -> None:
        check_choices(self, start=Start, weights=Weights, adapters=AdapterUse, positions=Positions)
        if self.ratios < 0 or self.ratios == 1:
            raise ConfigError(f"ratios is a number of widths, 2 or more, or 0 for all of them, but got {self.ratios}.")
        if self.supernet.distill_weight:
            raise ConfigError(
                "A super-net is distilled in place, stage by stage, but got "
                f"supernet.distill_weight={self.supernet.distill_weight}; choose another teacher with `teacher`."
            )
        if not 0 < self.least_ratio < 1:
            raise ConfigError(f"least_ratio is a share in (0, 1), but got {self.least_ratio}.")
        if self.chained < 0:
            raise ConfigError(f"chained is a number of networks, 0 for none, but got {self.chained}.")
        if self.search_images < 2 or self.search_batch < 2:
            raise ConfigError(
                "search_images and search_batch are at least 2, because batch norms need more than one image, but got "
                f"{self.search_images} and {self.search_batch}."
            )
        named = self.teacher not in (INPLACE, GIVEN)
        if not named and (self.teacher_weights is not None or self.teacher_stages):
            raise ConfigError(
                "teacher_weights and teacher_stages belong to a teacher by name, but got "
                f"teacher={self.teacher!r}; name one, or leave them out."
            )

    @property
    def needs_trained(self) -> bool:
        """Only where the model as it came is the teacher."""
        return self.teacher == GIVEN

    def search_space(self, space: Space) -> Space:
        """The allowed widths nearest to the ratios."""
        if not self.ratios:
            return space
        ratios = torch.linspace(self.least_ratio, 1.0, self.ratios, dtype=torch.float64)
        rows = space.snap(ratios[:, None] * space.full)
        return Space(space.graph, tuple(column.unique() for column in rows.T))

    @property
    def needs_budget(self) -> bool:
        """Always."""
        return True

    @property
    def inherits(self) -> bool:
        """Where the winner keeps the weights of the super-net."""
        return self.weights == "inherited"

    def search(self, task: Task) -> Found:
        """Train the super-net, store the full network's features, and divide the budget over the stages."""
        objective = self.prepare(task)
        stages, space = objective.stages, self.search_space(task.space)
        stored = FeatureLosses(
            objective, self._images(task), self.search_batch, search_device(), self.adapters, self.positions
        )
        problem = stage_problem(task, stages, space)
        reporter = RichDivisionReporter() if task.trainer.progress else SilentDivisionReporter()
        start = perf_counter()
        with workers(self.parallel, stored) as pool:
            losses = StageLosses(problem, pool.map, task.log, on_loss=reporter.loss)
            division = divide(losses, self.division, reporter=reporter)
            divided = fill(problem.allowed, task.limits, division.widths)
            trials = self._refined(task, problem, divided, pool)
            widths = trials[0].widths if trials else divided
            final = losses.of(widths)
        found = {"losses": list(division.losses), "gap": division.gap, "genes": division.genes}
        chosen = {"widths": widths.tolist(), "losses": list(final)}
        if not any(event.get("event") == "division" for event in task.log.events):  # a run that goes on finds it again
            facts = {"stages": list(stages.names), "own": [list(own) for own in problem.own]}
            costs = {"before": _costs(problem, space.full), "after": _costs(problem, widths)}
            task.log.append({"event": "division", **facts, "found": found, "chosen": chosen, "costs": costs})
        trials = trials or [Trial(0, widths, -sum(final), perf_counter() - start)]
        parent = objective.network.model
        retrain = self.retrain if self.weights == "fresh" else None
        return Found(trials, [objective.sampler.of(widths)], parent, retrain)

    def _refined(
        self, task: Task, problem: StageProblem, divided: Widths, pool: Pool[tuple[int | None, Widths], float]
    ) -> list[Trial]:
        """Networks judged whole, the best one first: uniform width, the division's, and what evolves from them."""
        if not self.chained or self.teacher != INPLACE:
            return []

        def evaluate(asked: Sequence[Widths]) -> Iterator[float]:
            losses = in_order(pool.map([(None, widths) for widths in asked]))
            return (-_finite(loss, widths) for loss, widths in zip(losses, asked, strict=True))

        searcher = Evolution(
            problem.allowed, task.limits, first=[divided], generation=GENERATION, seed=self.division.seed
        )
        shown = RichSearchReporter(kind="loss") if task.trainer.progress else SilentSearchReporter()
        with shown as reporter:
            trials = run_search(
                searcher,
                evaluate,
                self.chained,
                task.log,
                at_once=GENERATION,
                on_trial=lambda trial: reporter.trial(trial, self.chained),
            )
        return best_first(trials)

    def prepare(self, task: Task) -> StagewiseObjective:
        """The super-net, trained, with its stages and adapters."""
        model = copy.deepcopy(task.model)
        if self.start == "fresh":
            fresh(model, self.seed)
        example = task.data.example().to(placement(model)[0])
        stages = find_stages(model, task.graph, example, _names(self.stages))
        objective = StagewiseObjective(
            SuperNet(model, task.graph),
            stages,
            Sampler(self.search_space(task.space)),
            smallest=self.smallest,
            teacher=self._teacher(task, stages, example),
            label_smoothing=self.supernet.label_smoothing,
            seed=self.seed,
        )
        task.trainer.fit("supernet", model, self.supernet, objective=objective)
        return objective

    def _teacher(self, task: Task, stages: Stages, example: Tensor) -> Teacher | None:
        if self.teacher == INPLACE:
            return None
        if self.teacher == GIVEN:
            return Teacher(copy.deepcopy(task.model), stages, stages)
        options = input_options(self.teacher, example.shape[1])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = build_model(
                self.teacher, num_classes=task.data.num_classes, weights=self.teacher_weights, **options
            )
        model.to(example.device)
        return Teacher(
            model, find_stages(model, trace(model, example[:1]), example, _names(self.teacher_stages)), stages
        )

    def _images(self, task: Task) -> Tensor:
        chosen = at_most(task.data.val, self.search_images, self.seed)
        return torch.cat([images for images, _ in chosen.batches(self.search_batch)])


def _finite(loss: float, widths: Widths) -> float:
    if not math.isfinite(loss):
        raise NonFiniteLoss(
            f"The loss of a chain of stages is a finite number, but that of widths {widths.tolist()} is {loss}. The "
            "super-net may have diverged: lower its learning rate, or judge no network whole (chained=0)."
        )
    return loss


def _names(stages: tuple[str, ...] | str) -> tuple[str, ...]:
    return (stages,) if isinstance(stages, str) else stages


def _costs(problem: StageProblem, widths: Widths) -> dict[str, list[int]]:
    """What each stage of a network costs, by metric; the sum is what the network costs."""
    rows = torch.cat([problem.cost(stage, widths[None]) for stage in range(problem.stages)])
    return dict(zip(problem.metrics, rows.T.tolist(), strict=True))


def stage_problem(task: Task, stages: Stages, space: Space) -> StageProblem:
    """The search for widths as numbers: who owns what, and what it costs."""
    costs = tuple(task.cost.part(modules.__contains__) for modules in stages.modules)
    somewhere = frozenset().union(*stages.modules)
    rest = task.cost.part(lambda module: module not in somewhere)
    return StageProblem(space=space, limits=task.limits, own=stages.own, costs=costs, rest=rest)
