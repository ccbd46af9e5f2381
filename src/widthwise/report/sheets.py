"""The tables of a report's page: their cells as text."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from widthwise.report.data import Candidates, Change, Division, Layers, Origin, Row, RunReport, Summary
from widthwise.report.words import METRICS, PHASES, amount, duration, percent, points, times

__all__ = [
    "OWN",
    "Sheet",
    "Tile",
    "comparison_sheet",
    "division_sheet",
    "figures_sheet",
    "finalists_sheet",
    "layers_sheets",
    "origin_sheet",
    "tiles_of",
    "time_sheet",
]

NONE = "\N{EN DASH}"
"""Stands where something is not known."""

WITHIN = {"supernet": "super-net", "coarse": "target network"}
"""Trainings within a search, in words."""

OWN = "\N{DAGGER}"
"""Stands where a change is against a full network that the method trained itself."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One table; the first cell of each row is its heading, and a second line of a cell is a detail."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: frozenset[int] = frozenset()
    """Rows that stand out."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One figure in large type."""

    value: str
    what: str
    detail: str


def tiles_of(summary: Summary) -> list[Tile]:
    """The few figures that matter most of a finished run."""
    tiles = []
    for what, change in (("multiply-adds", summary.macs), ("parameters", summary.params)):
        if change is not None:
            detail = f"{amount(change.after)} of {amount(change.before)}"
            tiles.append(Tile(value=_signed(change), what=what, detail=detail))
    if summary.accuracy is not None:
        change, kind = summary.accuracy, "test" if summary.test else "validation"
        detail = f"{points(change.gain)} points"
        tiles.append(Tile(value=f"{change.after:.2f}%", what=f"{kind} accuracy", detail=detail))
    if summary.latency:
        batch, change = max(summary.latency.items())
        detail = f"{change.after:.2f} ms, batch of {batch}"
        tiles.append(Tile(value=times(change.speedup), what="as fast", detail=detail))
    return tiles


def _signed(change: Change) -> str:
    return percent(-change.dropped) if change.dropped >= 0 else "+" + percent(-change.dropped)


def figures_sheet(summary: Summary) -> Sheet:
    """Before, after and change, in full figures."""
    rows = [
        (what, f"{change.before:,.0f}", f"{change.after:,.0f}", _signed(change))
        for what, change in (("Multiply-adds", summary.macs), ("Parameters", summary.params))
        if change is not None
    ]
    rows += [
        (what, f"{change.before:.2f}%", f"{change.after:.2f}%", f"{points(change.gain)} points")
        for what, change in (("Test accuracy", summary.test), ("Validation accuracy", summary.val))
        if change is not None
    ]
    rows += [
        (f"Latency, batch of {batch}", f"{t.before:.2f} ms", f"{t.after:.2f} ms", f"{times(t.speedup)} as fast")
        for batch, t in summary.latency.items()
    ]
    head = ("", "full", "small", "change")
    return Sheet(caption="Before and after", head=head, rows=tuple(rows))


def time_sheet(summary: Summary) -> Sheet:
    """Wall time by phase."""
    rows = []
    for phase, seconds in summary.seconds.items():
        rows.append((PHASES.get(phase, phase), _time(seconds, summary.at_least)))
        if phase == "search":
            rows += [
                (f"of this, training the {WITHIN.get(name, name)}", duration(inner))
                for name, inner in summary.within.items()
            ]
    rows.append(("total", _time(summary.total, summary.at_least)))
    return Sheet(caption="Time", head=("phase", "wall time"), rows=tuple(rows), marked=frozenset({len(rows) - 1}))


def _time(seconds: float | None, at_least: bool) -> str:
    if seconds is None:
        return NONE
    if at_least and not seconds:
        return "not over"
    return ("\N{GREATER-THAN OR EQUAL TO} " if at_least else "") + duration(seconds)


def comparison_sheet(runs: Sequence[Summary]) -> Sheet:
    """One row for each run; what is the same of all is left out."""
    batches = sorted({batch for run in runs for batch in run.latency})
    columns: list[tuple[str, Callable[[Summary], str]]] = [("method", lambda run: run.method)]
    columns += [
        (name, lambda run, name=name: str(getattr(run, name)))  # type: ignore[misc]
        for name in ("model", "data", "budget")
        if len({getattr(run, name) for run in runs}) > 1
    ]
    columns += [
        ("MACs", lambda run: _cost(run.macs)),
        ("parameters", lambda run: _cost(run.params)),
        ("test accuracy", lambda run: _accuracy(run.test, run)),
        ("validation accuracy", lambda run: _accuracy(run.val, run)),
    ]
    columns += [
        (f"latency, batch {batch}", lambda run, batch=batch: _latency(run.latency.get(batch)))  # type: ignore[misc]
        for batch in batches
    ]
    phases = [phase for phase in PHASES if phase != "measure" and any(phase in run.seconds for run in runs)]
    columns += [
        (PHASES[phase], lambda run, phase=phase: _time(run.seconds.get(phase), run.at_least))  # type: ignore[misc]
        for phase in phases
    ]
    columns.append(("total time", lambda run: _time(run.total, run.at_least) if run.finished else "unfinished"))
    rows = tuple((run.name, *(cell(run) for _, cell in columns)) for run in runs)
    return Sheet(caption="All runs", head=("run", *(name for name, _ in columns)), rows=rows)


def _cost(change: Change | None) -> str:
    return NONE if change is None else f"{amount(change.after)}\n{_signed(change)}"


def _accuracy(change: Change | None, run: Summary) -> str:
    return NONE if change is None else f"{change.after:.2f}%\n{points(change.gain)}{OWN * bool(run.within)}"


def _latency(change: Change | None) -> str:
    return NONE if change is None else f"{change.after:.2f} ms\n{times(change.speedup)}"


def finalists_sheet(candidates: Candidates) -> Sheet | None:
    """The candidates that were trained to the end; None before that."""
    rows = [
        (
            f"{candidates.noun} {c.index}" + (" (chosen)" if c.chosen else ""),
            f"{c.score:.2f}%" if candidates.percent else f"{c.score:.4g}",
            NONE if c.macs is None else amount(c.macs),
            NONE if c.params is None else amount(c.params),
            NONE if c.trained is None else f"{c.trained:.2f}%",
        )
        for c in candidates.finalists
    ]
    if not rows:
        return None
    marked = frozenset(place for place, c in enumerate(candidates.finalists) if c.chosen)
    head = ("finalist", "score", "MACs", "params", "accuracy after training")
    return Sheet(caption="Finalists, best score first", head=head, rows=tuple(rows), marked=marked)


def division_sheet(division: Division) -> Sheet:
    """The stages in numbers."""
    total = sum(stage.after or 0 for stage in division.stages)
    rows = [
        (
            stage.name,
            f"{len(stage.genes):,}",
            NONE if stage.loss is None else f"{stage.loss:.4g}",
            NONE if stage.before is None else amount(stage.before),
            NONE if stage.after is None else amount(stage.after),
            NONE if stage.after is None else percent(stage.after / max(1, total)),
        )
        for stage in division.stages
    ]
    head = ("stage", "looked at", "loss", f"{METRICS[division.metric]} before", "after", "share of the whole")
    return Sheet(caption="Stages", head=head, rows=tuple(rows))


def layers_sheets(layers: Layers) -> list[Sheet]:
    """Every group and every operation."""
    return [
        _rows("Channels of every group", "group", layers.groups),
        _rows("Multiply-adds of every operation", "operation", layers.macs),
    ]


def _rows(caption: str, what: str, rows: Iterable[Row]) -> Sheet:
    cells = tuple((row.name, f"{row.before:,}", f"{row.after:,}", percent(row.kept)) for row in rows)
    return Sheet(caption=caption, head=(what, "before", "after", "left"), rows=cells)


def origin_sheet(run: RunReport) -> Sheet:
    """Machine, versions, data and seeds."""
    origin: Origin = run.origin
    rows = [
        ("Model", origin.model),
        ("Data", f"{run.summary.data}: " + ", ".join(f"{count:,} {part}" for part, count in origin.data.items())),
        ("Budget", run.summary.budget),
        ("Seeds", ", ".join(f"{name} = {seed}" for name, seed in origin.seeds.items()) or NONE),
    ]
    for number, start in enumerate(origin.starts, 1):
        which = f", start {number} of {len(origin.starts)}" if len(origin.starts) > 1 else ""
        packages = ", ".join(f"{name} {version}" for name, version in start.packages.items())
        rows.append((f"Date{which}", start.date))
        if number == len(origin.starts):
            rows += [("Machine", start.machine), ("Platform", start.platform)]
            rows.append(("Versions", f"Python {start.python}, {packages}"))
    return Sheet(caption="Environment", head=("", ""), rows=tuple(rows))
