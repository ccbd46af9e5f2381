"""The state of one training, step by step."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from itertools import islice

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from widthwise.data.splits import Split, check_labels
from widthwise.errors import NonFiniteLoss
from widthwise.evaluate.accuracy import accuracy
from widthwise.evaluate.modes import autocast, logits_of, placement
from widthwise.train.checkpoint import Checkpoint
from widthwise.train.config import TrainConfig
from widthwise.train.history import EpochRecord
from widthwise.train.objective import Objective, Step
from widthwise.train.processes import average_gradients, share_tensors
from widthwise.train.progress import Plan, Reporter, StepStatus
from widthwise.train.schedules import learning_rate
from widthwise.train.setup import build_optimizer, count_steps, derived_seed
from widthwise.train.totals import Totals

__all__ = ["Loop"]

# Reading a number from an accelerator makes the CPU wait for it; on CPU it is free.
_READ_EVERY = 50

# Sets the objective's seeds apart from those of order and dropout.
_OBJECTIVE = 0x0B1EC7


class Loop:
    """The state of one training."""

    def __init__(
        self,
        model: nn.Module,
        train: Split,
        config: TrainConfig,
        val: Split | None,
        objective: Objective,
        accelerator: Accelerator,
        reporter: Reporter,
    ) -> None:
        self.model, self.train, self.config, self.val, self.objective = model, train, config, val, objective
        self.trained = [model] if objective.own is None else [model, objective.own]
        self.apart = self.trained[1:] if objective.one_pass else self.trained  # what no distributed wrapper sees to
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
        self.optimizer = build_optimizer(self._parameters(), config)
        self.scaler = GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.forward = accelerator.prepare_model(model) if objective.one_pass else model
        if self.world > 1:
            share_tensors(self.apart)
        if config.compile:
            self.forward = torch.compile(self.forward)

    def _parameters(self) -> Iterator[nn.Parameter]:
        return (parameter for module in self.trained for parameter in module.parameters())

    def plan(self) -> Plan:
        """What is about to be trained."""
        return Plan(epochs=self.num_epochs, total_steps=self.total_steps, done_steps=self.step)

    def close(self) -> None:
        """Drops what refers to the model: gradients, the optimiser and the distributed wrapper."""
        self.optimizer.zero_grad(set_to_none=True)
        self.forward = self.model
        vars(self.model).pop("_is_accelerate_prepared", None)  # Accelerate's mark on the user's object

    def run_epoch(self) -> None:
        """Trains one epoch, or what is left of the last one; raises NonFiniteLoss."""
        began = time.perf_counter()
        epoch = len(self.epochs)
        rank = self.accelerator.process_index
        torch.manual_seed(derived_seed(self.config.seed, epoch, rank))
        totals = Totals(self.device)
        steps = min(self.steps_per_epoch, self.total_steps - self.step)
        for module in self.trained:
            module.train()
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
        outcome = self.objective.step(self._step(images, labels))
        self.step += 1
        totals.add(self.step, outcome, labels)
        if self.step % self.read_every == 0:
            self._check(totals)  # on CPU: before the weights are touched
        self._update()

    def _step(self, images: Tensor, labels: Tensor) -> Step:
        return Step(
            model=self.model,
            images=images,
            labels=labels,
            number=self.step,
            seed=derived_seed(self.config.seed, self.step, 0, _OBJECTIVE),
            forward=self._forward,
            autocast=partial(autocast, self.device, self.config.precision),
            backward=self._backward,
        )

    def _forward(self, images: Tensor) -> Tensor:
        with autocast(self.device, self.config.precision):
            logits = logits_of(self.forward(images)).float()
        if self.step == 0:
            check_labels(self.train.labels, logits.shape[1], "the training split")
        return logits

    def _backward(self, loss: Tensor) -> None:
        self.accelerator.backward(self.scaler.scale(loss))

    def _update(self) -> None:
        average_gradients(self.accelerator, (p for module in self.apart for p in module.parameters()))
        if self.config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._parameters(), self.config.clip_norm)
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
        for name, parameter in (pair for module in self.trained for pair in module.named_parameters()):
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
        loss, correct, parts = totals.means()
        epoch = len(self.epochs) + 1
        self.reporter.step(
            StepStatus(epoch=epoch, step=self.step, lr=self.lr, loss=loss, accuracy=correct, parts=parts)
        )

    def _finish_epoch(self, totals: Totals, began: float) -> None:
        self._check(totals)
        self._check_weights()
        if self.world > 1:
            broadcast([buffer for module in self.trained for buffer in module.buffers()])
        loss, correct, parts = totals.means(self.accelerator)
        record = EpochRecord(
            epoch=len(self.epochs) + 1,
            steps=self.step,
            lr=self.lr,
            train_loss=loss,
            train_accuracy=correct,
            val_accuracy=self._validate(),
            seconds=time.perf_counter() - began,
            parts=parts,
        )
        self.epochs.append(record)
        self.reporter.epoch(record)
        unplotted = ("epoch", "steps", "parts")
        scalars = {k: v for k, v in asdict(record).items() if v is not None and k not in unplotted}
        scalars |= {f"parts/{name}": value for name, value in parts.items()}
        self.accelerator.log(scalars, step=self.step)

    def _validate(self) -> float | None:
        if self.val is None:
            return None
        precision, channels_last = self.config.precision, self.config.channels_last
        return accuracy(self.model, self.val, precision=precision, channels_last=channels_last)

    def is_checkpoint_due(self) -> bool:
        """Whether the settings want a checkpoint after the epoch just done."""
        done = len(self.epochs)
        return done == self.num_epochs or done % self.config.checkpoint_every == 0

    def state(self, identity: dict[str, object]) -> Checkpoint:
        """All that a later process needs to go on."""
        return Checkpoint(
            fingerprint=identity,
            model=dict(self.model.state_dict()),
            objective={} if self.objective.own is None else dict(self.objective.own.state_dict()),
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
            epochs=self.epochs,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on from there."""
        self.model.load_state_dict(checkpoint.model)
        if self.objective.own is not None:
            self.objective.own.load_state_dict(checkpoint.objective)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        if checkpoint.scaler:
            self.scaler.load_state_dict(checkpoint.scaler)
        self.epochs = list(checkpoint.epochs)
        self.step = self.epochs[-1].steps if self.epochs else 0
