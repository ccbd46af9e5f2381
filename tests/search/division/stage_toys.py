"""Tiny networks in stages, made-up losses, and the best of all sub-networks by brute force."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from widthwise import ChannelGraph, CostModel, WidthSpace, trace
from widthwise.cost import Limits
from widthwise.search import StageProblem
from widthwise.subnet import Space

THIRDS = WidthSpace(ratios=(1 / 3, 2 / 3, 1.0))

LIMITS = [("macs",), ("params",), ("macs", "params")]


class Plain(nn.Module):
    """Two convolutions per stage; the last one of a stage is a link in cost to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 9, 3, 2, 1), nn.ReLU())
        self.three = nn.Sequential(nn.Conv2d(9, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 12, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.three(self.two(self.one(x))).mean((2, 3)))


class Block(nn.Module):
    """A residual block; the shortcut of a wider one is padded with zero channels (option A)."""

    def __init__(self, before: int, inside: int, after: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(before, inside, 3, 1, 1), nn.Conv2d(inside, inside, 3, 1, 1)
        self.c = nn.Conv2d(inside, after, 3, 1, 1)
        self.more = after - before

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.c(F.relu(self.b(F.relu(self.a(x))))) + F.pad(x, (0, 0, 0, 0, 0, self.more)))


class Padded(nn.Module):
    """The first stage's stream runs on through the others, so its group has a say in every loss."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 1, 1)
        self.one, self.two, self.three = Block(6, 3, 6), Block(6, 6, 9), Block(9, 9, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.three(self.two(self.one(self.stem(x)))).mean((2, 3)))


STAGES = ("one", "two", "three")


@dataclass(frozen=True, eq=False)
class Toy:
    """A network with the cost of every sub-network."""

    space: Space
    costs: tuple[CostModel, ...]
    rest: CostModel
    own: tuple[tuple[int, ...], ...]
    every: Tensor
    """int64 [sub-networks, groups]."""

    def problem(self, **limits: int) -> StageProblem:
        whole = CostModel(self.space.graph)
        return StageProblem(
            space=self.space, limits=Limits(whole, limits), own=self.own, costs=self.costs, rest=self.rest
        )

    def limits(self, share: float, *metrics: str) -> dict[str, int]:
        """Limits at a share of the way from the narrowest to the full network."""
        whole, ends = CostModel(self.space.graph), torch.stack([self.space.smallest, self.space.full])
        low_high = {metric: whole.measure(metric, ends).tolist() for metric in metrics}
        return {metric: int(low + share * (high - low)) for metric, (low, high) in low_high.items()}


def makes(graph: ChannelGraph, index: int, stage: str) -> bool:
    return any(m.role == "out" and m.tensor.startswith(f"{stage}.") for m in graph.prunable[index].members)


def toy(model: nn.Module, widths: WidthSpace = THIRDS) -> Toy:
    """Each stage owns the groups that its convolutions make."""
    graph = trace(model, torch.randn(1, 3, 8, 8))
    space = widths.of(graph)
    costs = tuple(CostModel(graph, lambda path, s=s: path.split(".")[0] == s) for s in STAGES)
    rest = CostModel(graph, lambda path: path.split(".")[0] not in STAGES)
    own = tuple(tuple(g for g in range(len(graph.prunable)) if makes(graph, g, s)) for s in STAGES)
    every = torch.tensor(list(product(*(c.tolist() for c in space.choices))))
    return Toy(space, costs, rest, own, every)


@cache
def toy_of(name: str) -> Toy:
    """One for all tests: ``plain`` or ``padded``."""
    return toy({"plain": Plain, "padded": Padded}[name]())


LossOf = Callable[[int, Tensor], float]


def smooth(problem: StageProblem, seed: int) -> LossOf:
    """Narrower is worse, by group and by the product of neighbours, with some noise."""
    generator = torch.Generator().manual_seed(seed)
    weight = [torch.rand(len(own), generator=generator, dtype=torch.float64) for own in problem.own]
    power = [0.5 + 2 * torch.rand(len(own), generator=generator, dtype=torch.float64) for own in problem.own]
    noise = arbitrary(problem, seed + 1)

    def loss(stage: int, gene: Tensor) -> float:
        lost = 1 - gene / problem.space.full[list(problem.own[stage])].double()
        plain = (weight[stage] * lost ** power[stage]).sum() + 0.3 * (lost[1:] * lost[:-1]).sum()
        return float(plain) + 0.02 * noise(stage, gene)

    return loss


def arbitrary(problem: StageProblem, seed: int) -> LossOf:
    """Any number for any gene."""

    def loss(stage: int, gene: Tensor) -> float:
        key = hash((seed, stage, *gene.tolist())) % (1 << 40)
        return float(torch.rand(1, generator=torch.Generator().manual_seed(key), dtype=torch.float64))

    return loss


class Killed(Exception):
    """The process is gone."""


class Bench:
    """Evaluates genes from a loss function: counts, checks, answers in any order, and dies when it is told to."""

    def __init__(self, problem: StageProblem, loss: LossOf, *, die_after: int | None = None) -> None:
        self.problem, self.loss, self.die_after = problem, loss, die_after
        self.seen: list[tuple[int, tuple[int, ...]]] = []
        self.batches: list[int] = []

    def __call__(self, batch: list[tuple[int, Tensor]]) -> Iterator[tuple[int, float]]:
        self.batches.append(len(batch))
        for position in torch.randperm(len(batch), generator=torch.Generator().manual_seed(len(batch))).tolist():
            if len(self.seen) == self.die_after:
                raise Killed
            stage, widths = batch[position]
            gene = widths[list(self.problem.own[stage])]
            self.seen.append((stage, tuple(gene.tolist())))
            yield position, self.loss(stage, gene)


def brute_force(toy: Toy, problem: StageProblem, loss: LossOf) -> float:
    """The smallest sum of losses of all sub-networks within the limits."""
    every = toy.every[problem.limits.met(toy.every)]
    total = torch.zeros(len(every), dtype=torch.float64)
    for stage, own in enumerate(problem.own):
        genes, which = torch.unique(every[:, list(own)], dim=0, return_inverse=True)
        total += torch.tensor([loss(stage, gene) for gene in genes], dtype=torch.float64)[which]
    return float(total.min())
