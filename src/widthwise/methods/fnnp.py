"""FNNP: many cheap candidates, ranked after adaptive batch norm, the best fine-tuned.

"FNNP: Fast Neural Network Pruning Using Adaptive Batch Normalization" (ICLR 2020 submission; published as EagleEye,
ECCV 2020). Strategy generation draws a pruning rate per layer; filter pruning keeps the filters with the largest L1
norm; the evaluation recomputes batch-norm statistics and measures accuracy on validation images.

Where we differ by default, and why (docs/fnnp.md has the figures): the paper draws rates ``U[0, R]``; in deep networks
nearly all such strategies are worse than uniform width, so strategies come from a search that learns from the scores.
It starts where the sensitivities of channels say (:func:`widthwise.search.balanced_widths`), at uniform width and with
residual streams nearly whole. ``strategy="random"`` is the paper's.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from widthwise.data import at_most
from widthwise.errors import ConfigError
from widthwise.evaluate import Precision
from widthwise.methods.base import Found, Task, check_choices, check_least
from widthwise.methods.evaluators import AdaptiveBN, Evaluator, EvaluatorName, GlobalBN, ShortTraining, inherited
from widthwise.methods.ranking import Ranking, scores_of
from widthwise.search import (
    Evolution,
    RandomRates,
    Searcher,
    ThompsonSampling,
    balanced_widths,
    best_first,
    run_search,
)
from widthwise.train import TrainConfig

__all__ = ["FNNP", "StrategyName"]

StrategyName = Literal["thompson", "evolution", "random"]


@dataclass(frozen=True, kw_only=True)
class FNNP:
    """Settings of FNNP; a method for :func:`widthwise.compress`."""

    candidates: int = 100
    """Strategies to score (the paper: 1000 for ResNet-50, 1500 for MobileNet v1)."""
    strategy: StrategyName = "thompson"
    """How strategies are generated: ``random`` is the paper's, ``evolution`` what it suggests, ``thompson``
    (:class:`widthwise.search.ThompsonSampling`) finds better ones in as many candidates."""
    max_rate: float = 0.7
    """R of ``random`` and ``evolution``: the largest pruning rate of a layer, in (0, 1]. The budget may force more:
    then raise it. ``thompson`` finds out what a layer bears; a ``WidthSpace`` sets bounds to all of them."""
    importance: Ranking = "l1"
    """Which filters of a layer stay. By ``sensitivity`` (:func:`widthwise.evaluate.sensitivity`) candidates lose less,
    but an epoch of fine-tuning later they are level or behind."""
    sensitivity_images: int = 1000
    """Training images for the sensitivities that say where a search starts; without any (0) it has to find out."""
    evaluator: EvaluatorName = "adaptive_bn"
    """How a candidate is judged."""
    calibration_images: int = 1000
    """Training images for the statistics (the paper: 1/55 of ImageNet's)."""
    validation_images: int | None = None
    """Validation images to judge by; all of them if not given."""
    short_training: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=1, lr=0.01))
    """Of the evaluator ``short_training``."""
    finalists: int = 2
    """How many of the best are fine-tuned."""
    precision: Precision = "fp32"
    """Of the evaluations."""
    seed: int = 0
    """Of strategies and of the choice of images."""

    def __post_init__(self) -> None:
        images = int(self.importance == "sensitivity")
        check_least(self, candidates=1, calibration_images=2, finalists=1, sensitivity_images=images)
        if not 0 < self.max_rate <= 1:
            raise ConfigError(f"max_rate (R) is a share in (0, 1], but got {self.max_rate}.")
        check_choices(self, strategy=StrategyName, evaluator=EvaluatorName, importance=Ranking)

    @property
    def needs_trained(self) -> bool:
        """Always."""
        return True

    @property
    def needs_budget(self) -> bool:
        """Always."""
        return True

    @property
    def inherits(self) -> bool:
        """Always."""
        return True

    def search(self, task: Task) -> Found:
        """Score ``candidates`` strategies under the budget; the best are the finalists."""
        evaluate = self.make_evaluator(task)
        ranking = scores_of(task, self.importance, images=self.sensitivity_images, seed=self.seed)
        with task.reporter as reporter:
            trials = run_search(
                self.make_searcher(task),
                partial(map, lambda widths: evaluate(task.graph.top(ranking, widths))),
                self.candidates,
                task.log,
                on_trial=lambda trial: reporter.trial(trial, self.candidates),
            )
        ranked = best_first(trials)
        different = list({tuple(t.widths.tolist()): t for t in ranked}.values())
        return Found(ranked, [task.graph.top(ranking, t.widths) for t in different[: self.finalists]])

    def make_searcher(self, task: Task) -> Searcher:
        """The strategy generation."""
        if self.strategy == "random":
            return RandomRates(task.space, task.limits, max_rate=self.max_rate, seed=self.seed)
        starts = []
        if self.sensitivity_images:
            scores = scores_of(task, "sensitivity", images=self.sensitivity_images, seed=self.seed)
            starts.append(balanced_widths(task.space, task.limits, scores))
        if self.strategy == "evolution":
            return Evolution(task.space, task.limits, first=starts, max_rate=self.max_rate, seed=self.seed)
        return ThompsonSampling(task.space, task.limits, first=starts, seed=self.seed)

    def make_evaluator(self, task: Task) -> Evaluator:
        """How candidates are judged."""
        build, train = inherited(task.model, task.graph), task.data.train
        val = at_most(task.data.val, self.validation_images, self.seed)
        if self.evaluator == "global_bn":
            return GlobalBN(build, val, self.precision)
        if self.evaluator == "short_training":
            return ShortTraining(build, train, val, replace(self.short_training, seed=self.seed))
        calibration = at_most(train, self.calibration_images, self.seed)
        return AdaptiveBN(build, calibration, val, self.precision)
