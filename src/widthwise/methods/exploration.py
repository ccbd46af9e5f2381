"""Exploration and estimation: a keep probability for every channel of a trained network, found by sampling.

Zhang, Gao and Huang, "Exploration and Estimation for Model Compression". The weights stay as they are; sub-networks are
drawn from a distribution under the budget, which is moved about (exploration) and pulled to where losses are low
(estimation). What is likelier kept than not is fine-tuned.

Where we differ, and why, is said where it happens: ``exploration/budget.py`` (the constraint), ``distribution.py`` (the
weights of samples), ``estimate.py`` (the price of the budget), ``surrogate.py`` (less noise in the gradients),
``prior.py`` (where the probabilities start).
"""

import copy
from dataclasses import dataclass, field
from time import perf_counter

from widthwise.data import at_most
from widthwise.errors import ConfigError
from widthwise.evaluate import Precision
from widthwise.evaluate.devices import search_device
from widthwise.exploration import (
    ExplorationEstimation,
    ExplorationSettings,
    SampleLosses,
    Statistics,
    batches_per_epoch,
    best_widths,
    by_rank,
    explore_and_estimate,
)
from widthwise.exploration.search import Evaluate
from widthwise.methods.base import Found, Task, check_choices, check_least
from widthwise.methods.evaluators import AdaptiveBN, inherited
from widthwise.methods.ranking import Ranking, scores_of
from widthwise.parallel import ParallelConfig, workers
from widthwise.search import Evolution, Trial, Widths, balanced_widths

__all__ = ["Exploration"]


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """Settings of exploration and estimation; a method for :func:`widthwise.compress`."""

    epochs: int = 300
    """Passes over the images; each batch is one step of the search."""
    images: int = 2500
    """Training images that sub-networks are judged on (10,000 for ImageNet); fewer if there are no more."""
    batch: int = 125
    """Images of a batch."""
    prior: Ranking | None = "l1"
    """What orders the channels of a group at the start (``sensitivity`` also gives widths to start with); with none all
    start at p = 1 (the paper; with a ``t_alpha`` above 1, and many more epochs)."""
    prior_spread: float = 1.0
    """Log-odds of the most important channel of a group at the start, beside the middle one."""
    candidates: int = 100
    """Width strategies that are judged before the first step, by evolution and with the ``prior``'s channels; the
    search starts at the best one (ours). 0 starts at uniform width; without a prior there are none."""
    candidate_batches: int = 5
    """Batches that each of them is judged on."""
    settings: ExplorationSettings = field(default_factory=ExplorationSettings)
    """Of Algorithm 1."""
    statistics: Statistics = "batch"
    """What batch norms of a sample normalise with; ``global``, those of the full network, is the paper."""
    precision: Precision = "fp32"
    """Of the evaluations."""
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    """Where they are made."""
    calibration_images: int = 1000
    """Training images for the statistics of the final sub-network, when its accuracy is measured for the record."""
    seed: int = 0
    """Of all that is drawn, and of the choice and the order of images."""

    def __post_init__(self) -> None:
        check_choices(self, statistics=Statistics)
        if self.prior is not None:
            check_choices(self, prior=Ranking)
        if self.prior_spread < 0:
            raise ConfigError(f"prior_spread is 0 or above, but got {self.prior_spread}.")
        check_least(self, epochs=1, images=2, batch=2, calibration_images=2, candidates=0, candidate_batches=1)

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
        """Explore and estimate; the one sub-network that the probabilities end with is fine-tuned."""
        start, images = perf_counter(), at_most(task.data.train, self.images, self.seed)
        batch = min(self.batch, len(images))
        batches = batches_per_epoch(images, batch)
        steps = self.epochs * batches
        judge = SampleLosses(
            copy.deepcopy(task.model),
            task.graph,
            images,
            batch,
            self.seed,
            statistics=self.statistics,
            precision=self.precision,
            device=search_device(),
        )
        every = task.space.full
        with task.reporter as reporter, workers(self.parallel, judge) as pool:
            first = self.first_widths(task, pool.map, min(self.candidate_batches, batches))
            subnet = explore_and_estimate(
                self.make_searcher(task, first),
                pool.map,
                task.log,
                steps=steps,
                batches=batches,
                workers=self.parallel.workers,
                on_step=lambda step, accuracy: reporter.trial(Trial(step, every, accuracy, 0.0), steps),
            )
        calibration = at_most(task.data.train, self.calibration_images, self.seed)
        score = AdaptiveBN(inherited(task.model, task.graph), calibration, task.data.val, self.precision)(subnet)
        widths = task.graph.widths(subnet)
        return Found([Trial(steps, widths, score, perf_counter() - start)], [subnet])

    def first_widths(self, task: Task, evaluate: Evaluate, batches: int) -> Widths | None:
        """The widths that the search starts at; None where nothing is tried.

        Args:
            task: the search.
            evaluate: runs draws.
            batches: that each strategy is judged on.
        """
        if self.prior is None or not self.candidates:
            return None
        scores = scores_of(task, self.prior, seed=self.seed)
        starts = [balanced_widths(task.space, task.limits, scores)] if self.prior == "sensitivity" else []
        return best_widths(
            Evolution(task.space, task.limits, first=starts, seed=self.seed),
            evaluate,
            task.graph,
            scores,
            task.log,
            candidates=self.candidates,
            batches=batches,
            workers=self.parallel.workers,
        )

    def make_searcher(self, task: Task, widths: Widths | None = None) -> ExplorationEstimation:
        """The search before its first sample, at uniform width if no widths are given."""
        first = None
        if self.prior is not None:
            first = by_rank(task.graph, scores_of(task, self.prior, seed=self.seed), self.prior_spread, widths)
        return ExplorationEstimation(task.space, task.limits, self.settings, start=first, seed=self.seed)
