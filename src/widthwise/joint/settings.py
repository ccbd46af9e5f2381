"""How the rounds of joint search-and-training go."""

from dataclasses import dataclass, field, replace

from widthwise.errors import ConfigError
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
    late_round: int | None = 20
    """From this round on, counted from 0, ``late_epochs`` and ``late_lr`` hold; None for never."""
    late_epochs: int = 30
    """M in late rounds."""
    late_lr: float = 0.01
    """Learning rate in late rounds."""
    weights: TrainConfig = field(default_factory=_weights)
    """How its filter weights are trained on the validation images (N epochs)."""
    thresholds: tuple[float, ...] = THRESHOLDS
    """What ThresNet chooses among, each in (0, 1]; under a budget below 1."""
    gamma: float = 2.0
    """What parameters, as a share of the full network's, count in the reward (equation 3)."""
    episodes: int = 8
    """K: sub-networks whose rewards make one step of the policy."""
    episode_images: int = 512
    """Validation images that the loss of an episode is measured on, as one batch."""
    policy_lr: float = 1e-3
    """Learning rate of ThresNet."""
    entropy: float = 0.2
    """How much the policy's entropy counts beside rewards of spread 1; 0 is the paper."""
    noise: float = 0.25
    """Scale of the Gumbel noise; 0 is without. The paper has no scale, but at 1 a tenth of a CIFAR ResNet's MACs would
    be left (docs/joint.md), where it reports about half."""
    by_noise: bool = False
    """Keep the channels with the highest noisy probabilities instead of the largest weights."""
    fixed_rate: float | None = None
    """Prune this share of every group instead (the ablation of table 2); under a budget, the share that just meets it
    wherever one number does."""

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.episodes < 1:
            raise ConfigError(f"rounds and episodes are at least 1, but got {self.rounds} and {self.episodes}.")
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
        if self.fixed_rate is not None and not 0 <= self.fixed_rate < 1:
            raise ConfigError(f"fixed_rate is a share in [0, 1), but got {self.fixed_rate}.")

    def network_of(self, round_: int) -> TrainConfig:
        """How the sub-network of one round is trained, counted from 0."""
        if self.late_round is None or round_ < self.late_round:
            return self.network
        return replace(self.network, epochs=self.late_epochs, lr=self.late_lr)
