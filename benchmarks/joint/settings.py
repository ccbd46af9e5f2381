"""Settings of the experiments on joint search-and-training, by name: ``cpu``, ``accelerator``, ``tiny``."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.experiments import identity
from widthwise.joint import RoundSettings
from widthwise.methods import FNNP, Joint
from widthwise.methods.compress import plain
from widthwise.train import TrainConfig

__all__ = ["SETTINGS", "JointSettings", "accelerator", "cpu", "tiny"]


@dataclass(frozen=True, kw_only=True)
class JointSettings:
    """The experiments of docs/joint.md."""

    model: str
    """A network of the zoo."""
    budget: float = 0.5
    """Share of the multiply-adds."""
    joint: Joint
    """The method; its ablations differ in one setting each."""
    finetune: TrainConfig
    """Of every winner."""
    full: TrainConfig
    """Of the full network that FNNP starts from."""
    fnnp: FNNP
    """The search on it."""
    scratch: TrainConfig
    """Of uniform width; its epochs are as many as take the time of the whole joint run."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of `result`: runs of the method, its ablations, and what one would do instead."""
    literal_seeds: tuple[int, ...] = (0,)
    """Of `result`: runs of what is printed in the paper where we differ."""

    noise_networks: tuple[str, ...] = ("resnet20", "resnet56", "resnet110")
    """Of `noise`."""
    noise_scales: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 1.0)
    """Of `noise`."""
    noise_draws: int = 40
    """Sub-networks for each."""

    weights_seeds: tuple[int, ...] = (0,)
    """Of `weights`: coarse trainings with either placement."""
    weights_images: int = 1000
    """Validation images that the loss without a channel is measured on, as one batch."""

    threads: int = 1
    """Torch threads."""

    def identity(self) -> dict[str, Any]:
        """What decides a single result, as JSON data; there may be more seeds."""
        counts = {"seeds", "literal_seeds", "noise_networks", "noise_scales", "weights_seeds", "threads"}
        return {**identity(self, counts), "joint": plain(self.joint), "fnnp": plain(self.fnnp)}


def cpu() -> JointSettings:
    """ResNet-20 on one core: some 11 minutes per run of the method, from the time of `share`."""
    fast: dict[str, Any] = {"precision": "bf16", "channels_last": True}
    return JointSettings(
        model="resnet20",
        joint=Joint(
            coarse=TrainConfig(epochs=3, lr=0.1, **fast),
            rounds=RoundSettings(
                rounds=6,
                network=TrainConfig(epochs=1, lr=0.05, **fast),
                late_round=4,
                late_epochs=1,
                late_lr=0.01,
                weights=TrainConfig(epochs=1, lr=1e-3, weight_decay=0.0, schedule="constant", **fast),
            ),
        ),
        finetune=TrainConfig(epochs=4, lr=0.05, **fast),
        full=TrainConfig(epochs=7, lr=0.1, **fast),
        fnnp=FNNP(candidates=60, finalists=1, validation_images=2000, precision="bf16"),
        scratch=TrainConfig(epochs=1, lr=0.1, **fast),
    )


def accelerator() -> JointSettings:
    """ResNet-56 at the paper's length (section 4.1), on one accelerator. Not timed here: none was at hand."""
    fast: dict[str, Any] = {"precision": "bf16", "channels_last": True}
    paper = Joint()
    rounds = paper.rounds
    return JointSettings(
        model="resnet56",
        joint=replace(
            paper,
            coarse=replace(paper.coarse, **fast),
            rounds=replace(rounds, network=replace(rounds.network, **fast), weights=replace(rounds.weights, **fast)),
        ),
        finetune=TrainConfig(epochs=100, batch_size=256, lr=0.01, weight_decay=5e-5, **fast),
        full=TrainConfig(epochs=200, lr=0.1, **fast),
        fnnp=FNNP(candidates=200, finalists=2),
        scratch=TrainConfig(epochs=1, lr=0.1, **fast),
    )


def tiny() -> JointSettings:
    """Everything cut down, to see that it runs to its end; the figures mean nothing."""
    brief = TrainConfig(epochs=1, max_steps=2, batch_size=32, lr=0.05)
    rounds = RoundSettings(rounds=2, network=brief, weights=brief, episodes=2, episode_images=32)
    return JointSettings(
        model="digits_net",
        joint=Joint(coarse=brief, rounds=rounds),
        finetune=brief,
        full=brief,
        fnnp=FNNP(candidates=3, finalists=1, calibration_images=64, validation_images=64),
        scratch=brief,
        seeds=(0, 1),
        noise_networks=("digits_net",),
        noise_scales=(0.0, 1.0),
        noise_draws=2,
        weights_images=64,
    )


SETTINGS: dict[str, Callable[[], JointSettings]] = {"cpu": cpu, "accelerator": accelerator, "tiny": tiny}
"""By name, for the command line."""
