"""Settings of the experiments on joint search-and-training, by name: ``cpu``, ``accelerator``, ``tiny``."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.experiments import identity
from widthwise.joint import RoundSettings
from widthwise.methods import FNNP, Joint
from widthwise.methods.compress import plain
from widthwise.recipes import joint_resnet20_minutes, joint_resnet56_cifar10
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
    longer: TrainConfig
    """Of `longer`."""
    longer_seeds: tuple[int, ...] = (0, 1)
    """Of `longer`: seeds of `result` whose networks are trained on."""
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
        counts = {
            "seeds",
            "longer_seeds",
            "literal_seeds",
            "noise_networks",
            "noise_scales",
            "weights_seeds",
            "threads",
        }
        return {**identity(self, counts), "joint": plain(self.joint), "fnnp": plain(self.fnnp)}


def cpu() -> JointSettings:
    """ResNet-20 on one core by the recipe of minutes, and as many steps for what it is compared with."""
    fast: dict[str, Any] = {"precision": "bf16", "channels_last": True}
    recipe = joint_resnet20_minutes()
    assert isinstance(recipe.method, Joint)
    return JointSettings(
        model=recipe.model,
        joint=recipe.method,
        finetune=recipe.finetune,
        full=TrainConfig(epochs=4, lr=0.1, **fast),
        fnnp=FNNP(candidates=40, sensitivity_images=0, finalists=1, validation_images=2000, precision="bf16"),
        scratch=TrainConfig(epochs=1, lr=0.1, **fast),
        longer=TrainConfig(epochs=5, lr=0.05, **fast),
        longer_seeds=(0,),
        literal_seeds=(),
    )


def accelerator() -> JointSettings:
    """ResNet-56 at the paper's length (section 4.1), on one accelerator. Not timed here: none was at hand."""
    fast: dict[str, Any] = {"precision": "bf16", "channels_last": True}
    recipe = joint_resnet56_cifar10()
    assert isinstance(recipe.method, Joint)
    assert recipe.method.rounds.late is not None
    rounds = recipe.method.rounds
    trainings = {name: replace(getattr(rounds, name), **fast) for name in ("network", "late", "weights")}
    return JointSettings(
        model=recipe.model,
        joint=replace(recipe.method, coarse=replace(recipe.method.coarse, **fast), rounds=replace(rounds, **trainings)),
        finetune=replace(recipe.finetune, **fast),
        full=TrainConfig(epochs=200, lr=0.1, **fast),
        fnnp=FNNP(candidates=200, sensitivity_images=0, finalists=2),
        scratch=TrainConfig(epochs=1, lr=0.1, **fast),
        longer=TrainConfig(epochs=100, lr=0.05, **fast),
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
        fnnp=FNNP(candidates=3, sensitivity_images=0, finalists=1, calibration_images=64, validation_images=64),
        scratch=brief,
        longer=brief,
        longer_seeds=(0,),
        seeds=(0, 1),
        noise_networks=("digits_net",),
        noise_scales=(0.0, 1.0),
        noise_draws=2,
        weights_images=64,
    )


SETTINGS: dict[str, Callable[[], JointSettings]] = {"cpu": cpu, "accelerator": accelerator, "tiny": tiny}
"""By name, for the command line."""
