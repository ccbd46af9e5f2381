"""What every tool is given, by the name of the settings: ``cpu`` and shorter and longer, ``accelerator``, ``tiny``.

Of ours the constructors in `cpu` count as lines of user code.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.experiments import identity
from benchmarks.joint.settings import accelerator as joint_on_accelerator
from benchmarks.joint.settings import tiny as tiny_joint
from widthwise.errors import ConfigError
from widthwise.exploration import ExplorationSettings  # user code: exploration
from widthwise.methods import FNNP, METHODS, Exploration, Joint, Stagewise  # user code: method
from widthwise.methods.compress import plain
from widthwise.recipes import joint_resnet20_minutes  # user code: joint
from widthwise.search import DivisionSettings, EvolutionSettings  # user code: stagewise
from widthwise.train import TrainConfig

__all__ = ["SETTINGS", "PeerSettings", "accelerator", "cpu", "cpu_longer", "cpu_shorter", "named", "tiny"]

SOME = (
    *("full", "widthwise/fnnp", "widthwise/l1", "widthwise/fnnp/reconstructed", "widthwise/l1/reconstructed"),
    *("widthwise/fnnp/balanced/reconstructed", "widthwise/balanced/reconstructed"),
    *("torch_pruning/l1/local", "torch_pruning/group_norm/local", "torch_pruning/l1/isomorphic/convolved"),
)
"""Rows of `cpu` that other lengths of fine-tuning are tried on."""


@dataclass(frozen=True, kw_only=True)
class PeerSettings:
    """The comparison of docs/peers.md."""

    model: str
    """A network of the zoo."""
    finetune: TrainConfig
    """Of every pruned network, whichever tool made it; the seed is that of the run."""
    scratch: TrainConfig
    """Of ``widthwise/uniform``, which is trained from fresh weights instead."""
    fnnp: FNNP
    """Our methods; a run's seed takes the place of theirs."""
    stagewise: Stagewise
    joint: Joint
    exploration: Exploration
    variants: tuple[str, ...] = ("*",)
    """What is compared where ``--only`` says nothing: names, with wildcards."""
    budgets: tuple[float, ...] = (0.5, 0.3)
    """Shares of the multiply-adds, counted by ``torch.utils.flop_counter`` for all."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the images that a tool looks at, and of the fine-tuning."""
    residual: tuple[str, ...] = ("conv1", "layer*.conv2")
    """Names (with wildcards) of the layers that write to a residual stream with zero-padded shortcuts."""
    score_images: int | None = None
    """Validation images that a peer may judge by; all if not given."""
    calibration_batch: int = 40
    """Images of each of the 50 batches that FastNAS re-estimates batch-norm statistics on."""
    gradient_batches: int = 10
    """Batches of training images that gradients are taken on (Torch-Pruning's examples take 10)."""
    gradient_batch: int = 128
    """Images in each."""
    reconstruct: int = 250
    """Training images that weights are fitted to, in the rows that say so."""
    minutes: float = 120.0
    """Limit of one process."""
    threads: int = 1
    """Torch threads of each process."""

    def __post_init__(self) -> None:
        if not self.budgets or not all(0 < share < 1 for share in self.budgets) or not self.seeds:
            raise ConfigError(
                "A comparison needs budgets between 0 and 1 and a seed, but got "
                f"budgets={self.budgets}, seeds={self.seeds}. Give each at least one."
            )
        for name in ("coarse_images", "finetune_images"):
            if getattr(self.joint, name) != "train":
                raise ConfigError(
                    "No row of a comparison learns from more images than the others, but got "
                    f"joint.{name}={getattr(self.joint, name)!r}; set it to 'train'."
                )

    def identity(self) -> dict[str, Any]:
        """What decides a single result, as JSON data; there may be more variants, budgets and seeds."""
        values = identity(self, {"variants", "budgets", "seeds", "minutes"})
        return values | {name: plain(getattr(self, name)) for name in METHODS}


def _on_train(joint: Joint) -> Joint:
    """Joint search-and-training whose networks learn from the training images only."""
    return replace(joint, coarse_images="train", finetune_images="train")  # user code: joint


def cpu() -> PeerSettings:
    """ResNet-20 (or ``--model resnet56``) with one epoch of fine-tuning on one core: minutes for each network."""
    fast: dict[str, Any] = {"precision": "bf16", "channels_last": True}
    recipe = joint_resnet20_minutes()  # user code: joint
    assert isinstance(recipe.method, Joint)
    # user code: stagewise
    stagewise = Stagewise(
        supernet=TrainConfig(epochs=2, lr=0.05, **fast),
        start="given",
        weights="inherited",
        ratios=16,
        division=DivisionSettings(evaluations=200, exhaustive=200, fronts=EvolutionSettings(iterations=5)),
        chained=100,
        search_images=256,
        search_batch=256,
    )
    # end of user code
    # user code: exploration
    exploration = Exploration(epochs=3, precision="bf16", settings=ExplorationSettings(lr=0.01))
    # end of user code
    return PeerSettings(
        model="resnet20",
        finetune=TrainConfig(epochs=1, lr=0.02, **fast),
        scratch=TrainConfig(epochs=4, lr=0.1, **fast),  # user code: uniform
        # user code: fnnp
        fnnp=FNNP(candidates=100, sensitivity_images=0, finalists=1, validation_images=2000, precision="bf16"),
        # end of user code
        stagewise=stagewise,
        joint=_on_train(recipe.method),
        exploration=exploration,
        variants=(
            *("full", "widthwise/*", "torch_pruning/*/local", "torch_pruning/taylor/global"),
            *("torch_pruning/l1/isomorphic/convolved", "torch_pruning/l1/local/padded", "fastnas/8", "fastnas/4"),
        ),
        score_images=2000,
    )


def cpu_longer() -> PeerSettings:
    """Whether a search is worth its time: some rows of `cpu` with three epochs of fine-tuning, FNNP on fewer images."""
    short = cpu()
    return replace(
        short,
        finetune=replace(short.finetune, epochs=3),
        fnnp=replace(short.fnnp, calibration_images=250, validation_images=500),
        variants=SOME,
    )


def cpu_shorter() -> PeerSettings:
    """Who is ahead where time is short: half an epoch of fine-tuning, FNNP with 40 candidates on fewer images."""
    short = cpu()
    return replace(
        short,
        finetune=replace(short.finetune, max_steps=176),
        fnnp=replace(short.fnnp, candidates=40, calibration_images=250, validation_images=500),
        variants=SOME,
    )


def accelerator() -> PeerSettings:
    """ResNet-56 with schedules as long as the papers', on one accelerator. Not timed here: none was at hand."""
    fast: dict[str, Any] = {"precision": "bf16", "channels_last": True}
    return PeerSettings(
        model="resnet56",
        finetune=TrainConfig(epochs=100, batch_size=256, lr=0.01, weight_decay=5e-5, **fast),
        scratch=TrainConfig(epochs=200, lr=0.1, **fast),
        fnnp=FNNP(candidates=200, sensitivity_images=0, finalists=1),
        stagewise=Stagewise(supernet=replace(Stagewise().supernet, **fast), weights="inherited"),
        joint=_on_train(joint_on_accelerator().joint),
        exploration=Exploration(),
    )


def tiny() -> PeerSettings:
    """Everything cut down, to see that it runs to its end; the figures mean nothing."""
    brief = TrainConfig(epochs=1, max_steps=2, batch_size=32, lr=0.05)
    return PeerSettings(
        model="digits_net",
        finetune=brief,
        scratch=brief,
        fnnp=FNNP(candidates=3, sensitivity_images=0, finalists=1, calibration_images=64, validation_images=64),
        stagewise=Stagewise(
            supernet=brief,
            weights="inherited",
            ratios=4,
            division=DivisionSettings(evaluations=12, exhaustive=0),
            chained=4,
            search_images=64,
            search_batch=32,
        ),
        joint=_on_train(tiny_joint().joint),
        exploration=Exploration(
            epochs=1,
            images=64,
            batch=32,
            settings=ExplorationSettings(samples=2, resamplings=2, moves=2, lr=0.02),
            calibration_images=32,
        ),
        budgets=(0.5,),
        seeds=(0, 1),
        residual=(),
        score_images=64,
        reconstruct=64,
        calibration_batch=16,
        gradient_batches=2,
        gradient_batch=32,
        minutes=2.0,
    )


SETTINGS: dict[str, Callable[[], PeerSettings]] = {
    "cpu": cpu,
    "cpu_longer": cpu_longer,
    "cpu_shorter": cpu_shorter,
    "accelerator": accelerator,
    "tiny": tiny,
}
"""By name, for the command line and for the process of a network, which looks its settings up here."""


def named(settings: str, model: str | None = None) -> PeerSettings:
    """The settings of that name, for another network of the zoo if one is given."""
    found = SETTINGS[settings]()
    return replace(found, model=model or found.model)
