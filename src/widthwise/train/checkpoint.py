"""Checkpoints: one file, replaced as a whole, read without unpickling anything but tensors and plain values."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from widthwise.data.splits import Split
from widthwise.digest import digest
from widthwise.errors import ConfigError, RunMismatch
from widthwise.runs.state import load_state, readable, save_state
from widthwise.train.config import TrainConfig
from widthwise.train.history import EpochRecord, History
from widthwise.train.objective import Objective

__all__ = ["Checkpoint", "fingerprint", "load_checkpoint", "read_history", "save_checkpoint"]

_FORMAT = 2

# Settings that do not change the weights.
_HARMLESS = ("checkpoint_every",)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A training at the end of an epoch.

    There is no scheduler and no random state in it: the learning rate is a function of the step, and each epoch
    starts all generators from (seed, epoch, process).
    """

    fingerprint: dict[str, Any]
    """See `fingerprint`."""
    model: dict[str, Any]
    """The state dict."""
    objective: dict[str, Any]
    """The state dict of the objective's own parameters; empty where it has none."""
    optimizer: dict[str, Any]
    """The optimiser's state dict."""
    scaler: dict[str, Any]
    """The loss scaler's state dict; empty unless the precision is fp16."""
    epochs: list[EpochRecord]
    """The epochs done."""


def fingerprint(config: TrainConfig, model: nn.Module, train: Split, objective: Objective) -> dict[str, Any]:
    """What must be equal for a training to go on from a checkpoint: settings, shapes and data, as plain values.

    Raises:
        ConfigError: the objective describes itself by something else than JSON data.
    """
    settings = {name: value for name, value in asdict(config).items() if name not in _HARMLESS}
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    plain["model"] = _shapes(model)
    plain["training labels"] = digest(train.labels)
    plain["objective"] = _described(objective)
    plain["objective's parameters"] = "none" if objective.own is None else _shapes(objective.own)
    return plain


def _described(objective: Objective) -> dict[str, Any]:
    described = objective.describe()
    try:
        plain: dict[str, Any] = json.loads(json.dumps(described, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"an objective must describe itself by JSON data, but {error} in {described!r}; give numbers, text, lists "
            "and dictionaries only"
        ) from error
    return plain


def _shapes(module: nn.Module) -> str:
    shapes = [(name, *value.shape) for name, value in module.state_dict().items() if isinstance(value, Tensor)]
    return digest(json.dumps(shapes).encode())


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replaces `path` by `checkpoint`.

    Raises:
        SaveFailed: the file cannot be written (full disk, permissions); the previous one is intact.
    """
    state = {
        "format": _FORMAT,
        "fingerprint": checkpoint.fingerprint,
        "model": checkpoint.model,
        "objective": checkpoint.objective,
        "optimizer": checkpoint.optimizer,
        "scaler": checkpoint.scaler,
        "epochs": [asdict(record) for record in checkpoint.epochs],
    }
    save_state(path, state)


def load_checkpoint(path: Path, expected: Mapping[str, Any]) -> Checkpoint:
    """Reads `path`, its tensors on the CPU.

    Raises:
        CorruptRun: the file is truncated or damaged (its checksums are verified), or is something else.
        RunMismatch: it belongs to a training with another fingerprint than `expected`.
    """
    with readable(path):
        state = load_state(path)
        _check_format(path, state["format"])
        checkpoint = Checkpoint(
            fingerprint=state["fingerprint"],
            model=state["model"],
            objective=state["objective"],
            optimizer=state["optimizer"],
            scaler=state["scaler"],
            epochs=[EpochRecord(**record) for record in state["epochs"]],
        )
    _check_same(path, checkpoint.fingerprint, expected)
    return checkpoint


def read_history(path: Path) -> History:
    """The epochs of a training, from its checkpoint.

    Raises:
        CorruptRun: the file is truncated or damaged, or is something else.
        RunMismatch: another version wrote it.
    """
    with readable(path):
        state = load_state(path)
        _check_format(path, state["format"])
        return History(tuple(EpochRecord(**record) for record in state["epochs"]))


def _check_format(path: Path, version: object) -> None:
    if version != _FORMAT:
        raise RunMismatch(f"checkpoints of format {_FORMAT} can be read, but {path} has {version}; delete it")


def _check_same(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    names = sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
    if names:
        different = "; ".join(f"{n} is {found.get(n)!r} there and {expected.get(n)!r} here" for n in names)
        raise RunMismatch(
            f"a training goes on from a checkpoint of its own, but {path} belongs to another one: {different}; "
            "use the former settings, or another file"
        )
