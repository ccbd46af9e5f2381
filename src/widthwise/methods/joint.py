"""Joint search-and-training: from fresh weights to a compact network in one run.

Lu et al., "Beyond Network Pruning: a Joint Search-and-Training Approach". A target network is trained coarsely with a
weight per filter; then sub-networks of it are sampled, trained in turns with it, and the best one is fine-tuned. There
is no pre-trained network, and how wide the layers become is learned while they train.

The paper steers the size through gamma alone. With a budget every sampled sub-network meets it: the thresholds are all
raised to one power, found anew for each sample; the policy then decides on the distribution only.
"""

import copy
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from widthwise.data import JoinedSplit, Split
from widthwise.errors import ConfigError
from widthwise.evaluate.devices import search_device
from widthwise.joint import FilterWeights, JointSearch, Placement, Round, RoundSettings, Weighted, WeightedObjective
from widthwise.joint.sampler import check_below_one, check_rate
from widthwise.methods.base import Found, Task, check_choices
from widthwise.methods.initialise import fresh
from widthwise.search import Trial, best_first
from widthwise.subnet import materialize
from widthwise.train import TrainConfig

__all__ = ["STATE", "Joint"]

STATE = "joint.pt"
"""The state of a search, among the checkpoints of a run."""

Images = Literal["all", "train"]
Start = Literal["given", "fresh"]


def _coarse() -> TrainConfig:
    """The paper's settings for CIFAR (section 4.1)."""
    return TrainConfig(epochs=100, batch_size=128, lr=0.1, weight_decay=5e-5, schedule="cosine")


@dataclass(frozen=True, kw_only=True)
class Joint:
    """Settings of joint search-and-training; a method for :func:`widthwise.compress`."""

    start: Start = "fresh"
    """Whether the target network starts from fresh weights (the paper), or from those that it comes with."""
    coarse: TrainConfig = field(default_factory=_coarse)
    """How the target network is trained before the search."""
    coarse_images: Images = "all"
    """On the training and validation images (the paper), or on the training images only."""
    penalty: float = 1e-4
    """lambda: what the Euclidean norm of the filter weights counts in coarse training (equation 1). The paper has 0.1;
    but the gradient of a norm has length 1 however short the weights are, so at 0.1 they are all zero within hundreds
    of steps, and with them what was to be learned (docs/joint.md)."""
    placement: Placement = "consumers"
    """Where a filter weight acts: where its channel is consumed, or on the filter itself (the paper, equation 6), where
    a batch norm takes it back."""
    rounds: RoundSettings = field(default_factory=RoundSettings)
    """Of the search."""
    finetune_images: Images = "all"
    """What the winner is fine-tuned on. With ``all`` (the paper) its accuracy on the validation images is no estimate
    any more."""
    seed: int = 0
    """Of fresh weights, filter weights, and all that is sampled."""

    def __post_init__(self) -> None:
        check_choices(self, start=Start, coarse_images=Images, finetune_images=Images, placement=Placement)
        if self.penalty < 0:
            raise ConfigError(f"penalty (lambda) is 0 or above, but got {self.penalty}.")

    @property
    def needs_trained(self) -> bool:
        """Only where it starts from given weights."""
        return self.start == "given"

    @property
    def needs_budget(self) -> bool:
        """Without one, gamma alone decides on the size."""
        return False

    @property
    def inherits(self) -> bool:
        """Finalists come with the weights that they were searched with."""
        return False

    def search(self, task: Task) -> Found:
        """Train coarsely, then sample and train in turns; the best sub-network of any round is what is fine-tuned."""
        if self.rounds.fixed_rate is not None:
            check_rate(self.rounds.fixed_rate, under_budget=bool(task.limits.limits))
        elif task.limits.limits:
            check_below_one(self.rounds.thresholds)
        parent, weights = self._coarsely_trained(task)
        target = copy.deepcopy(parent)
        Weighted(target, task.graph, task.graph.subnet(), weights).fold()
        state = task.trainer.folder / "checkpoints" / STATE
        with task.reporter as reporter:
            search = JointSearch(
                parent,
                weights,
                task.space,
                task.limits,
                self.rounds,
                task.data,
                task.trainer,
                state,
                task.log,
                seed=self.seed,
                device=search_device(),
                on_round=lambda done: reporter.trial(_trial(done), self.rounds.rounds),
            )
            best = search.run()
        small = materialize(target, task.graph, best.subnet)
        small.load_state_dict(best.network)
        trials = best_first([_trial(done) for done in search.rounds])
        return Found(trials, [best.subnet], target, starts=[small], train=self._images(self.finetune_images, task))

    def _coarsely_trained(self, task: Task) -> tuple[nn.Module, FilterWeights]:
        """Line 3 of Algorithm 2."""
        model = copy.deepcopy(task.model)
        if self.start == "fresh":
            fresh(model, self.seed)
        weights = FilterWeights(task.graph, self.placement, seed=self.seed).to(next(model.parameters()))
        whole = Weighted(model, task.graph, task.graph.subnet(), weights)
        smoothing = self.coarse.label_smoothing
        objective = WeightedObjective(whole, "both", penalty=self.penalty, label_smoothing=smoothing)
        images = self._images(self.coarse_images, task)
        task.trainer.fit("coarse", model, self.coarse, objective=objective, train=images, validate=False)
        return model, weights

    @staticmethod
    def _images(images: Images, task: Task) -> Split:
        return task.data.train if images == "train" else JoinedSplit(task.data.train, task.data.val)


def _trial(done: Round) -> Trial:
    return Trial(done.index, torch.tensor(done.widths), done.accuracy, done.seconds)
