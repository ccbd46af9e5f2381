"""The training loop, on Accelerate: one process or several, CPU or accelerators."""

import math
import time
from contextlib import ExitStack
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from widthwise.data.splits import Split, check_labels
from widthwise.errors import ConfigError, NonFiniteLoss
from widthwise.evaluate.accuracy import accuracy
from widthwise.evaluate.modes import autocast, evaluating, logits_of, placement, random_state_kept
from widthwise.train.checkpoint import Checkpoint, fingerprint, load_checkpoint, save_checkpoint
from widthwise.train.config import TrainConfig
from widthwise.train.distill import objective
from widthwise.train.history import EpochRecord, History
from widthwise.train.placement import placed
from widthwise.train.progress import Plan, Reporter, SilentReporter, StepStatus
from widthwise.train.schedules import learning_rate
from widthwise.train.setup import accelerating, build_optimizer, count_steps, derived_seed, tracking
from widthwise.train.totals import Totals

__all__ = ["fit"]

# Reading a number from an accelerator makes the CPU wait for it; on CPU it is free.
_READ_EVERY = 50


def fit(
    model: nn.Module,
    train: Split,
    config: TrainConfig,
    *,
    val: Split | None = None,
    teacher: nn.Module | None = None,
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
    teacher = _check_teacher(config, teacher)
    identity = fingerprint(config, model, train, teacher)
    start = None
    if checkpoint is not None and checkpoint.exists():
        start = load_checkpoint(checkpoint, identity)
    with ExitStack() as stack:
        accelerator = stack.enter_context(accelerating(trackers))
        reporter = progress if progress is not None and accelerator.is_main_process else SilentReporter()
        stack.enter_context(random_state_kept(accelerator.device))
        stack.enter_context(evaluating(model))  # brings every training flag back
        stack.enter_context(placed(model, accelerator.device, channels_last=config.channels_last))
        if teacher is not None:
            stack.enter_context(evaluating(teacher))
            stack.enter_context(placed(teacher, accelerator.device, channels_last=config.channels_last))
        loop = _Loop(model, train, config, val, teacher, accelerator, reporter)
        stack.callback(loop.close)
        if start is not None:
            loop.restore(start)
        stack.enter_context(tracking(accelerator, config, trackers))
        stack.callback(reporter.finish)
        reporter.start(loop.plan())
        while len(loop.epochs) < loop.num_epochs:
            loop.run_epoch()
            if checkpoint is not None and loop.is_checkpoint_due():
                _save(accelerator, checkpoint, loop.state(identity))
    return History(tuple(loop.epochs))


class _Loop:
    """The state of one training."""

    def __init__(
        self,
        model: nn.Module,
        train: Split,
        config: TrainConfig,
        val: Split | None,
        teacher: nn.Module | None,
        accelerator: Accelerator,
        reporter: Reporter,
    ) -> None:
        self.model, self.train, self.config, self.val, self.teacher = model, train, config, val, teacher
        self.accelerator, self.reporter, self.device = accelerator, reporter, accelerator.device
        self.world = accelerator.num_processes
        self.dtype = placement(model)[1]  # float32, or float64 for a model in that type
        self.read_every = 1 if self.device.type == "cpu" and self.world == 1 else _READ_EVERY
        self.steps_per_epoch = count_steps(model, train, config.batch_size, self.world)
        planned = self.steps_per_epoch * config.epochs
        self.total_steps = planned if config.max_steps is None else config.max_steps
        self.num_epochs = math.ceil(self.total_steps / self.steps_per_epoch)
        self.step = 0
        self.lr = config.lr
        self.epochs: list[EpochRecord] = []
        self.optimizer = build_optimizer(model, config)
        self.scaler = GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.forward = accelerator.prepare_model(model)
        if config.compile:
            self.forward = torch.compile(self.forward)

    def plan(self) -> Plan:
        return Plan(epochs=self.num_epochs, total_steps=self.total_steps, done_steps=self.step)

    def close(self) -> None:
        """Drops what refers to the model: gradients, the optimiser and the distributed wrapper."""
        self.optimizer.zero_grad(set_to_none=True)
        self.forward = self.model
        vars(self.model).pop("_is_accelerate_prepared", None)  # Accelerate's mark on the user's object

    def run_epoch(self) -> None:
        began = time.perf_counter()
        epoch = len(self.epochs)
        rank = self.accelerator.process_index
        torch.manual_seed(derived_seed(self.config.seed, epoch, rank))
        totals = Totals(self.device)
        steps = min(self.steps_per_epoch, self.total_steps - self.step)
        self.model.train()
        batches = self.train.batches(
            self.config.batch_size,
            device=self.device,
            seed=derived_seed(self.config.seed, epoch),
            augment=self.config.augment,
            shard=(rank, self.world),
        )
        for images, labels in islice(batches, steps):
            self._train_step(images, labels, totals)
            if self.step % self.read_every == 0:
                self._report(totals)
        self._finish_epoch(totals, began)

    def _train_step(self, images: Tensor, labels: Tensor, totals: Totals) -> None:
        self.lr = learning_rate(self.config, self.step, self.total_steps, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        images = images.to(self.dtype)
        if self.config.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.config.precision):
            logits = logits_of(self.forward(images)).float()
            target = self._teach(images)
        if self.step == 0:
            check_labels(self.train.labels, logits.shape[1], "the training split")
        loss = objective(self.config, logits, labels, target)
        self.step += 1
        totals.add(self.step, loss.detach(), logits.detach(), labels)
        if self.step % self.read_every == 0:
            self._check(totals)  # on CPU: before the weights are touched
        self._update(loss)

    @torch.no_grad()
    def _teach(self, images: Tensor) -> Tensor | None:
        return None if self.teacher is None else logits_of(self.teacher(images)).float()

    def _update(self, loss: Tensor) -> None:
        self.accelerator.backward(self.scaler.scale(loss))
        if self.config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _check(self, totals: Totals) -> None:
        """Stops all processes at the first loss of any of them that is not finite."""
        bad = totals.first_bad(self.accelerator)
        if bad is not None:
            self._stop(*bad)

    def _check_weights(self) -> None:
        """The last step may spoil the weights without a loss that shows it."""
        for name, parameter in self.model.named_parameters():
            if not bool(parameter.isfinite().all()):
                self._stop(self.step, math.nan, f"a weight ({name})")

    def _stop(self, step: int, value: float, what: str = "the loss") -> None:
        lr = learning_rate(self.config, step - 1, self.total_steps, self.steps_per_epoch)
        raise NonFiniteLoss(
            f"the loss and the weights must stay finite, but {what} became {value} in epoch "
            f"{len(self.epochs) + 1} at step {step} of {self.total_steps}, with learning rate {lr:.3g} and "
            f"precision {self.config.precision}; lower lr, raise warmup_epochs, set clip_norm, or use "
            "precision='fp32'; and look for NaN in the images and in the weights that training started from"
        )

    def _report(self, totals: Totals) -> None:
        loss, correct = totals.means()
        self.reporter.step(
            StepStatus(epoch=len(self.epochs) + 1, step=self.step, lr=self.lr, loss=loss, accuracy=correct)
        )

    def _finish_epoch(self, totals: Totals, began: float) -> None:
        self._check(totals)
        self._check_weights()
        if self.world > 1:
            broadcast(list(self.model.buffers()))
        loss, correct = totals.means(self.accelerator)
        record = EpochRecord(
            epoch=len(self.epochs) + 1,
            steps=self.step,
            lr=self.lr,
            train_loss=loss,
            train_accuracy=correct,
            val_accuracy=self._validate(),
            seconds=time.perf_counter() - began,
        )
        self.epochs.append(record)
        self.reporter.epoch(record)
        scalars = {k: v for k, v in asdict(record).items() if v is not None and k not in ("epoch", "steps")}
        self.accelerator.log(scalars, step=self.step)

    def _validate(self) -> float | None:
        if self.val is None:
            return None
        precision, channels_last = self.config.precision, self.config.channels_last
        return accuracy(self.model, self.val, precision=precision, channels_last=channels_last)

    def is_checkpoint_due(self) -> bool:
        done = len(self.epochs)
        return done == self.num_epochs or done % self.config.checkpoint_every == 0

    def state(self, identity: dict[str, object]) -> Checkpoint:
        return Checkpoint(
            fingerprint=identity,
            model=dict(self.model.state_dict()),
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
            epochs=self.epochs,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        self.model.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        if checkpoint.scaler:
            self.scaler.load_state_dict(checkpoint.scaler)
        self.epochs = list(checkpoint.epochs)
        self.step = self.epochs[-1].steps if self.epochs else 0


def _check_teacher(config: TrainConfig, teacher: nn.Module | None) -> nn.Module | None:
    """The teacher if it is needed. Raises ConfigError if it is needed and missing."""
    if config.distill_weight == 0:
        return None
    if teacher is None:
        raise ConfigError(
            f"distillation needs a teacher, but got distill_weight={config.distill_weight} and none; "
            "pass teacher=..., or set distill_weight to 0"
        )
    return teacher


def _save(accelerator: Accelerator, path: Path, checkpoint: Checkpoint) -> None:
    if accelerator.is_main_process:
        save_checkpoint(path, checkpoint)
    accelerator.wait_for_everyone()
