"""What the three kinds of training of joint search-and-training minimise (equations 1, 8 and 9)."""

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from widthwise.joint.weights import Weighted
from widthwise.train.objective import Outcome, Step

__all__ = ["WeightedObjective"]

Trains = Literal["both", "network", "weights"]


class WeightedObjective:
    """A weighted network learns the labels, as an :class:`~widthwise.train.Objective`.

    Args:
        weighted: the network with its filter weights.
        trains: the network and the weights (coarse training, equation 1), the network (equation 8) or the weights
            (equation 9); what is not trained must not require gradients.
        penalty: lambda of equation 1: how much the Euclidean norm of the weights counts.
        label_smoothing: of the cross-entropy.
        name: of the training, for the record.
    """

    one_pass = False
    frozen: tuple[nn.Module, ...] = ()

    def __init__(
        self, weighted: Weighted, trains: Trains, *, penalty: float = 0.0, label_smoothing: float = 0.0, name: str = ""
    ) -> None:
        self.weighted, self.own, self._trains = weighted, weighted.weights, trains
        self.penalty, self._smoothing, self._name = penalty, label_smoothing, name

    def describe(self) -> dict[str, Any]:
        """What decides the outcome beside the training's settings."""
        kept = int(self.weighted.subnet.keep.sum())
        facts = {"objective": "weighted", "trains": self._trains, "penalty": self.penalty, "name": self._name}
        return {**facts, "placement": self.weighted.weights.placement, "kept": kept}

    def step(self, step: Step) -> Outcome:
        """One pass of the whole network; ``parts`` holds the loss and the norm of the weights."""
        with self.weighted.applied():
            logits = step.forward(step.images)
        task = F.cross_entropy(logits, step.labels, label_smoothing=self._smoothing)
        norm: Tensor = self.weighted.weights.penalty()
        loss = task + self.penalty * norm
        step.backward(loss)
        return Outcome(logits=logits.detach(), loss=loss.detach(), parts={"task": task.detach(), "norm": norm.detach()})
