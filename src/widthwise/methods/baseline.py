"""No search: widths by a rule. What every search has to beat."""

from dataclasses import dataclass
from typing import Literal

from widthwise.channels.importance import Importance
from widthwise.methods.base import Found, Task, check_choices
from widthwise.search import shared_widths, uniform_widths
from widthwise.train import TrainConfig

__all__ = ["Baseline", "WidthRule"]

WidthRule = Literal["uniform", "shared"]

RULES = {"uniform": uniform_widths, "shared": shared_widths}


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Settings of a baseline; a method for :func:`widthwise.compress`.

    Every layer keeps a share of its channels, as large as the budget allows: which of them, ``importance`` says.
    """

    widths: WidthRule = "uniform"
    """The same share of every layer, or (``shared``) the more, the more layers share the channels: residual streams
    stay nearly whole (:func:`widthwise.search.shared_widths`)."""
    importance: Importance = "l1"
    """Which channels stay: ``l1`` (Li et al. 2017), ``geometric_median`` (FPGM, He et al. 2019), ``bn_scale`` (network
    slimming, Liu et al. 2017), ``l2`` or ``random``."""
    scratch: TrainConfig | None = None
    """Train the small network like this from fresh weights, instead of fine-tuning those that stay."""
    seed: int = 0
    """Of ``random``."""

    def __post_init__(self) -> None:
        check_choices(self, widths=WidthRule, importance=Importance)

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
        ranking = task.graph.importance(self.importance, seed=self.seed)
        subnet = task.graph.top(ranking, RULES[self.widths](task.space, task.limits))
        return Found([], [subnet], retrain=self.scratch)
