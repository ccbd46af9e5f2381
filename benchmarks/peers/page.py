"""``peers_MODEL.md`` and its figure, from the journal and from rows that were measured elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from benchmarks.experiments import results_of
from benchmarks.peers.absent import ATTEMPTS, TRIED
from benchmarks.peers.checks import checks_of
from benchmarks.peers.rows import Row, Summary, given_rows, merged, row_of, summaries
from benchmarks.peers.variants import VARIANTS
from benchmarks.report import INK, Table, drawn, page, schedules, write_figures, write_page
from widthwise.runs import read_events, read_json, write_json

__all__ = ["write"]

Value = Mapping[str, Any]

COLUMNS = (
    *("method", "seeds", "MACs (millions)", "of the full", "parameters (thousands)"),
    *("left (%)", "re-estimated (%)", "validation (%)", "test (%)", "drop (points)"),
    *("search (s)", "fine-tuning (s)", "total (s)", "memory (MiB)", "lines"),
)

NOTE = (
    "Widthwise in bold. Left: validation accuracy as the tool leaves the network; re-estimated: with new batch-norm "
    "statistics; validation and test: after fine-tuning. Mean and standard deviation over the seeds; drop: of the test "
    "accuracy, from the full network's. Search: wall time from the full network to the small one; memory: peak of the "
    "process; lines: of code that a user writes for pruning, without data, fine-tuning and counting."
)


def write(run: Path, docs: Path, given: Sequence[Path] = ()) -> Path:
    """Write the page and its figure into a folder, and the rows beside the journal; returns the page's path.

    Args:
        run: folder of the journal.
        docs: where to.
        given: files or folders of rows that were measured elsewhere; see `given_rows`.
    """
    config, environment = read_json(run / "config.json"), read_json(run / "environment.json")[-1]
    results = results_of(read_events(run / "journal.jsonl"))
    measured = [row for row in map(row_of, results.values()) if row is not None]
    write_json(run / "rows.json", [row.to_json() for row in measured])
    rows = merged(measured, [row for path in given for row in given_rows(path)])
    full, found, stem = _full(results), summaries(rows), f"peers_{config['model']}"
    tables = [_result(budget, of, full) for budget, of in found.items()]
    tables += [table for table in (_own_words(results), _refused(results), _absent(), _commands(rows)) if table.rows]
    figure = {
        "accuracy": (
            drawn(found, _dots, max(1, len(found)), (12.5, 6.0)),
            "Test accuracy by seed, and the means; ours in blue",
        )
    }
    links = write_figures(docs, stem, figure if found else {})
    command = "python -m benchmarks.peers run --data ... --weights ... --settings ..."
    text = page(
        f"Widthwise and its peers on {config['model']}",
        command,
        environment,
        tables,
        checks_of(found, full["macs"] if full else None),
    )
    text = "\n\n".join([text.rstrip(), _settings(config, results), *links]) + "\n"
    return write_page(docs / f"{stem}.md", text)


def _full(results: Mapping[str, Value]) -> Value | None:
    found = [value for value in results.values() if value.get("variant") == "full" and value["outcome"] == "done"]
    return found[-1] if found else None


def _settings(config: Value, results: Mapping[str, Value]) -> str:
    versions = {name: v for value in results.values() for name, v in value.get("versions", {}).items()}
    notes = [
        f"{config['threads']} thread per process; each network in a process of its own",
        f"validation images that a tool may judge by: {config['score_images'] or 'all'}",
        "versions: " + ", ".join(f"{name} {versions[name]}" for name in sorted(versions)),
        "how each tool was used, and why so: [peers.md](peers.md)",
    ]
    return schedules(config["data"], {"fine-tuning": config["finetune"]}, notes)


# -- tables


def _result(budget: float, of: Sequence[Summary], full: Value | None) -> Table:
    rows = [_full_row(full)] if full is not None else []
    rows += [_row(summary, full) for summary in of]
    return Table(f"At {budget:.0%} of the multiply-adds", COLUMNS, tuple(rows), NOTE)


def _full_row(full: Value) -> tuple[str, ...]:
    test = "-" if full["test"] is None else f"{100 * full['test']:.2f}"
    cells = ("full network", "-", f"{full['macs'] / 1e6:.2f}", "100.0%", f"{full['params'] / 1e3:.1f}")
    return (*cells, "-", "-", f"{100 * full['val']:.2f}", test, *["-"] * 6)


def _row(summary: Summary, full: Value | None) -> tuple[str, ...]:
    macs, test = summary.mean("macs"), summary.mean("test")
    share = "-" if full is None or macs is None else f"{macs / full['macs']:.1%}"
    drop = "-" if full is None or full["test"] is None or test is None else f"{100 * (full['test'] - test):.2f}"
    accuracies = (_percent(summary, field) for field in ("left", "adapted", "val", "test"))
    times = (_number(summary, field, 1, 0) for field in ("search_seconds", "finetune_seconds", "seconds"))
    memory, lines = _number(summary, "memory_mib", 1, 0), _number(summary, "lines", 1, 0)
    name = f"**{summary.name}**" if summary.ours else summary.name
    sizes = (_number(summary, "macs", 1e6, 2), share, _number(summary, "params", 1e3, 1))
    return (name, str(len(summary.rows)), *sizes, *accuracies, drop, *times, memory, lines)


def _percent(summary: Summary, field: str) -> str:
    mean = summary.mean(field)
    if mean is None:
        return "-"
    spread = f" +- {100 * summary.spread(field):.2f}" if len(summary.values(field)) > 1 else ""
    return f"{100 * mean:.2f}{spread}"


def _number(summary: Summary, field: str, unit: float, digits: int) -> str:
    mean = summary.mean(field)
    least = ">= " if field.endswith("seconds") and any(row.cut for row in summary.rows) else ""
    return "-" if mean is None else f"{least}{mean / unit:.{digits}f}"


def _own_words(results: Mapping[str, Value]) -> Table:
    """What the tools say of their networks, for the first seed of each."""
    rows: dict[tuple[str, float], tuple[str, str]] = {}
    for value in results.values():
        if value.get("notes") and value["variant"] in VARIANTS:
            told = "; ".join(f"{key} {_short(fact)}" for key, fact in value["notes"].items())
            rows.setdefault((value["variant"], value["budget"]), (f"{value['macs'] / 1e6:.3f}", told))
    cells = tuple((VARIANTS[name].title, f"{budget:.0%}", *rest) for (name, budget), rest in rows.items())
    note = (
        "Torch-Pruning counts batch norm and ReLU too; ModelOpt counts two for each multiply-add, and pooling. The "
        "ratio is what bisection ended with."
    )
    return Table("In their own words", ("method", "budget", "MACs (millions)", "notes"), cells, note)


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _refused(results: Mapping[str, Value]) -> Table:
    rows = tuple(
        (VARIANTS[value["variant"]].title, f"{value['budget']:.0%}", value["outcome"], value["why"])
        for value in results.values()
        if value.get("variant") in VARIANTS and value["outcome"] != "done"
    )
    note = (
        "Refused: the tool raised this while it pruned. Failed: its process died, took too long, or broke afterwards."
    )
    return Table("No network", ("method", "budget", "outcome", "why"), rows, note)


def _absent() -> Table:
    rows = tuple((attempt.package, f"`{attempt.command}`", attempt.outcome) for attempt in ATTEMPTS)
    return Table("Packages that no longer work", ("package", "command", "outcome"), rows, f"{TRIED}.")


def _commands(rows: Sequence[Row]) -> Table:
    """The command of each method's first row: the others differ in budget and seed."""
    first = {row.name: row.command for row in reversed(rows) if row.command}
    cells = tuple((name, f"`{command}`") for name, command in sorted(first.items()))
    note = "For one row; other budgets and seeds in their places."
    return Table("To make a row again", ("method", "command"), cells, note)


# -- figure


def _dots(found: Mapping[float, Sequence[Summary]], axes: Sequence[Axes]) -> None:
    """Test accuracies by method, the best on top."""
    for panel, (budget, of) in zip(axes, found.items(), strict=False):
        shown = [summary for summary in reversed(of) if summary.values("test")]
        for place, summary in enumerate(shown):
            tests, colour = [100 * test for test in summary.values("test")], INK[0 if summary.ours else 1]
            panel.scatter(tests, [place] * len(tests), s=14, color=colour, alpha=0.7)
            panel.vlines(sum(tests) / len(tests), place - 0.3, place + 0.3, color=colour)
        panel.set_yticks(range(len(shown)), [summary.name for summary in shown], fontsize=7)
        panel.set_xlabel(f"test accuracy (%), {budget:.0%}", fontsize=8)
        panel.tick_params(axis="x", labelsize=8)
