"""Training on Accelerate: one process or several, CPU or accelerators."""

from contextlib import ExitStack
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from widthwise.data.splits import Split
from widthwise.errors import ConfigError
from widthwise.evaluate.modes import evaluating, placement, random_state_kept
from widthwise.train.checkpoint import Checkpoint, fingerprint, load_checkpoint, save_checkpoint
from widthwise.train.config import TrainConfig
from widthwise.train.distill import Supervised
from widthwise.train.history import History
from widthwise.train.loop import Loop
from widthwise.train.objective import Objective
from widthwise.train.placement import placed
from widthwise.train.progress import Reporter, SilentReporter
from widthwise.train.setup import accelerating, tracking

__all__ = ["fit"]


def fit(
    model: nn.Module,
    train: Split,
    config: TrainConfig,
    *,
    val: Split | None = None,
    teacher: nn.Module | None = None,
    objective: Objective | None = None,
    checkpoint: Path | None = None,
    progress: Reporter | None = None,
    trackers: Path | None = None,
) -> History:
    """Trains `model` in place on `train`.

    The training runs where Accelerate says (an accelerator where there is one). Afterwards, also after an error,
    the model lies where it lay, in its own type, modes and memory format, without wrappers or gradients; the
    global random state is as before. Half-precision models are trained in float32 and rounded at the end;
    `config.precision` chooses the mixed precision of each call (by autocast here, not by Accelerate's process-wide
    setting, which cannot change between two calls).

    Every epoch has its own order, augmentation and dropout, derived from (seed, epoch) alone. A last batch that
    leaves a process fewer than two images is left out if the model has batch norm, which cannot normalise a
    single value; its images come in other epochs. With several processes each takes its share of every batch;
    batch-norm statistics are those of each process's share, and the first process's are kept.

    Args:
        model: returns class scores ``[batch, classes]``, or a tuple that starts with them (the rest is ignored).
        train: what to learn from.
        config: how.
        val: measured after every epoch (by every process, whole).
        teacher: the network to distil from, in evaluation mode; left as it was.
        objective: what to minimise instead of cross-entropy and distillation; see `Objective`. Its own parameters are
            trained, placed and saved with the model's. It alone decides which of the loss's settings it heeds.
        checkpoint: a file that the state is written to after every `checkpoint_every` epochs. If it exists the
            training goes on from it, and on CPU ends with the same bits as if it had not been interrupted.
        progress: is told how it goes, in the first process.
        trackers: a folder for TensorBoard's event files.

    Raises:
        NonFiniteLoss: the loss became NaN or infinite. On CPU the weights are those before that step; elsewhere
            they are of no use, but the checkpoint still holds the last good epoch.
        EmptyData: there is no batch to train on.
        LabelOutOfRange: a label is not below the number of the model's outputs.
        ConfigError: settings and arguments do not go together.
        RunMismatch, CorruptRun: the checkpoint belongs to another training, or is damaged.
        SaveFailed: the checkpoint could not be written; the previous one is intact.
    """
    objective = _chosen(config, teacher, objective)
    identity = fingerprint(config, model, train, objective)
    start = None
    if checkpoint is not None and checkpoint.exists():
        start = load_checkpoint(checkpoint, identity)
    with ExitStack() as stack:
        accelerator = stack.enter_context(accelerating(trackers))
        reporter = progress if progress is not None and accelerator.is_main_process else SilentReporter()
        stack.enter_context(random_state_kept(accelerator.device))
        _place(stack, model, config, accelerator, None)
        for other in (*objective.frozen, *([] if objective.own is None else [objective.own])):
            _place(stack, other, config, accelerator, placement(model)[1])
        loop = Loop(model, train, config, val, objective, accelerator, reporter)
        stack.callback(loop.close)
        if start is not None:
            loop.restore(start)
        if len(loop.epochs) < loop.num_epochs:  # else nothing is told
            stack.enter_context(tracking(accelerator, config, trackers))
        stack.callback(reporter.finish)
        reporter.start(loop.plan())
        while len(loop.epochs) < loop.num_epochs:
            loop.run_epoch()
            if checkpoint is not None and loop.is_checkpoint_due():
                _save(accelerator, checkpoint, loop.state(identity))
    return History(tuple(loop.epochs))


def _chosen(config: TrainConfig, teacher: nn.Module | None, objective: Objective | None) -> Objective:
    """The objective. Raises ConfigError if the usual one lacks its teacher, or another one is given a teacher."""
    if objective is None:
        return Supervised(config, teacher)
    if teacher is not None:
        raise ConfigError(
            f"a teacher belongs to the usual objective, but got one beside {type(objective).__name__}; hand it to "
            "that, or leave one of them out"
        )
    return objective


def _place(
    stack: ExitStack, module: nn.Module, config: TrainConfig, accelerator: Accelerator, dtype: torch.dtype | None
) -> None:
    """Puts a module where the training runs; leaving `stack` puts it back and brings every training flag back."""
    stack.enter_context(evaluating(module))
    stack.enter_context(placed(module, accelerator.device, channels_last=config.channels_last, dtype=dtype))


def _save(accelerator: Accelerator, path: Path, checkpoint: Checkpoint) -> None:
    if accelerator.is_main_process:
        save_checkpoint(path, checkpoint)
    accelerator.wait_for_everyone()
