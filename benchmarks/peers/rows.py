"""Rows of the comparison: one network each, ours or a peer's, all measured by the same processes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any

from benchmarks.peers.variants import VARIANTS, Kind
from widthwise.experiments import Spread

__all__ = ["Found", "Row", "Summary", "by_budget", "command_of", "row_of", "summaries", "undominated"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network."""

    variant: str
    """As ``--only`` takes it."""
    kind: Kind
    settings: str
    """Their name."""
    model: str
    """The full network, as ``--model`` takes it."""
    weights: bool
    """Whether it came with weights, or was drawn afresh."""
    budget: float
    """Share of the multiply-adds that was asked for."""
    seed: int
    macs: int
    """Multiply-adds for one image, by ``torch.utils.flop_counter``, halved."""
    params: int
    val: float
    """Accuracy after fine-tuning on the validation images, in [0, 1]."""
    test: float | None
    """The same on the test images."""
    search_seconds: float
    """Wall time from the full network to the small one."""
    finetune_seconds: float
    """Wall time of re-estimated statistics and fine-tuning."""
    left: float | None
    """Validation accuracy of the small network as the tool leaves it; None where its weights are not the given ones."""
    adapted: float | None
    """The same with batch-norm statistics re-estimated, before fine-tuning."""
    memory_mib: float
    """Peak resident memory of the process."""
    lines: int
    """Of code that a user writes."""

    @property
    def name(self) -> str:
        """As the page shows it."""
        return VARIANTS[self.variant].title

    @property
    def seconds(self) -> float:
        """From the full network to the final one."""
        return self.search_seconds + self.finetune_seconds


def row_of(value: Mapping[str, Any], model: str, *, weights: bool) -> Row | None:
    """The row of a journal's result; None where no network came of it, or for the full network.

    Args:
        value: the result.
        model: the full network of that journal.
        weights: whether it came with weights.
    """
    variant = VARIANTS.get(value["variant"])
    if variant is None or variant.tool == "none" or value["outcome"] != "done":
        return None
    measured = {field.name: value[field.name] for field in fields(Row) if field.name in value}
    return Row(**{**measured, "kind": variant.kind, "model": model, "weights": weights})


@dataclass(frozen=True)
class Summary:
    """The rows of one variant at one budget."""

    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """Of the variant."""
        return self.rows[0].name

    @property
    def kind(self) -> Kind:
        """Whose it is."""
        return self.rows[0].kind

    @property
    def settings(self) -> str:
        """Name of the settings of its runs."""
        return self.rows[0].settings

    def values(self, field: str) -> list[float]:
        """Of a field or property, where known."""
        found = (getattr(row, field) for row in self.rows)
        return [float(value) for value in found if value is not None]

    def mean(self, field: str) -> float | None:
        """Over the seeds; None where unknown."""
        values = self.values(field)
        return fmean(values) if values else None

    def spread(self, field: str) -> float | None:
        """Standard deviation over the seeds; None for fewer than two."""
        return self.figure(field).deviation

    def figure(self, field: str, unit: float = 1.0, digits: int = 2) -> Spread:
        """What was measured, times a unit, as tables show it."""
        return Spread(tuple(unit * value for value in self.values(field)), digits)

    @property
    def metric(self) -> str:
        """What is scored: ``test``, or ``val`` where there are no test images."""
        return "test" if self.values("test") else "val"

    @property
    def score(self) -> float:
        """Mean accuracy that the table is sorted by, in [0, 1]."""
        return fmean(self.values(self.metric))

    @property
    def total_seconds(self) -> float:
        """Mean time of search and fine-tuning."""
        return fmean(self.values("seconds"))

    @property
    def command(self) -> str:
        """That measures these rows again, in a folder of its own; only the paths are the reader's."""
        row, seeds = self.rows[0], sorted(row.seed for row in self.rows)
        which = f"--only full {row.variant} --budgets {row.budget:g} --seeds {' '.join(map(str, seeds))}"
        return command_of(row.settings, row.model, which, weights=row.weights)


Found = Mapping[float, Sequence[Summary]]
"""By budget (the largest first), the most accurate first."""


def command_of(settings: str, model: str, which: str = "", *, weights: bool) -> str:
    """The command line of a run, with placeholders for paths alone."""
    parts = ["python -m benchmarks.peers run", f"--settings {settings}", f"--model {model}", which, "--data DATA"]
    return " ".join(part for part in (*parts, "--weights WEIGHTS" if weights else "") if part)


def summaries(rows: Sequence[Row]) -> Found:
    """The rows of one network and the same settings, put together."""
    grouped: dict[float, dict[str, list[Row]]] = {}
    for row in rows:
        grouped.setdefault(row.budget, {}).setdefault(row.variant, []).append(row)
    return {
        budget: sorted((Summary(tuple(of)) for of in grouped[budget].values()), key=lambda s: -s.score)
        for budget in sorted(grouped, reverse=True)
    }


def by_budget(found: Mapping[str, Found]) -> dict[float, dict[str, Sequence[Summary]]]:
    """By budget (the largest first) what was found with each settings, by their name."""
    budgets = sorted({budget for of in found.values() for budget in of}, reverse=True)
    return {budget: {name: of[budget] for name, of in found.items() if budget in of} for budget in budgets}


def undominated(of: Sequence[Summary]) -> list[Summary]:
    """Those than which no other is both faster and at least as accurate, the fastest first."""
    front: list[Summary] = []
    for summary in sorted(of, key=lambda s: (s.total_seconds, -s.score)):
        if not front or summary.score > front[-1].score:
            front.append(summary)
    return front
