"""Archived genes as arcs between states: the chain of stages as a graph whose paths are whole networks.

A state says how wide the links are that matter before and after a place between two stages. An arc is a gene of the
stage in between; its cost depends on the state that it leaves, because the links which enter a stage set the size of
its first layers.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from jaxtyping import Float64, Int64

from widthwise.search.division.losses import Archive
from widthwise.search.division.pareto import undominated
from widthwise.search.division.problem import StageProblem

__all__ = ["Arcs", "build_arcs", "new_groups", "runs"]

CHUNK = 1 << 16
"""Rows of widths that are measured at once."""


@dataclass(frozen=True, eq=False)
class Arcs:
    """What may be done in one stage; sorted by ``source``."""

    source: Int64[np.ndarray, "arcs"]
    """The state before the stage."""
    target: Int64[np.ndarray, "arcs"]
    """The state behind it."""
    gene: Int64[np.ndarray, "arcs"]
    """Which archived gene."""
    entering: Int64[np.ndarray, "arcs new"]
    """The widths of the groups that cost here, but are owned by a later stage only."""
    loss: Float64[np.ndarray, "arcs"]
    cost: Int64[np.ndarray, "arcs metrics"]
    states: int
    """How many states there are before the stage."""

    def keep(self, chosen: np.ndarray) -> "Arcs":
        """The arcs at an index or mask that leaves them in order."""
        return replace(
            self,
            source=self.source[chosen],
            target=self.target[chosen],
            gene=self.gene[chosen],
            entering=self.entering[chosen],
            loss=self.loss[chosen],
            cost=self.cost[chosen],
        )


def build_arcs(problem: StageProblem, archives: list[Archive]) -> list[Arcs]:
    """The arcs of each stage, without those that cannot lie in a network within the limits or that another beats."""
    least = torch.stack([problem.cost(s, problem.allowed.smallest[None])[0] for s in range(problem.stages)])
    before: tuple[int, ...] = ()
    states = np.zeros((1, 0), dtype=np.int64)
    result = []
    for stage, archive in enumerate(archives):
        passed = {g for touched in problem.touched[: stage + 1] for g in touched}
        ahead = {g for touched in problem.touched[stage + 1 :] for g in touched}
        after = tuple(sorted(passed & ahead))
        room = (problem.limit - least.sum(0) + least[stage]).numpy()
        arcs, states = _stage_arcs(problem, stage, archive, states, before, after, room)
        result.append(arcs)
        before = after
    return result


def new_groups(problem: StageProblem, stage: int) -> list[int]:
    """The groups that cost in a stage, but belong to a later one, and did not matter before."""
    before = {g for touched in problem.touched[:stage] for g in touched}
    return [g for g in problem.touched[stage] if g not in problem.own[stage] and g not in before]


def _stage_arcs(
    problem: StageProblem,
    stage: int,
    archive: Archive,
    states: Int64[np.ndarray, "states before"],
    before: tuple[int, ...],
    after: tuple[int, ...],
    room: Int64[np.ndarray, "metrics"],
) -> tuple[Arcs, Int64[np.ndarray, "next_states after"]]:
    own, genes = problem.own[stage], archive.genes.numpy()
    source, gene = _agreeing(states, before, genes, own)
    new = new_groups(problem, stage)
    choices = np.array(list(product(*(problem.allowed.choices[g].tolist() for g in new))), dtype=np.int64)
    source, gene = np.repeat(source, len(choices)), np.repeat(gene, len(choices))
    entering = np.tile(choices.reshape(len(choices), len(new)), (len(gene) // len(choices), 1))
    cost = np.zeros((len(gene), len(room)), dtype=np.int64)
    leaving = np.zeros((len(gene), len(after)), dtype=np.int64)
    for start in range(0, len(gene), CHUNK):
        part = slice(start, start + CHUNK)
        rows = problem.allowed.smallest.repeat(len(gene[part]), 1)
        rows[:, list(before)] = torch.from_numpy(states[source[part]])
        rows[:, list(own)] = torch.from_numpy(genes[gene[part]])
        rows[:, new] = torch.from_numpy(entering[part])
        cost[part] = problem.cost(stage, rows).numpy()
        leaving[part] = rows[:, list(after)].numpy()
    fits = np.flatnonzero((cost <= room).all(1))
    following, target = np.unique(leaving[fits], axis=0, return_inverse=True)
    target, loss = target.reshape(-1), archive.losses.numpy()[gene[fits]]
    front = undominated(source[fits] * max(1, len(following)) + target, loss, cost[fits])
    kept = fits[front]
    arcs = Arcs(source[kept], target[front], gene[kept], entering[kept], loss[front], cost[kept], len(states))
    return arcs, following


def _agreeing(
    states: Int64[np.ndarray, "states before"],
    before: tuple[int, ...],
    genes: Int64[np.ndarray, "genes own"],
    own: tuple[int, ...],
) -> tuple[Int64[np.ndarray, "pairs"], Int64[np.ndarray, "pairs"]]:
    """(state, gene) wherever both give the groups that they share the same widths; ordered by state."""
    shared = [g for g in own if g in before]
    left = states[:, [before.index(g) for g in shared]]
    right = genes[:, [own.index(g) for g in shared]]
    label = np.unique(np.concatenate([left, right]), axis=0, return_inverse=True)[1].reshape(-1)
    order = np.argsort(label[len(states) :], kind="stable")
    ordered = label[len(states) :][order]
    starts = np.searchsorted(ordered, label[: len(states)], side="left")
    counts = np.searchsorted(ordered, label[: len(states)], side="right") - starts
    which, place = runs(starts, counts)
    return which, order[place]


def runs(
    starts: Int64[np.ndarray, "n"], counts: Int64[np.ndarray, "n"]
) -> tuple[Int64[np.ndarray, "pairs"], Int64[np.ndarray, "pairs"]]:
    """Every (i, starts[i] + k) with k < counts[i], in order."""
    which = np.repeat(np.arange(len(starts)), counts)
    offsets = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    return which, np.repeat(starts, counts) + offsets
