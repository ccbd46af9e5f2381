"""How exploration and estimation goes."""

from dataclasses import dataclass

from widthwise.errors import ConfigError

__all__ = ["ExplorationSettings"]


@dataclass(frozen=True, kw_only=True)
class ExplorationSettings:
    """Algorithm 1 of the paper, lines 2 to 17. The defaults are the paper's for CIFAR where it says something, but
    for ``t_alpha``, which belongs to its start at p = 1, and the surrogate."""

    samples: int = 4
    """P: sub-networks drawn from every distribution."""
    resamplings: int = 5
    """K: distributions that are explored in a step, one after the other; 0 is no exploration (table 3)."""
    moves: int = 5
    """m: moves from one distribution to the next, with one momentum."""
    move_size: float = 0.01
    """epsilon of equations 10 and 11. At 0.01 a set of five moves is mostly noise: it takes p about 0.05 away, the
    energy a thousandth of that."""
    t_alpha: float = 1.0
    """T_alpha at the start: how many times the budget a sample costs on average. Above 1 for a search that starts at
    p = 1 and comes down to the budget (the paper: 2, and 4 for ImageNet)."""
    t_beta: float = 3.0
    """T_beta at the start: the power of the cost in the variance term (5 for ImageNet)."""
    decay: float = 0.999
    """What both are multiplied by at every resampling; T_alpha stays at or above 1."""
    variance_weight: float = 0.001
    """lambda: what the variance term counts in the energy (equation 8)."""
    lr: float = 0.001
    """Learning rate of Adam in the estimation."""
    proximal_steps: int = 5
    """Steps of Adam on equation 14."""
    proximity: float = 1.0
    """What the KL divergence counts in equation 14."""
    surrogate: float = 0.5
    """How fast a linear model of the loss learns that takes noise out of the gradients, in [0, 1]; 0 is the paper."""
    least_effective: float = 0.5
    """Share of the samples that must count, by the effective sample size; weights are flattened until they do."""

    def __post_init__(self) -> None:
        whole = {"samples": 2, "resamplings": 0, "moves": 1, "proximal_steps": 1}
        for name, least in whole.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is at least {least}, but got {getattr(self, name)}.")
        for name in ("move_size", "t_beta", "variance_weight", "lr", "proximity"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is 0 or above, but got {getattr(self, name)}.")
        if not 0 <= self.surrogate <= 1:
            raise ConfigError(f"surrogate is a number in [0, 1], but got {self.surrogate}.")
        if self.t_alpha < 1:
            raise ConfigError(f"t_alpha is 1 or above: samples come down to the budget, but got {self.t_alpha}.")
        for name in ("decay", "least_effective"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} is a number in (0, 1], but got {getattr(self, name)}.")
