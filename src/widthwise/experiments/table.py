"""A table of figures, and the formats that it is handed on in."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from widthwise.evaluate.ranking import Estimate
from widthwise.runs import write_text

__all__ = ["FORMATS", "Cell", "Format", "Spread", "Table"]

Format = Literal["text", "csv", "json", "latex", "markdown"]

FORMATS: Mapping[Format, str] = {"text": ".txt", "csv": ".csv", "json": ".json", "latex": ".tex", "markdown": ".md"}
"""The ending of each format's file."""


@dataclass(frozen=True)
class Spread:
    """A figure measured several times."""

    values: tuple[float, ...]
    digits: int = 2
    """That are shown behind the point."""
    at_least: bool = False
    """Whether it is a lower bound (the time of a run that was cut)."""

    @property
    def mean(self) -> float:
        """Of the values; nan without any."""
        return fmean(self.values) if self.values else float("nan")

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation; None of fewer than two values."""
        return stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        if not self.values:
            return "-"
        text = f"{self.mean:,.{self.digits}f}"
        if self.deviation:
            text += f" ± {self.deviation:.{self.digits}f}"
        return f"≥ {text}" if self.at_least else text


Cell = str | int | float | Spread | Estimate


@dataclass(frozen=True)
class Table:
    """Rows of cells under named columns."""

    title: str
    columns: tuple[str, ...]
    """With units."""
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    """What a reader must know to read the figures."""
    optional: tuple[str, ...] = ()
    """Columns that a narrow terminal can do without, the first one first."""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), "a cell for every column"

    def within(self, width: int) -> "Table":
        """The table with so many columns left out that it fits into a terminal of this width, if it can."""
        lengths = [max((len(_shown(row[i])) for row in self.rows), default=0) for i in range(len(self.columns))]
        lengths = [max(n, *map(len, c.split())) + 3 for n, c in zip(lengths, self.columns, strict=True)]
        left = list(range(len(self.columns)))
        for name in self.optional:
            if sum(lengths[i] for i in left) + 2 > width:
                left.remove(self.columns.index(name))
        rows = tuple(tuple(row[i] for i in left) for row in self.rows)
        return Table(self.title, tuple(self.columns[i] for i in left), rows, self.note)

    def rendered(self) -> RichTable:
        """For a terminal."""
        table = RichTable(
            title=Text(self.title, style="table.title"),  # no markup: names are the users'
            caption=Text(self.note, style="table.caption") if self.note else None,
            box=box.SIMPLE_HEAD,
            title_justify="left",
            caption_justify="left",
        )
        for place, column in enumerate(self.columns):
            table.add_column(Text(column), justify="right" if place else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(_shown(cell)) for cell in row))
        return table

    def to(self, format: Format) -> str:
        """The table as text in one of the :data:`FORMATS`."""
        writers = {
            "text": self._text,
            "csv": self._csv,
            "json": self._json,
            "latex": self._latex,
            "markdown": self._markdown,
        }
        return writers[format]()

    def write(self, stem: Path) -> None:
        """Write ``STEM.txt``, ``.csv``, ``.json``, ``.tex`` and ``.md``."""
        for format, ending in FORMATS.items():
            write_text(stem.with_name(stem.name + ending), self.to(format))

    def _text(self) -> str:
        cells = [self.columns, *(tuple(map(_shown, row)) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(_padded(c, w, i) for i, (c, w) in enumerate(zip(r, widths, strict=True))) for r in cells]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([*self._head(self.title), *(line.rstrip() for line in lines)]) + "\n"

    def _head(self, title: str) -> list[str]:
        return [title, "", *([self.note, ""] if self.note else [])]

    def _csv(self) -> str:
        """Means and standard deviations, or values and their intervals, in columns of their own, with all digits."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        places = range(len(self.columns))
        kinds = [next((type(row[i]) for row in self.rows if type(row[i]) in _PARTS), str) for i in places]
        writer.writerow([name for c, kind in zip(self.columns, kinds, strict=True) for name in _headings(c, kind)])
        for row in self.rows:
            writer.writerow([v for cell, kind in zip(row, kinds, strict=True) for v in _plain(cell, kind)])
        return out.getvalue()

    def _json(self) -> str:
        rows = [dict(zip(self.columns, map(_as_json, row), strict=True)) for row in self.rows]
        note = {"note": self.note} if self.note else {}
        return json.dumps({"title": self.title, **note, "rows": rows}, indent=2, ensure_ascii=False) + "\n"

    def _latex(self) -> str:
        """For the package booktabs."""
        body = [" & ".join(_latex(_shown(cell)) for cell in row) + r" \\" for row in (self.columns, *self.rows)]
        lines = [
            *(f"% {line}" for line in (self.title, self.note) if line),
            rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}",
            r"\toprule",
            body[0],
        ]
        return "\n".join([*lines, r"\midrule", *body[1:], r"\bottomrule", r"\end{tabular}"]) + "\n"

    def _markdown(self) -> str:
        """A section of a page."""
        lines = [
            _barred(self.columns),
            "|" + "---|" * len(self.columns),
            *(_barred(map(_shown, row)) for row in self.rows),
        ]
        return "\n".join([*self._head(f"## {self.title}"), *lines]) + "\n"


def _shown(cell: Cell) -> str:
    return f"{cell:.5g}" if isinstance(cell, float) else str(cell)


def _barred(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _padded(text: str, width: int, place: int) -> str:
    return text.rjust(width) if place else text.ljust(width)


_PARTS: Mapping[type, tuple[str, ...]] = {Spread: ("mean", "std", "runs"), Estimate: ("value", "low", "high")}
"""The columns that a cell takes in a CSV file, where it is more than a text."""


def _headings(column: str, kind: type) -> Sequence[str]:
    return [f"{column}, {part}" for part in _PARTS[kind]] if kind in _PARTS else [column]


def _plain(cell: Cell, kind: type) -> Sequence[Any]:
    if isinstance(cell, Estimate):
        return ["" if value is None else value for value in _interval(cell).values()]
    if isinstance(cell, Spread):
        deviation = "" if cell.deviation is None else cell.deviation
        return (cell.mean, deviation, len(cell.values)) if cell.values else ("", "", 0)
    return (cell, *[""] * (len(_PARTS.get(kind, ("",))) - 1))  # numbers with all digits


def _interval(cell: Estimate) -> dict[str, float | None]:
    """JSON knows no nan."""
    return {name: value if isfinite(value) else None for name, value in asdict(cell).items()}


def _as_json(cell: Cell) -> Any:
    if isinstance(cell, str | int | float):
        return cell
    if isinstance(cell, Estimate):
        return _interval(cell)
    known = {"mean": cell.mean, "std": cell.deviation} if cell.values else {"mean": None, "std": None}
    return {**known, "values": list(cell.values)} | ({"lower_bound": True} if cell.at_least else {})


_SPECIAL = {
    **{letter: "\\" + letter for letter in "%&_#${}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "τ": r"$\tau$",
    "→": r"$\to$",
}


def _latex(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in text)
