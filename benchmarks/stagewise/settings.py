"""Settings of the stage-wise experiments, by name: ``cpu``, ``accelerator``, ``tiny``."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.experiments import identity
from widthwise.errors import ConfigError
from widthwise.evaluate import Precision
from widthwise.train import TrainConfig

__all__ = ["SETTINGS", "StagewiseSettings", "accelerator", "cpu", "tiny"]

_COUNTS = {"mixed", "mixed_again", "fixed", "fixed_again", "seeds", "teacher_seeds", "division_seeds", "candidates"}
_COUNTS |= {"candidate_epochs", "depths"}
_FREE = _COUNTS | {"workers", "threads", "cost_networks", "cost_rounds", "cost_genes", "cost_precisions"}
_FREE |= {"cost_gene_images"}


@dataclass(frozen=True, kw_only=True)
class StagewiseSettings:
    """The experiments of docs/stagewise.md."""

    model: str
    """A network of the zoo."""
    budget: float = 0.5
    """Share of the multiply-adds."""
    workers: int
    """Processes that train and evaluate side by side; 0 does everything in the driver."""
    threads: int = 1
    """Torch threads of each."""
    supernet: TrainConfig
    """Of every super-net whose step has three passes (stage-wise, universally slimmable)."""
    passes: int = 3
    """Passes of such a step. What has one pass per step (MetaPruning, the full network whose weights adaptive batch
    norm judges by) is trained for so many times the epochs: as many passes, more updates."""
    scratch: TrainConfig
    """Of every network that is trained from scratch, the full one included."""
    finetune: TrainConfig
    """Of FNNP's finalists."""
    calibration_images: int = 1000
    """Training images for the batch-norm statistics of a sub-network."""
    search_images: int
    """Validation images whose features are stored."""
    search_batch: int = 512
    """Of them at once; batch norms normalise with the statistics of a batch."""
    judge_images: int | None = None
    """Validation images that the other proxies look at; all if not given."""
    seed: int = 0
    """Of the super-nets, the searches, the choice of images and of sub-networks."""

    cost_networks: tuple[tuple[str, int, int], ...] = (("resnet20", 32, 128), ("mobilenet_v1", 64, 32))
    """Of `cost`: (network, pixels, images per step)."""
    cost_precisions: tuple[Precision, ...] = ("fp32", "bf16")
    """Of `cost`."""
    cost_rounds: int = 21
    """Rounds of `cost`: each times a step of either kind."""
    cost_genes: int = 40
    """Genes per stage that `cost` evaluates in either way."""
    cost_gene_images: tuple[int, ...] = (128, 512)
    """Stored images that they are evaluated on."""

    mixed: int = 20
    """Of `ranking`: networks of mixed budgets."""
    mixed_again: int = 4
    """How many of them are trained a second time, for the noise."""
    range: tuple[float, float] = (0.15, 0.9)
    """Share of the multiply-adds that they have, evenly spread."""
    fixed: int = 14
    """Networks of the one budget; the first is the uniform one."""
    fixed_again: int = 14
    """How many of them are trained a second time."""
    spreads: tuple[float, ...] = (0.25, 0.6, 1.0)
    """Standard deviation of the logarithm of the layers' ratios, in turns: from nearly uniform to wild."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of `result`: trainings of each network."""
    fnnp_candidates: int = 60
    """Candidates of FNNP's search."""
    evaluations: int = 1000
    """Genes per stage of every search."""
    exhaustive: int = 4096
    """The knapsack looks at all genes of a stage that has no more than this."""

    division_seeds: tuple[int, ...] = (0, 1, 2)
    """Of `division`: searches of either kind."""

    candidates: tuple[int, ...] = (2, 4, 8, 16, 31)
    """Of `expectation`: widths per layer."""
    candidate_epochs: tuple[int, ...]
    """Lengths of the super-nets' training (the paper: 100 and 500)."""
    depths: tuple[str, ...] = ()
    """Networks that it is shown for; the model alone if empty (the paper: three depths)."""
    samples: int = 50
    """n: random sub-networks of each super-net."""

    other_teacher: str = "benchmarks.stagewise.teacher:separable_cifar"
    """Of `teachers`: the other architecture (S2), with the stages' resolutions of the model."""
    teacher: TrainConfig
    """How it is trained."""
    teacher_seeds: tuple[int, ...] = (0, 1, 2)
    """Trainings of each winner; those of `result` count."""

    resamples: int = 1000
    """Of the bootstrap intervals on the page."""

    def __post_init__(self) -> None:
        if self.fixed < 2 or self.mixed < 2 or self.samples < 1 or not self.seeds:
            raise ConfigError(
                "A ranking needs two networks, an expectation a sample, a result a seed, but got "
                f"fixed={self.fixed}, mixed={self.mixed}, samples={self.samples}, seeds={self.seeds}."
            )
        low, high = self.range
        if not 0 < low < high <= 1:
            raise ConfigError(f"The range of the budgets is 0 < low < high <= 1, but got {self.range}.")

    @property
    def single_pass(self) -> TrainConfig:
        """Of super-nets whose step has one pass: as many passes as the others in all."""
        steps = self.supernet.max_steps
        longer = None if steps is None else steps * self.passes
        return replace(self.supernet, epochs=self.supernet.epochs * self.passes, max_steps=longer)

    def single_path(self, epochs: int) -> TrainConfig:
        """Of the super-nets of `expectation`."""
        return replace(self.supernet, epochs=epochs)

    def identity(self) -> dict[str, Any]:
        """What decides a single result, as JSON data; how many results there are may grow."""
        return identity(self, _FREE)


def cpu() -> StagewiseSettings:
    """ResNet-20 on two cores: result and ranking in three hours, all parts in six to seven.

    Estimated from a step of 64 images with bf16 on a core that shares its machine with another: 0.14 s for a network
    of half the multiply-adds. Where each training has minutes, small batches and a schedule with a warm-up count: three
    such epochs bring the uniform network to 74 % of the validation images, with cosine decay from 0.1 to 71 %.
    """
    fast: dict[str, Any] = {"batch_size": 64, "schedule": "one_cycle", "precision": "bf16", "channels_last": True}
    return StagewiseSettings(
        model="resnet20",
        workers=2,
        supernet=TrainConfig(epochs=4, lr=0.1, **fast),
        scratch=TrainConfig(epochs=3, lr=0.2, **fast),
        finetune=TrainConfig(epochs=2, lr=0.02, **fast),
        teacher=TrainConfig(epochs=4, lr=0.1, **fast),
        search_images=1024,
        judge_images=2000,
        mixed_again=2,
        fixed=12,
        fixed_again=4,
        candidates=(2, 8, 31),
        candidate_epochs=(3, 9),
    )


def accelerator() -> StagewiseSettings:
    """ResNet-56 at real length (super-nets as in the paper, section 4.1), on one accelerator.

    Not timed here: no accelerator was at hand.
    """
    fast: dict[str, Any] = {"precision": "bf16", "channels_last": True}
    paper: dict[str, Any] = {"batch_size": 512, "nesterov": False, "weight_decay": 3e-4}
    return StagewiseSettings(
        model="resnet56",
        workers=4,
        threads=2,
        supernet=TrainConfig(
            epochs=50, lr=0.025, schedule="step", step_milestones=(0.2, 0.4, 0.6, 0.8), **paper, **fast
        ),
        scratch=TrainConfig(epochs=100, lr=0.1, **fast),
        finetune=TrainConfig(epochs=30, lr=0.02, schedule="one_cycle", **fast),
        teacher=TrainConfig(epochs=100, lr=0.1, **fast),
        search_images=2048,
        mixed=30,
        fixed=20,
        fixed_again=20,
        seeds=(0, 1, 2, 3, 4),
        fnnp_candidates=100,
        evaluations=2000,
        candidate_epochs=(100, 500),
        depths=("resnet20", "resnet32", "resnet56"),
        samples=100,
        cost_networks=(("resnet56", 32, 512), ("torchvision:mobilenet_v2", 224, 128)),
        cost_gene_images=(512, 2048),
    )


def tiny() -> StagewiseSettings:
    """Everything cut down, to see that it runs to its end; the figures mean nothing."""
    brief = TrainConfig(epochs=1, max_steps=2, batch_size=32, lr=0.05)
    return StagewiseSettings(
        model="digits_net",
        workers=0,
        supernet=brief,
        scratch=brief,
        finetune=brief,
        teacher=brief,
        calibration_images=64,
        search_images=64,
        search_batch=32,
        judge_images=50,
        mixed=3,
        mixed_again=1,
        fixed=3,
        fixed_again=2,
        seeds=(0, 1),
        fnnp_candidates=3,
        evaluations=12,
        exhaustive=0,
        division_seeds=(0, 1),
        candidates=(2, 4),
        candidate_epochs=(1,),
        samples=2,
        other_teacher="benchmarks.stagewise.teacher:separable_digits",
        teacher_seeds=(0,),
        cost_networks=(("resnet20", 16, 4),),
        cost_precisions=("fp32",),
        cost_rounds=2,
        cost_genes=2,
        cost_gene_images=(8,),
        resamples=20,
    )


SETTINGS: dict[str, Callable[[], StagewiseSettings]] = {"cpu": cpu, "accelerator": accelerator, "tiny": tiny}
"""By name, for the command line."""
