"""No search: widths by a rule. What every search has to beat."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from widthwise.methods.base import Found, Task, check_choices, check_least
from widthwise.methods.ranking import Ranking, scores_of
from widthwise.search import balanced_widths, shared_widths, uniform_widths
from widthwise.train import TrainConfig

__all__ = ["Baseline", "WidthRule"]

WidthRule = Literal["uniform", "shared", "balanced"]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Settings of a baseline; a method for :func:`widthwise.compress`.

    A rule says how many channels each layer keeps, ``importance`` which of them.
    """

    widths: WidthRule = "balanced"
    """What the sensitivities of channels ask for (``balanced``, :func:`widthwise.search.balanced_widths`); or the same
    share of every layer (``uniform``); or (``shared``, :func:`widthwise.search.shared_widths`) the more, the more
    layers share the channels: residual streams stay nearly whole."""
    importance: Ranking = "sensitivity"
    """Which channels stay: by ``sensitivity`` (:func:`widthwise.evaluate.sensitivity`), ``l1`` (Li et al. 2017),
    ``geometric_median`` (FPGM, He et al. 2019), ``bn_scale`` (network slimming, Liu et al. 2017), ``l2``, or
    ``random``."""
    sensitivity_images: int = 1000
    """Training images for sensitivities."""
    scratch: TrainConfig | None = None
    """Train the small network like this from fresh weights, instead of fine-tuning those that stay."""
    seed: int = 0
    """Of ``random``, and of the choice of images."""

    def __post_init__(self) -> None:
        check_least(self, sensitivity_images=1)
        check_choices(self, widths=WidthRule, importance=Ranking)

    @property
    def needs_trained(self) -> bool:
        """Unless the weights are thrown away."""
        return self.scratch is None

    @property
    def needs_budget(self) -> bool:
        """Always."""
        return True

    @property
    def inherits(self) -> bool:
        """Unless it is trained from fresh weights."""
        return self.scratch is None

    def search(self, task: Task) -> Found:
        """The widths by the rule, and the channels that matter most."""
        scores = partial(scores_of, task, images=self.sensitivity_images, seed=self.seed)
        if self.widths == "balanced":
            widths = balanced_widths(task.space, task.limits, scores("sensitivity"))
        else:
            widths = {"uniform": uniform_widths, "shared": shared_widths}[self.widths](task.space, task.limits)
        return Found([], [task.graph.top(scores(self.importance), widths)], retrain=self.scratch)
