"""One optimiser step of an objective outside of a training."""

from functools import partial

import torch
from torch import Tensor, nn

from widthwise.evaluate.modes import autocast
from widthwise.train.objective import Objective, Outcome, Step


def step_of(objective: Objective, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Outcome:
    """The first step of a training in fp32, whose seed is this one; gradients are those of the parameters after it."""
    backward = torch.Tensor.backward
    return objective.step(
        Step(
            model=model,
            images=images,
            labels=labels,
            number=0,
            seed=seed,
            forward=model,
            autocast=partial(autocast, torch.device("cpu"), "fp32"),
            backward=lambda loss: backward(loss),
        )
    )
