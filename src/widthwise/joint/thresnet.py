"""ThresNet: chooses a threshold for every group from its filter weights (joint search-and-training, section 3.2)."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import ceil, log2
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from widthwise.channels import ChannelGraph
from widthwise.errors import ConfigError

__all__ = ["THRESHOLDS", "Policy", "ThresNet"]

THRESHOLDS = (0.6, 0.65, 0.7, 0.75, 0.8)
"""What the paper chooses among."""

HIDDEN = 128
"""What every group's weights are expanded to."""


def _expansion(width: int) -> nn.Sequential:
    """From the weights of a group to HIDDEN numbers: 3, 2 and 1 layers for 16, 32 and 64, each twice the last."""
    count = max(1, ceil(log2(HIDDEN / width)))
    sizes = [width * 2**layer for layer in range(count)] + [HIDDEN]
    return nn.Sequential(*(part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())))


class ThresNet(nn.Module):
    """Fully connected layers: an expansion for every width that groups have, and one shrinking network for all.

    Args:
        graph: whose groups.
        thresholds: to choose from, each in (0, 1].
        seed: of the weights.
    """

    def __init__(self, graph: ChannelGraph, thresholds: Sequence[float] = THRESHOLDS, *, seed: int = 0) -> None:
        super().__init__()
        if not thresholds or not all(0 < t <= 1 for t in thresholds):
            raise ConfigError(f"Thresholds are shares of the probability, one or more in (0, 1], but got {thresholds}.")
        self._groups = [group.ids for group in graph.prunable]
        self.thresholds = torch.tensor(thresholds, dtype=torch.float64)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            widths = sorted({len(ids) for ids in self._groups})
            self.expansions = nn.ModuleDict({str(width): _expansion(width) for width in widths})
            sizes = [HIDDEN, HIDDEN // 2, HIDDEN // 4]
            layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
            self.shrinking = nn.Sequential(*layers, nn.Linear(sizes[-1], len(thresholds)))

    def forward(self, alpha: Float[Tensor, "channels"]) -> Float[Tensor, "groups choices"]:
        """The logarithm of the probability of each threshold for each group (equation 2)."""
        wide = [self.expansions[str(len(ids))](_standard(alpha[ids.to(alpha.device)])) for ids in self._groups]
        scores: Tensor = self.shrinking(torch.stack(wide))
        return F.log_softmax(scores, dim=1)


def _standard(weights: Float[Tensor, "width"]) -> Float[Tensor, "width"]:
    """Mean 0 and spread 1: weights start small, and groups of one width must be told apart."""
    return (weights - weights.mean()) / weights.std(correction=0).clamp(min=1e-6)


class Policy:
    """Draws thresholds, and learns from rewards by policy gradient (equations 3 and 4).

    What the paper is silent on: rewards are taken relative to a moving mean of earlier ones, which changes no
    gradient's expectation and its variance a lot, and in units of their spread; and the entropy of the policy counts a
    little, or it settles on a neighbour of the best thresholds. The mean forgets fast: rewards rise while the network
    trains, and a mean that lags behind finds every episode good.

    Args:
        net: the policy.
        lr: learning rate of Adam.
        memory: share of the mean that one more update leaves as it is, in [0, 1).
        entropy: how much the entropy counts, beside rewards of spread 1; 0 is the paper.
    """

    def __init__(self, net: ThresNet, *, lr: float = 1e-3, memory: float = 0.5, entropy: float = 0.2) -> None:
        self.net, self.memory, self._entropy = net, memory, entropy
        self.optimizer = torch.optim.Adam(net.parameters(), lr=lr)
        self.baseline: float | None = None

    @torch.no_grad()
    def choose(self, alpha: Float[Tensor, "channels"], episodes: int, *, seed: int) -> Int64[Tensor, "episodes groups"]:
        """The index of a threshold for every group, drawn, so many times."""
        generator = torch.Generator().manual_seed(seed)
        chances = self.net(alpha).exp().cpu()
        return torch.multinomial(chances, episodes, replacement=True, generator=generator).T

    @torch.no_grad()
    def likeliest(self, alpha: Float[Tensor, "channels"]) -> Int64[Tensor, "groups"]:
        """The index of the most probable threshold for every group."""
        logs: Tensor = self.net(alpha)
        return logs.argmax(1).cpu()

    @torch.no_grad()
    def entropy(self, alpha: Float[Tensor, "channels"]) -> float:
        """In nats, the mean over groups: log(choices) where nothing is decided, 0 where everything is."""
        return float(_entropies(self.net(alpha)).mean())

    def thresholds(self, choices: Int64[Tensor, "groups"]) -> Float[Tensor, "groups"]:
        """The thresholds of these indices, float64."""
        return self.net.thresholds[choices]

    @staticmethod
    def objective(
        logs: Float[Tensor, "groups choices"],
        choices: Int64[Tensor, "episodes groups"],
        rewards: Float[Tensor, "episodes"],
    ) -> Float[Tensor, ""]:
        """What has the gradient of equation 4: the mean over episodes of reward times the log-probability."""
        taken = logs.expand(len(choices), -1, -1).gather(2, choices.to(logs.device)[:, :, None])[:, :, 0]
        return (rewards.to(taken) * taken.sum(1)).mean()

    def learn(
        self,
        alpha: Float[Tensor, "channels"],
        choices: Int64[Tensor, "episodes groups"],
        rewards: Float[Tensor, "episodes"],
    ) -> None:
        """One step of the policy on K episodes.

        Args:
            alpha: the filter weights that the choices were made by; not changed.
            choices: index of the threshold of each group in each episode.
            rewards: -(loss + gamma * params) of each episode.
        """
        mean = float(rewards.mean())
        before = mean if self.baseline is None else self.baseline
        self.baseline = self.memory * before + (1 - self.memory) * mean
        spread = float(rewards.std()) if len(rewards) > 1 else 0.0
        logs = self.net(alpha.detach())
        gain = self.objective(logs, choices, (rewards - before) / (spread or 1.0))
        self.optimizer.zero_grad()
        (-gain - self._entropy * _entropies(logs).sum()).backward()
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        """All that a later process needs to go on: tensors and plain values."""
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(), "baseline": self.baseline}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.baseline = state["baseline"]


def _entropies(logs: Float[Tensor, "groups choices"]) -> Float[Tensor, "groups"]:
    return -(logs.exp() * logs).sum(1)
