"""What a training minimises: the part of the loop that a caller may hand over."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

__all__ = ["Objective", "Outcome", "Step"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Step:
    """All that an objective gets for one optimiser step."""

    model: nn.Module
    """The network itself, in training mode; its parameters collect gradients."""
    images: Tensor
    """[batch, C, H, W], in the model's type, on the device; with several processes, this one's share."""
    labels: Tensor
    """int64 [batch]."""
    number: int
    """Steps taken before this one, from the start of the training."""
    seed: int
    """Below 2^32, from the training's seed and `number` alone, the same in every process: all randomness of the
    objective must come from here, or a resumed training would end with other weights."""
    forward: Callable[[Tensor], Tensor]
    """Runs the whole network as the settings say (autocast, compiled, distributed): images to class scores, float32
    [batch, classes]. It also checks the labels at the first step, so call it before a loss that trusts them."""
    autocast: Callable[[], AbstractContextManager[Any]]
    """The mixed precision of the settings, for what the objective runs by itself; losses belong outside."""
    backward: Callable[[Tensor], None]
    """Adds the gradients of a scalar; call it outside of `autocast`, as often as there are parts."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Outcome:
    """What one step found, for the record; nothing here needs gradients."""

    logits: Tensor
    """Class scores of the full network, [batch, classes]."""
    loss: Tensor
    """What was minimised, scalar: the mean over the batch. It must be finite."""
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """Scalars by name, for progress and TensorBoard; the same names at every step."""


@runtime_checkable
class Objective(Protocol):
    """Computes gradients; the loop does all the rest (precision, clipping, the step, checkpoints, placement)."""

    @property
    def one_pass(self) -> bool:
        """Whether each step calls `forward` once and `backward` once, and runs the model in no other way.

        With several processes gradients are then averaged while the backward pass still runs; otherwise, after it.
        """
        ...

    @property
    def own(self) -> nn.Module | None:
        """Parameters trained beside the network's (adapters). They are part of checkpoints; None where there are none.

        It must neither contain the network nor anything of `frozen`.
        """
        ...

    @property
    def frozen(self) -> tuple[nn.Module, ...]:
        """Other networks that it runs: put beside the model, in evaluation mode, and back afterwards."""
        ...

    def describe(self) -> dict[str, Any]:
        """Its settings as JSON data: a training goes on from a checkpoint only where they are equal."""
        ...

    def step(self, step: Step) -> Outcome:
        """Runs whatever there is to run on one batch and calls `step.backward` on each part of the loss."""
        ...
