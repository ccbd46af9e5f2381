"""Small problems whose best sub-network is known."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from widthwise import Budget, CostModel, Subnet, WidthSpace, trace
from widthwise.cost import Limits
from widthwise.exploration import ExplorationEstimation, ExplorationSettings
from widthwise.subnet import Space

Loss = Callable[[Bool[Tensor, "channels"]], float]


@dataclass(frozen=True, eq=False)
class Toy:
    """A layer's channels, a loss over them, and the best of the sub-networks that the budget allows."""

    space: Space
    limits: Limits
    loss: Loss
    best: Bool[Tensor, "channels"]


def _space(channels: int) -> Space:
    model = nn.Sequential(
        nn.Conv2d(3, channels, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)
    )
    return WidthSpace().of(trace(model, torch.zeros(1, 3, 8, 8)))


def _toy(channels: int, loss: Loss, best: Bool[Tensor, "channels"]) -> Toy:
    space = _space(channels)
    cost = CostModel(space.graph)
    return Toy(space, Budget(macs=cost.macs(Subnet(best))).on(cost, space), loss, best)


def additive(channels: int, seed: int) -> Toy:
    """Every channel lowers the loss by itself, the best half five times as much as the others."""
    best = torch.randperm(channels, generator=torch.Generator().manual_seed(seed)) < channels // 2
    worth = torch.where(best, 1.0, 0.2)
    return _toy(channels, lambda keep: float(worth[~keep].sum()) * 4 / channels, best)


def redundant(channels: int, seed: int) -> Toy:
    """Half of the channels come in pairs that do the same work, so that removing any one of them costs next to nothing.

    One of each pair is needed, and one of the two is slightly better; the others lower the loss by themselves.
    """
    places = torch.randperm(channels, generator=torch.Generator().manual_seed(seed))
    pairs, rest = places[: channels // 2].reshape(-1, 2), places[channels // 2 :]
    useful, idle = rest.chunk(2)
    best = torch.zeros(channels, dtype=torch.bool)
    best[pairs[:, 0]] = best[useful] = True

    def loss(keep: Bool[Tensor, "channels"]) -> float:
        good, spare = keep[pairs[:, 0]], keep[pairs[:, 1]]
        missing = (~(good | spare)).sum() + 0.15 * (~good & spare).sum()
        return float(missing + 0.4 * (~keep[useful]).sum() + 0.2 * (~keep[idle]).sum()) * 4 / channels

    return _toy(channels, loss, best)


def solved(toy: Toy, settings: ExplorationSettings, evaluations: int, seed: int) -> tuple[bool, int]:
    """Whether the best is found and stays for ten sets of as many samples, and after how many evaluations."""
    searcher = ExplorationEstimation(toy.space, toy.limits, settings, seed=seed)
    count, since, stays = 0, 0, 10 * settings.samples * (1 + QUICK.resamplings)
    while count < evaluations and not (since and count - since >= stays):
        step = searcher.steps
        for subnet in [searcher.ask() for _ in range(settings.samples)]:
            searcher.tell(subnet, -toy.loss(subnet.keep))
            count += 1
        if searcher.steps > step and count < evaluations:
            hit = torch.equal(searcher.found().keep, toy.best)
            since = (since or count) if hit else 0
    return bool(since), since


QUICK = ExplorationSettings(lr=0.005, t_alpha=2.0)
NONE = replace(QUICK, samples=QUICK.samples * 6, resamplings=0, decay=QUICK.decay**QUICK.resamplings)
"""No exploration: as many samples in a step, all from one distribution, and T_alpha falls as fast."""
