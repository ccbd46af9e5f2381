"""Which examples come when: epochs, shares of several processes, stratified picks."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from widthwise.errors import ConfigError, EmptyData


def share(count: int, shard: tuple[int, int]) -> Int64[Tensor, " s"]:
    """Return one rank's positions in a batch of `count` examples, `shard = (rank, world)`.

    Rank r takes positions r, r + world, ... Together the ranks hold the batch, each example once. Only a last
    batch with fewer examples than ranks repeats some, so that every rank has something to do.
    """
    rank, world = shard
    return torch.arange(max(count, world))[rank::world] % count


@dataclass(frozen=True, eq=False, slots=True)
class EpochPlan:
    """One pass over n examples in global batches.

    Raises:
        ConfigError: a batch size below 1, a rank outside the world, or a batch smaller than the world.
    """

    order: Int64[Tensor, " n"]
    """The example at each slot of the epoch."""
    batch_size: int
    """Examples per global batch, over all ranks."""
    shard: tuple[int, int] = (0, 1)
    """(rank, world)."""

    def __post_init__(self) -> None:
        rank, world = self.shard
        if not 0 <= rank < world:
            raise ConfigError(f"0 <= rank < world must hold, but got shard={self.shard}; pass (rank, world)")
        if self.batch_size < world:
            raise ConfigError(
                f"a global batch needs an example for each process (at least 1), but got "
                f"batch_size={self.batch_size} for {world} process(es); raise the batch size"
            )

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def slots(self) -> Iterator[Int64[Tensor, " b"]]:
        """Yield, per batch, the slots of the epoch that this rank takes."""
        for start in range(0, len(self.order), self.batch_size):
            count = min(self.batch_size, len(self.order) - start)
            yield start + share(count, self.shard)


def evenly(n: int, most: int) -> Int64[Tensor, " spread"]:
    """At most so many positions of n, evenly spread."""
    return torch.linspace(0, n - 1, min(n, most)).long()


def seeded(seed: int | None, stream: int = 0) -> torch.Generator | None:
    """Return a fresh CPU generator, or None (torch's global one) without a seed.

    Streams of one seed are independent: order is stream 0, augmentation stream 1. torch's CPU generator looks
    at the low 32 bits only, so the streams are set apart within those (by the golden ratio of 2^32).
    """
    if seed is None:
        return None
    return torch.Generator().manual_seed((seed + stream * 0x9E3779B9) % 2**32)


def plan_epoch(n: int, batch_size: int, seed: int | None, shard: tuple[int, int]) -> EpochPlan:
    """Plan a pass over n examples: in order without a seed, else a permutation that (n, seed) decides."""
    order = torch.arange(n) if seed is None else torch.randperm(n, generator=seeded(seed))
    return EpochPlan(order, batch_size, shard)


def pick(labels: Int64[Tensor, " n"], take: Int64[Tensor, " classes"], *, seed: int) -> Int64[Tensor, " picked"]:
    """Pick `take[c]` examples of each class c at random, without replacement; increasing indices."""
    shuffled = torch.randperm(len(labels), generator=seeded(seed))
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    ordered = labels[by_class]
    counts = torch.bincount(labels, minlength=len(take))
    first = counts.cumsum(0) - counts
    place = torch.arange(len(labels)) - first[ordered]
    return by_class[place < take[ordered]].sort().values


def stratified(labels: Int64[Tensor, " n"], n: int, *, seed: int) -> Int64[Tensor, " picked"]:
    """Pick n examples with the classes in proportion (largest remainders; ties are drawn); increasing
    indices.

    Unlike scikit-learn's StratifiedShuffleSplit, n may be smaller than the number of classes, or all
    examples.

    Raises:
        EmptyData: n lies outside 1..len(labels).
    """
    if not 1 <= n <= len(labels):
        raise EmptyData(f"a subset takes 1 to {len(labels)} examples of this split, but got n={n}")
    counts = torch.bincount(labels)
    # In integers: n * count // total and the remainder are exact, so equal classes tie exactly.
    take = counts * n // len(labels)
    remainder = counts * n % len(labels)
    shuffled = torch.randperm(len(counts), generator=seeded(seed))
    largest = shuffled[torch.argsort(remainder[shuffled], descending=True, stable=True)]
    take[largest[: n - int(take.sum())]] += 1
    return pick(labels, take, seed=seed)


def hold_out(
    labels: Int64[Tensor, " n"], fraction: float, *, seed: int, where: str
) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " held"]]:
    """Split indices in two, class by class; every class has at least one example on either side.

    Returns (kept, held out), both increasing. Raises EmptyData where a class has fewer than two examples.
    """
    counts = torch.bincount(labels)
    single = (counts == 1).nonzero().flatten().tolist()
    if single or len(labels) < 2:
        raise EmptyData(
            f"a stratified split needs two examples or more of every class, but {where} has {len(labels)} "
            f"examples and just one of class(es) {single[:10]}; add images, or pass a validation part of "
            "your own"
        )
    wanted = (counts * fraction).round().long()
    held = pick(labels, torch.minimum(wanted.clamp(min=1), (counts - 1).clamp(min=0)), seed=seed)
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[held] = False
    return kept.nonzero().flatten(), held
