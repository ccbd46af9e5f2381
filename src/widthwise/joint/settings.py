"""How the rounds of joint search-and-training go."""

from dataclasses import dataclass, field

from widthwise.errors import ConfigError
from widthwise.joint.sampler import Rate, check_rate
from widthwise.joint.thresnet import THRESHOLDS
from widthwise.train import TrainConfig

__all__ = ["RoundSettings"]


def _network() -> TrainConfig:
    """The paper's settings for CIFAR: 40 epochs at 0.05 for the first twenty rounds (section 4.1)."""
    return TrainConfig(epochs=40, lr=0.05, weight_decay=5e-5, schedule="cosine")


def _weights() -> TrainConfig:
    """The paper's: 5 epochs at a fixed rate of 0.001."""
    return TrainConfig(epochs=5, lr=1e-3, weight_decay=0.0, schedule="constant")


@dataclass(frozen=True, kw_only=True)
class RoundSettings:
    """Algorithm 2, lines 4 to 12. The defaults are the paper's for CIFAR where it says something."""

    rounds: int = 30
    """T: sub-networks that are sampled and trained."""
    network: TrainConfig = field(default_factory=_network)
    """How a sub-network is trained on the training images (M epochs)."""
    late: TrainConfig | None = None
    """How it is trained in late rounds; as in all others if not given. (The paper: 30 epochs at 0.01.)"""
    late_round: int = 20
    """The first late round, counted from 0."""
    weights: TrainConfig = field(default_factory=_weights)
    """How its filter weights are trained on the validation images (N epochs)."""
    thresholds: tuple[float, ...] = THRESHOLDS
    """What ThresNet chooses among, each in (0, 1]; under a budget below 1."""
    gamma: float = 2.0
    """What parameters, as a share of the full network's, count in the reward (equation 3)."""
    episodes: int = 8
    """K: sub-networks whose rewards make one step of the policy."""
    episode_images: int = 512
    """Validation images that the loss of an episode is measured on, as one batch, anew for each step."""
    policy_steps: int = 5
    """Steps of the policy in each round. The paper does not say; on a problem with a known optimum it takes 150 steps
    to find it, and 30 rounds of one leave it nearly as undecided as it was drawn (``tests/joint/test_thresnet.py``)."""
    policy_lr: float = 1e-3
    """Learning rate of ThresNet."""
    entropy: float = 0.2
    """How much the policy's entropy counts beside rewards of spread 1; 0 is the paper."""
    noise: float = 0.25
    """Scale of the Gumbel noise; 0 is without. The paper has no scale, but at 1 a tenth of a CIFAR ResNet's MACs would
    be left (docs/joint.md), where it reports about half."""
    by_noise: bool = False
    """Keep the channels with the highest noisy probabilities instead of the largest weights."""
    fixed_rate: Rate | None = None
    """Prune this share of every group instead (the ablation of table 2); ``budget`` is the share that just meets it."""

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("rounds", "episodes", "policy_steps")}
        if min(counts.values()) < 1 or self.late_round < 0:
            raise ConfigError(f"Counts are at least 1 and late_round 0 or above, but got {counts}, {self.late_round}.")
        if self.episode_images < 2:
            raise ConfigError(
                f"episode_images is at least 2, because batch norms need more than one, but got {self.episode_images}."
            )
        if self.gamma < 0 or self.noise < 0 or self.entropy < 0:
            raise ConfigError(
                "gamma, noise and entropy are 0 or above, but got "
                f"gamma={self.gamma}, noise={self.noise}, entropy={self.entropy}."
            )
        if not self.thresholds or not all(0 < t <= 1 for t in self.thresholds):
            raise ConfigError(f"thresholds are one or more shares in (0, 1], but got {self.thresholds}.")
        if self.fixed_rate is not None:
            check_rate(self.fixed_rate, under_budget=self.fixed_rate == "budget")

    def network_of(self, round_: int) -> TrainConfig:
        """How the sub-network of one round is trained, counted from 0."""
        return self.network if self.late is None or round_ < self.late_round else self.late
