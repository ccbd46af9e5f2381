"""What a training needs before its first step: Accelerate, the optimiser, the number of steps, the seeds."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, is_initialized
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from widthwise.data.splits import Split
from widthwise.errors import ConfigError, EmptyData
from widthwise.train.config import TrainConfig

__all__ = ["accelerating", "build_optimizer", "count_steps", "derived_seed", "tracking"]


@contextmanager
def accelerating(trackers: Path | None) -> Iterator[Accelerator]:
    """Yields an Accelerator; on leaving, Accelerate's process-wide settings are free again if they were before."""
    was_free = not is_initialized()
    try:
        log_with = None if trackers is None else "tensorboard"
        accelerator = Accelerator(mixed_precision="no", log_with=log_with, project_dir=trackers)
    except ValueError as error:
        raise ConfigError(
            "Widthwise does its own mixed precision (TrainConfig.precision), but this process already has an "
            "Accelerator with another one; create that with mixed_precision='no'"
        ) from error
    try:
        yield accelerator
    finally:
        if was_free:  # or a user's own Accelerator(mixed_precision="bf16") would be refused after a fit
            AcceleratorState._reset_state()


@contextmanager
def tracking(accelerator: Accelerator, config: TrainConfig, trackers: Path | None) -> Iterator[None]:
    """Keeps TensorBoard's event files open in `trackers`, if that is given."""
    if trackers is None:
        yield
        return
    accelerator.init_trackers("fit", config={name: str(value) for name, value in asdict(config).items()})
    try:
        yield
    finally:
        for tracker in accelerator.trackers:  # end_training() would also end the process group
            tracker.finish()


def build_optimizer(parameters: Iterable[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over what requires gradients. Raises ConfigError if nothing does."""
    trained = [p for p in parameters if p.requires_grad]
    if not trained:
        raise ConfigError("training needs parameters with requires_grad, but the model has none")
    flat = [] if config.decay_norm else [p for p in trained if p.ndim <= 1]  # biases and norm layers
    whole = [p for p in trained if config.decay_norm or p.ndim > 1]
    groups = [
        {"params": whole, "weight_decay": config.weight_decay},
        {"params": flat, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)


def count_steps(model: nn.Module, train: Split, batch_size: int, world: int) -> int:
    """Optimiser steps per epoch; see `widthwise.train.fit` about the last batch.

    Raises:
        ConfigError: the processes cannot share a batch equally.
        EmptyData: there is not one step.
    """
    if batch_size % world:
        raise ConfigError(
            f"every process must get the same share of a batch, but batch_size={batch_size} cannot be divided by "
            f"{world} processes; use a multiple"
        )
    whole, ragged = divmod(len(train), batch_size)
    normalises = any(isinstance(module, _BatchNorm) for module in model.modules())
    steps = whole + (1 if ragged and not (normalises and ragged // world < 2) else 0)
    if steps == 0:
        raise EmptyData(
            f"training needs at least {2 if normalises else 1} images per process, but the split has {len(train)} "
            f"for {world}"
        )
    return steps


def derived_seed(*numbers: int) -> int:
    """A seed below 2^32 that depends on all `numbers` and on how many they are, unlike their sum or product."""
    return int(np.random.SeedSequence([len(numbers), *numbers]).generate_state(1)[0])  # it pads with zeros
