"""The losses of stages that were looked at so far: asked for in batches, written down, never evaluated twice."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from widthwise.errors import CorruptRun, NonFiniteLoss, RunError
from widthwise.search.base import Widths
from widthwise.search.division.problem import Gene, StageProblem
from widthwise.search.loop import Log

__all__ = ["Archive", "Evaluate", "Linked", "StageLosses"]

Evaluate = Callable[[list[tuple[int, Widths]]], Iterable[tuple[int, float]]]
"""A batch of (stage, widths of the whole network) to (position in the batch, loss), in any order: a parallel map.
Groups that the stage does not own are whole."""


@dataclass(frozen=True, eq=False)
class Archive:
    """The genes of one stage that were asked for, in that order."""

    genes: Int64[Tensor, "count own"]
    losses: Float64[Tensor, "count"]


@dataclass(frozen=True, eq=False)
class Linked:
    """Those of them that have certain widths of the links, and what they cost with these."""

    genes: Int64[Tensor, "count own"]
    losses: Float64[Tensor, "count"]
    costs: Int64[Tensor, "count metrics"]


class StageLosses:
    """The memory of a search over stages.

    What the log holds already is known from the start, but it enters the :meth:`archive` only when it is asked for.
    So a search that was killed takes the same decisions again, and ends as if it had not been.

    Args:
        problem: the stages.
        evaluate: gives the losses of a batch of genes.
        log: receives each loss as soon as it is there.
        on_loss: is called after each evaluation with (how many of the batch have come, how many it has).

    Raises:
        CorruptRun: the log holds genes that this problem does not have.
    """

    def __init__(
        self,
        problem: StageProblem,
        evaluate: Evaluate,
        log: Log,
        *,
        on_loss: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.problem = problem
        self._evaluate, self._log, self._on_loss = evaluate, log, on_loss
        self._known: list[dict[Gene, float]] = [{} for _ in problem.own]
        self._asked: list[dict[Gene, float]] = [{} for _ in problem.own]
        self._archives: list[Archive | None] = [None for _ in problem.own]
        self._linked: list[dict[Gene, Linked]] = [{} for _ in problem.own]
        for event in log.events:
            if event.get("event") == "stage_loss":
                self._replay(event)

    def ask(self, genes: Sequence[tuple[int, Gene]]) -> None:
        """Bring the losses of these (stage, gene) into the archive; only unknown ones are evaluated, all at once.

        Raises:
            NonFiniteLoss: a loss is not a number.
            RunError: ``evaluate`` did not give one loss for each.
        """
        new = [(stage, gene) for stage, gene in dict.fromkeys(genes) if gene not in self._asked[stage]]
        self._fetch([(stage, gene) for stage, gene in new if gene not in self._known[stage]])
        for stage, gene in new:
            self._asked[stage][gene] = self._known[stage][gene]
            self._archives[stage] = None
            self._linked[stage] = {}

    def asked(self, stage: int) -> Mapping[Gene, float]:
        """The losses of the genes that were asked for, in that order."""
        return self._asked[stage]

    def loss(self, stage: int, gene: Gene) -> float:
        """The loss of a gene that was asked for."""
        return self._asked[stage][gene]

    def of(self, widths: Widths) -> tuple[float, ...]:
        """The loss of each stage of one network, int64 [groups]; what was not asked for yet is asked for.

        Raises:
            NonFiniteLoss, RunError: as :meth:`ask`.
        """
        genes = [(stage, tuple(widths[list(own)].tolist())) for stage, own in enumerate(self.problem.own)]
        self.ask(genes)
        return tuple(self.loss(stage, gene) for stage, gene in genes)

    def count(self, stage: int) -> int:
        """How many genes of a stage were asked for."""
        return len(self._asked[stage])

    def quota(self, stage: int, most: int, turns: int) -> int:
        """How many genes of a stage the next of so many turns may ask for, if they are ``most`` with those so far."""
        return max(0, -(-(most - self.count(stage)) // turns))

    @property
    def total(self) -> int:
        """How many genes were asked for in all."""
        return sum(map(len, self._asked))

    @property
    def archives(self) -> list[Archive]:
        """The archive of each stage."""
        return [self.archive(stage) for stage in range(self.problem.stages)]

    def archive(self, stage: int) -> Archive:
        """The genes of a stage that were asked for, with their losses."""
        found = self._archives[stage]
        if found is None:
            asked, width = self._asked[stage], len(self.problem.own[stage])
            genes = torch.tensor(list(asked), dtype=torch.int64).reshape(len(asked), width)
            found = Archive(genes, torch.tensor(list(asked.values()), dtype=torch.float64))
            self._archives[stage] = found
        return found

    def linked(self, stage: int, widths: Widths) -> Linked:
        """The archived genes of a stage that have the given widths of the links.

        Args:
            stage: which.
            widths: of the whole network, int64 [groups]; looked at where they are links that touch the stage.
        """
        problem, own = self.problem, self.problem.own[stage]
        links = [group for group in problem.touched[stage] if group in problem.links]
        key = tuple(widths[links].tolist())
        if key not in self._linked[stage]:
            archive, mine = self.archive(stage), [group for group in own if group in links]
            same = (archive.genes[:, [own.index(group) for group in mine]] == widths[mine]).all(1)
            base = problem.allowed.smallest
            base[links] = widths[links]
            costs = problem.cost(stage, problem.rows(stage, archive.genes[same], base))
            self._linked[stage][key] = Linked(archive.genes[same], archive.losses[same], costs)
        return self._linked[stage][key]

    def _fetch(self, genes: list[tuple[int, Gene]]) -> None:
        if not genes:
            return
        full = self.problem.space.full
        rows = [self.problem.rows(stage, torch.tensor([gene], dtype=torch.int64), full)[0] for stage, gene in genes]
        left = set(range(len(genes)))
        start = perf_counter()
        for position, loss in self._evaluate([(stage, row) for (stage, _), row in zip(genes, rows, strict=True)]):
            if position not in left:
                raise RunError(
                    f"Each of {len(genes)} genes gets one loss, but position {position} came twice or does not exist."
                )
            left.remove(position)
            now = perf_counter()
            self._write(*genes[position], rows[position], float(loss), now - start)
            start = now
            self._on_loss(len(genes) - len(left), len(genes))
        if left:
            raise RunError(f"Each of {len(genes)} genes gets one loss, but {len(left)} got none.")

    def _write(self, stage: int, gene: Gene, row: Widths, loss: float, seconds: float) -> None:
        """The cost is that of what was evaluated. Seconds since the loss before, so that their sum is the time of the
        search, however many work on it."""
        if not math.isfinite(loss):
            raise NonFiniteLoss(
                f"The loss of a stage is a finite number, but stage {stage} with widths {list(gene)} has {loss}. "
                "The super-net may have diverged: lower its learning rate, or recalibrate its batch norms."
            )
        cost = dict(zip(self.problem.metrics, self.problem.cost(stage, row[None])[0].tolist(), strict=True))
        event = {"stage": stage, "widths": list(gene), "loss": loss, "cost": cost, "seconds": round(seconds, 4)}
        self._log.append({"event": "stage_loss", **event})
        self._known[stage][gene] = loss

    def _replay(self, event: Mapping[str, Any]) -> None:
        stage, gene = int(event["stage"]), tuple(int(w) for w in event["widths"])
        own = self.problem.own[stage] if 0 <= stage < len(self.problem.own) else None
        allowed = self.problem.space.choices
        fits = own is not None and len(own) == len(gene)
        if own is None or not fits or not all(w in allowed[g] for g, w in zip(own, gene, strict=True)):
            raise CorruptRun(
                "A search that is resumed has the same stages and widths, but the journal holds a loss of stage "
                f"{stage} with widths {list(gene)}, which this one does not have; start a new folder."
            )
        self._known[stage][gene] = float(event["loss"])
