"""New widths from old ones: drawn, mutated, crossed, and brought under their limits."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from math import prod

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from widthwise.search.breeding import cross
from widthwise.search.division.problem import Gene
from widthwise.search.widths import Used, fill_rows, scale_rows
from widthwise.subnet.space import Space

__all__ = ["breed", "chosen", "draw", "enough", "every_gene", "fit", "keys", "mutate", "number_of_genes"]

LOCAL = 0.8
"""Share of the mutations that go to a neighbouring width; the others go anywhere."""

TRIES = 4
"""Times that genes are bred at most until there are enough new ones."""


def chosen(population: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` random rows of a population that is not empty."""
    return population[torch.randint(len(population), (count,), generator=generator)]


def draw(
    space: Space, groups: Sequence[int], count: int, generator: torch.Generator
) -> Int64[Tensor, "count drawn_groups"]:
    """Random widths of some groups. Half of the rows are even in size, from narrow to wide; the others are not."""
    levels = torch.rand(count, 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, len(groups), generator=generator, dtype=torch.float64)
    even = torch.rand(count, 1, generator=generator) < 0.5
    free = torch.rand(count, len(groups), generator=generator, dtype=torch.float64)
    return _at(space, groups, torch.where(even, levels + 0.15 * noise, free).clamp(0, 1 - 1e-9))


def _at(space: Space, groups: Sequence[int], places: Float64[Tensor, "rows cols"]) -> Int64[Tensor, "rows cols"]:
    """The widths at places in [0, 1) of the lists of choices."""
    columns = [space.choices[g][(p * len(space.choices[g])).long()] for g, p in zip(groups, places.T, strict=True)]
    return torch.stack(columns, 1) if columns else places.long()


def mutate(
    space: Space,
    groups: Sequence[int],
    widths: Int64[Tensor, "rows cols"],
    chance: float,
    generator: torch.Generator,
) -> Int64[Tensor, "rows cols"]:
    """Change each width with a chance, and at least one of each row, to a neighbouring or any other allowed one."""
    if not groups:
        return widths
    changed = torch.rand(widths.shape, generator=generator) < chance
    at_least = torch.randint(widths.shape[1], (len(widths), 1), generator=generator)
    changed.scatter_(1, at_least, True)
    local = torch.rand(widths.shape, generator=generator) < LOCAL
    up = torch.rand(widths.shape, generator=generator) < 0.5
    anywhere = _at(space, groups, torch.rand(widths.shape, generator=generator, dtype=torch.float64))
    near = torch.empty_like(widths)
    for column, group in enumerate(groups):
        choices = space.choices[group]
        place = torch.searchsorted(choices, widths[:, column].contiguous())
        near[:, column] = choices[torch.where(up[:, column], place + 1, place - 1).clamp(0, len(choices) - 1)]
    return torch.where(changed, torch.where(local, near, anywhere), widths)


def breed(
    space: Space,
    groups: Sequence[int],
    parents: Int64[Tensor, "parents cols"],
    count: int,
    chance: float,
    generator: torch.Generator,
) -> Int64[Tensor, "count cols"]:
    """Children of random rows: half mutated, half crossed."""
    crossed = count // 2
    mutants = mutate(space, groups, chosen(parents, count - crossed, generator), chance, generator)
    mixed = cross(chosen(parents, crossed, generator), chosen(parents, crossed, generator), generator)
    return torch.cat([mutants, mixed])


def enough(count: int, bred: Callable[[], Iterable[Gene]], first: Iterable[Gene] = ()) -> list[Gene]:
    """Up to ``count`` different genes: the first ones, then what is bred, more than once if too few of it are new."""
    found = dict.fromkeys(first)
    for _ in range(TRIES):
        found.update(dict.fromkeys(bred()))
        if len(found) >= count:
            break
    return list(found)[:count]


def fit(
    space: Space,
    used: Used,
    widths: Int64[Tensor, "population groups"],
    free: Sequence[int],
    share: float,
    generator: torch.Generator,
) -> Int64[Tensor, "population groups"]:
    """Bring rows under their limits: scale down the free groups of those above, then fill a share of all.

    The others stay as they are. A row whose narrowest form misses the limits misses them afterwards too.
    """
    over = torch.arange(len(widths))[used(widths, torch.arange(len(widths))) > 1]
    if len(over):
        ratios = widths[over] / space.full.double()
        scaled = scale_rows(space, lambda w, rows: used(w, over[rows]), ratios, widths[over], free)
        widths = widths.index_copy(0, over, scaled)
    full = torch.arange(len(widths))[torch.rand(len(widths), generator=generator) < share]
    if not len(full):
        return widths
    return widths.index_copy(0, full, fill_rows(space, lambda w, rows: used(w, full[rows]), widths[full], free))


def number_of_genes(space: Space, groups: Sequence[int]) -> int:
    """How many combinations of widths some groups have."""
    return prod(len(space.choices[g]) for g in groups)


def every_gene(space: Space, groups: Sequence[int]) -> Int64[Tensor, "count cols"]:
    """All widths of some groups, int64 [count, groups]."""
    rows = list(product(*(space.choices[g].tolist() for g in groups)))
    return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), len(groups))


def keys(genes: Int64[Tensor, "count own"]) -> Iterator[Gene]:
    """Rows as hashable genes."""
    return map(tuple, genes.tolist())
