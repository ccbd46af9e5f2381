"""The training curves of a run, as numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

from widthwise.methods import RunRecord
from widthwise.train import History

__all__ = ["Curve", "curve_of", "curves_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One training, epoch by epoch."""

    name: str
    """Of the training, as its checkpoint is called."""
    what: str
    """What was trained, in words."""
    epochs: tuple[int, ...]
    """Counted from 1."""
    loss: tuple[float, ...]
    """What was minimised, mean over the epoch."""
    train: tuple[float, ...]
    """Top-1 on the (augmented) training images in percent."""
    val: tuple[float, ...]
    """Top-1 on the validation images in percent; empty where none was measured."""
    lr: tuple[float, ...]
    seconds: float
    """Of all epochs."""
    parts: Mapping[str, tuple[float, ...]]
    """What the loss is made of, by name."""


ORDER = ("full", "coarse", "supernet")
"""What is trained before the search; all others come behind."""

WHAT = {
    "full": "The full network",
    "coarse": "The target network with filter weights",
    "supernet": "The super-net",
}


def curves_of(run: RunRecord) -> tuple[Curve, ...]:
    """Every training that has a checkpoint, in the order in which they were made."""
    names = sorted(run.trainings, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), _natural(name)))
    return tuple(curve_of(name, run.trainings[name]) for name in names if run.trainings[name].epochs)


def curve_of(name: str, history: History) -> Curve:
    """One training as a curve."""
    epochs = history.epochs
    kind, _, place = name.partition("-")
    finalist = f"Finalist {place}" if kind == "finalist" else name
    measured = all(epoch.val_accuracy is not None for epoch in epochs)
    return Curve(
        name=name,
        what=WHAT.get(name, finalist),
        epochs=tuple(epoch.epoch for epoch in epochs),
        loss=tuple(epoch.train_loss for epoch in epochs),
        train=tuple(100 * epoch.train_accuracy for epoch in epochs),
        val=tuple(100 * (epoch.val_accuracy or 0.0) for epoch in epochs) if measured else (),
        lr=tuple(epoch.lr for epoch in epochs),
        seconds=sum(epoch.seconds for epoch in epochs),
        parts={part: tuple(epoch.parts[part] for epoch in epochs) for part in (epochs[0].parts if epochs else ())},
    )


def _natural(name: str) -> tuple[str, int]:
    """``finalist-2`` before ``finalist-10``."""
    kind, _, place = name.rpartition("-")
    return (kind, int(place)) if place.isdigit() else (name, 0)
