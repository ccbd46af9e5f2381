"""Rows of the comparison: one network each, ours or a peer's, measured here or elsewhere."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.peers.variants import TOOLS, VARIANTS
from widthwise.errors import CorruptRun
from widthwise.methods import RunRecord
from widthwise.runs import read_json

__all__ = ["Row", "Summary", "compared", "given_rows", "merged", "read_rows", "row_of", "summaries"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network. A file for ``--rows`` is a JSON list of these; what has a default may be left out."""

    name: str
    """Of the method, as the page shows it."""
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
    left: float | None = None
    """Validation accuracy of the small network as the tool leaves it."""
    adapted: float | None = None
    """The same with batch-norm statistics re-estimated, before fine-tuning."""
    memory_mib: float | None = None
    """Peak resident memory of the process."""
    lines: int | None = None
    """Of code that a user writes."""
    ours: bool = True
    """Whether it is Widthwise's."""
    command: str = ""
    """That makes this row again."""
    cut: bool = False
    """Whether the process was killed and went on, so that the seconds are a lower bound."""

    @property
    def seconds(self) -> float:
        """From the full network to the final one."""
        return self.search_seconds + self.finetune_seconds

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def read_rows(path: Path) -> list[Row]:
    """The rows in a JSON file.

    Raises:
        CorruptRun: it holds something else.
    """
    known = {field.name for field in fields(Row)}
    try:
        return [Row(**{name: value for name, value in item.items() if name in known}) for item in read_json(path)]
    except (TypeError, AttributeError) as error:
        raise CorruptRun(
            f"A file of rows is a JSON list of objects with the fields of benchmarks.peers.rows.Row, but {path} is "
            f"not ({error}). Write name, budget, seed, macs, params, val, test, search_seconds and finetune_seconds."
        ) from error


def compared(folder: Path) -> list[Row]:
    """The finished runs of ``widthwise compare`` in its folder (``NAME/seed-N``).

    Everything before the fine-tuning is search, trainings included; the lines are those of a call of ``compress``.
    """
    runs = [RunRecord.read(path) for path in sorted(folder.glob("*/seed-*")) if path.is_dir()]
    return [_row_of_run(run) for run in runs if run.finished]


def _row_of_run(run: RunRecord) -> Row:
    assert run.result is not None  # it is finished
    before, after, seconds = run.result["before"], run.result["after"], run.seconds
    limit = run.config["budget"]["macs"]
    return Row(
        name=f"Widthwise {run.path.parent.name}",
        budget=round(limit if limit <= 1 else limit / before["macs"], 4),
        seed=int(run.path.name.partition("-")[2]),
        macs=after["macs"],
        params=after["params"],
        val=after["val_accuracy"],
        test=after["test_accuracy"],
        search_seconds=sum(of for phase, of in seconds.items() if phase not in ("finetune", "measure")),
        finetune_seconds=seconds["finetune"],
        lines=VARIANTS["widthwise/l1"].lines,
        cut=run.cut,
    )


def given_rows(path: Path) -> list[Row]:
    """Rows that were measured elsewhere: a JSON file of them, or the folder of ``widthwise compare``."""
    return compared(path) if path.is_dir() else read_rows(path)


def row_of(value: Mapping[str, Any]) -> Row | None:
    """The row of a journal's result; None where no network came of it, or for the full network."""
    variant = VARIANTS.get(value.get("variant", ""))
    if variant is None or variant.tool == "none" or value["outcome"] != "done":
        return None
    measured = {field.name: value[field.name] for field in fields(Row) if field.name in value}
    command = f"python -m benchmarks.peers run --only {value['variant']} --budgets {value['budget']:g}"
    command += f" --seeds {value['seed']} --data ... --weights ... --settings {value['settings']}"
    return Row(**{**measured, "name": variant.title, "ours": not TOOLS[variant.tool].peer, "command": command})


def merged(measured: Iterable[Row], given: Iterable[Row]) -> list[Row]:
    """Both; where the same method, budget and seed is in both, the given one counts."""
    found = {(row.name, row.budget, row.seed): row for row in measured}
    return list((found | {(row.name, row.budget, row.seed): row for row in given}).values())


@dataclass(frozen=True)
class Summary:
    """The rows of one method at one budget."""

    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """Of the method."""
        return self.rows[0].name

    @property
    def ours(self) -> bool:
        """Whether it is Widthwise's."""
        return self.rows[0].ours

    def values(self, field: str) -> list[float]:
        """Of a field or property, where known."""
        found = (getattr(row, field) for row in self.rows)
        return [float(value) for value in found if value is not None]

    def mean(self, field: str) -> float | None:
        """Over the seeds; None where unknown."""
        values = self.values(field)
        return fmean(values) if values else None

    def spread(self, field: str) -> float:
        """Standard deviation over the seeds; 0 for one."""
        values = self.values(field)
        return stdev(values) if len(values) > 1 else 0.0

    @property
    def score(self) -> float:
        """What the table is sorted by: test accuracy, or validation accuracy where there are no test images."""
        test, val = self.mean("test"), self.mean("val")
        assert val is not None
        return val if test is None else test


def summaries(rows: Sequence[Row]) -> dict[float, list[Summary]]:
    """By budget (the largest first), the most accurate first."""
    grouped: dict[float, dict[str, list[Row]]] = {}
    for row in rows:
        grouped.setdefault(row.budget, {}).setdefault(row.name, []).append(row)
    return {
        budget: sorted((Summary(tuple(of)) for of in grouped[budget].values()), key=lambda s: -s.score)
        for budget in sorted(grouped, reverse=True)
    }
