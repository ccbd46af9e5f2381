"""``results.md`` and its figures, from the journals of one or several runs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.peers.absent import ATTEMPTS, TRIED
from benchmarks.peers.checks import checks_of
from benchmarks.peers.figures import accuracies, accuracy_for_time
from benchmarks.peers.measured import Measured, measured
from benchmarks.peers.rows import Found, Summary, by_budget, command_of, summaries, undominated
from benchmarks.peers.variants import TOOLS, VARIANTS
from benchmarks.report import checked, machine, schedules, section, write_figures, write_page
from widthwise.experiments import Table
from widthwise.experiments.table import Cell
from widthwise.methods import METHODS
from widthwise.methods.compress import plain
from widthwise.train import TrainConfig

__all__ = ["write"]

Value = Mapping[str, Any]

COLUMNS = (
    *("method", "kind", "seeds", "MACs (millions)", "of the full", "parameters (thousands)"),
    *("left (%)", "re-estimated (%)", "validation (%)", "test (%)", "drop (points)"),
    *("search (s)", "fine-tuning (s)", "total (s)", "memory (MiB)", "lines"),
)

ABOUT = (
    "Widthwise's methods, the baselines and the packages that its users know, each network made in a process of its "
    "own from the same weights and images, under the same budget, with the same fine-tuning. What is measured and "
    "how each tool was used: [peers.md](peers.md); what was predicted: [predictions.md](predictions.md). CIFAR-10 as "
    "JPEG is a lossy copy: compare figures with each other, not with a paper's."
)

NOTE = (
    "Widthwise's methods in bold; the most accurate first. Mean ± standard deviation over the seeds (none where they "
    "agree). Left: validation accuracy as the tool leaves the network; re-estimated: with new batch-norm statistics "
    "(neither where the weights are not those of the given network); validation and test: after fine-tuning; drop: "
    "of the test accuracy, from the full network's. Search: wall time from the full network to the small one; memory: "
    "peak of the process; lines: of code that a user writes for pruning, without data, fine-tuning and counting."
)

FRONT_NOTE = (
    "Rows that no other beats: whoever is more accurate takes longer, whatever the settings. Times include the search "
    "and the fine-tuning."
)


def write(runs: Sequence[Path], docs: Path) -> Path:
    """Write the page and its figures into a folder; returns the page's path.

    Args:
        runs: folders with journals; those of one network and the same settings share its tables.
        docs: where to.
    """
    of = measured(runs)
    found = {one.name: summaries(one.rows) for one in of}
    by_model: dict[str, dict[str, Found]] = {}
    for one in of:
        if found[one.name]:
            by_model.setdefault(one.model, {})[one.settings] = found[one.name]
    parts = ["# Results", ABOUT]
    for one in of:
        parts += map(section, _results(one, found[one.name]))
    parts += [section(_front(model, by_settings)) for model, by_settings in by_model.items()]
    parts += write_figures(docs, "results", dict(_figures(by_model)))
    tables = [_checks(of, found), _own_words(of), _none(of), _absent(), _versions(of)]
    parts += [section(table) for table in tables if table.rows]
    parts += [_settings(one) for one in of]
    return write_page(docs / "results.md", "\n\n".join(parts) + "\n")


# -- results


def _results(one: Measured, found: Found) -> Iterator[Table]:
    for budget, of in found.items():
        title = f"{one.name} at {budget:.0%} of the multiply-adds"
        rows = [] if one.full is None else [_full_row(one.full)]
        yield Table(title, COLUMNS, (*rows, *(_row(summary, one.full) for summary in of)), NOTE)
        commands = tuple((summary.name, f"`{summary.command}`") for summary in of)
        note = "DATA is what `load_data` takes, WEIGHTS the file of the full network; its own row comes with each."
        yield Table(f"{title}: each row again", ("method", "command"), commands, note)


def _front(model: str, by_settings: Mapping[str, Found]) -> Table:
    """The best for its time, over all settings."""
    rows: list[tuple[Cell, ...]] = []
    for budget, found in by_budget(by_settings).items():
        for summary in undominated([summary for of in found.values() for summary in of]):
            which = (f"{budget:.0%}", summary.name, summary.rows[0].settings, str(len(summary.rows)))
            rows.append((*which, summary.figure(summary.metric, 100, 2), summary.figure("seconds", 1, 0)))
    columns = ("budget", "method", "settings", "seeds", "accuracy (%)", "total (s)")
    return Table(f"{model}: accuracy for time", columns, tuple(rows), FRONT_NOTE)


def _figures(by_model: Mapping[str, Mapping[str, Found]]) -> Iterator[tuple[str, tuple[Figure, str]]]:
    kinds = "methods blue, baselines green, peers red"
    for model, by_settings in by_model.items():
        for settings, of in by_settings.items():
            caption = f"{model} ({settings}): accuracy by seed, and the means; {kinds}"
            yield f"accuracy_{model}_{settings}", (accuracies(of), caption)
        caption = f"{model}: accuracy for the time of search and fine-tuning; {kinds}; a shape for each settings"
        yield f"time_{model}", (accuracy_for_time(by_settings), caption)


def _full_row(full: Value) -> tuple[str, ...]:
    test = "-" if full["test"] is None else f"{100 * full['test']:.2f}"
    cells = ("full network", "-", "-", f"{full['macs'] / 1e6:.2f}", "100.0%", f"{full['params'] / 1e3:.1f}")
    return (*cells, "-", "-", f"{100 * full['val']:.2f}", test, *["-"] * 6)


def _row(summary: Summary, full: Value | None) -> tuple[Cell, ...]:
    macs, test = summary.mean("macs"), summary.mean("test")
    share = "-" if full is None or macs is None else f"{macs / full['macs']:.1%}"
    drop = "-" if full is None or full["test"] is None or test is None else f"{100 * (full['test'] - test):.2f}"
    accuracies = (summary.figure(field, 100, 2) for field in ("left", "adapted", "val", "test"))
    times = (summary.figure(field, 1, 0) for field in ("search_seconds", "finetune_seconds", "seconds"))
    name = f"**{summary.name}**" if summary.kind == "method" else summary.name
    sizes = (summary.figure("macs", 1e-6, 2), share, summary.figure("params", 1e-3, 1))
    rest = (summary.figure("memory_mib", 1, 0), str(summary.rows[0].lines))
    return (name, summary.kind, str(len(summary.rows)), *sizes, *accuracies, drop, *times, *rest)


def _checks(of: Sequence[Measured], found: Mapping[str, Found]) -> Table:
    checks = [
        (one.name, check)
        for one in of
        for check in checks_of(found[one.name], None if one.full is None else int(one.full["macs"]))
    ]
    return checked([check for _, check in checks], [model for model, _ in checks])


# -- what else is to be known


def _own_words(of: Sequence[Measured]) -> Table:
    """What the tools say of their networks, for the first seed of each."""
    rows: dict[tuple[str, str, float], tuple[str, str]] = {}
    for one in of:
        for value in one.results.values():
            if value.get("notes") and value["variant"] in VARIANTS:
                told = "; ".join(f"{key} {_short(fact)}" for key, fact in value["notes"].items())
                key = (one.name, value["variant"], value["budget"])
                rows.setdefault(key, (f"{value['macs'] / 1e6:.3f}", told))
    cells = tuple(
        (network, VARIANTS[name].title, f"{budget:.0%}", *rest) for (network, name, budget), rest in rows.items()
    )
    note = (
        "Torch-Pruning counts batch norm and ReLU too; ModelOpt counts two for each multiply-add, and pooling. The "
        "ratio is what bisection ended with."
    )
    return Table("In their own words", ("network", "method", "budget", "MACs (millions)", "notes"), cells, note)


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _none(of: Sequence[Measured]) -> Table:
    rows = tuple(
        (one.name, VARIANTS[value["variant"]].title, f"{value['budget']:.0%}", value["outcome"], value["why"])
        for one in of
        for value in one.results.values()
        if value["variant"] in VARIANTS and value["outcome"] != "done"
    )
    note = (
        "Refused: the tool raised this while it pruned, and was not asked again with other seeds. Failed: its process "
        "died, took too long or too much memory, or broke afterwards, or the network is above the budget."
    )
    return Table("No network", ("network", "method", "budget", "outcome", "why"), rows, note)


def _absent() -> Table:
    rows = tuple((attempt.package, f"`{attempt.command}`", attempt.outcome) for attempt in ATTEMPTS)
    return Table("Packages that no longer work", ("package", "command", "outcome"), rows, f"{TRIED}.")


def _versions(of: Sequence[Measured]) -> Table:
    """What each tool ran with; several lines where that changed on the way."""
    rows: dict[tuple[str, str], None] = {}
    for one in of:
        for value in one.results.values():
            if value["variant"] in VARIANTS and value.get("versions"):
                told = ", ".join(f"{name} {version}" for name, version in sorted(value["versions"].items()))
                rows[TOOLS[VARIANTS[value["variant"]].tool].title, told] = None
    return Table("Versions", ("tool", "packages in its environment"), tuple(sorted(rows)))


def _settings(one: Measured) -> str:
    config, data = one.config, one.config["data"]
    sizes = [f"{data[part][0]} {name}" for part, name in _PARTS.items() if part in data]
    trainings = {"fine-tuning": config["finetune"], "uniform width, from scratch": config["scratch"]}
    notes = [
        f"{VARIANTS[f'widthwise/{name}'].title}, beside its defaults: {_differences(name, config[name])}"
        for name in METHODS
    ]
    notes += [
        f"reconstructed: weights fitted to {config['reconstruct']} training images before they are fine-tuned",
        f"{config['threads']} thread per process; each network in a process of its own",
        f"validation images that a peer may judge by: {config['score_images'] or 'all'}",
        f"all of it again: `{command_of(one.settings, one.model, weights=one.weights)}`",
    ]
    facts = "\n\n".join(dict.fromkeys(machine(environment) for environment in one.environments))
    listed = schedules(f"{data['name']}, {', '.join(sizes)}", trainings, notes)
    return f"{listed.replace('## Settings', f'## {one.name}: settings')}\n\n{facts}"


_PARTS = {"train": "training", "val": "validation", "test": "test"}


def _differences(name: str, settings: Value) -> str:
    """What is set otherwise than by default in a method's configuration."""
    default, training = dict(_flat(plain(METHODS[name]()))), plain(TrainConfig())

    def usual(key: str) -> object:
        """A training that is not there by default has the defaults of any training."""
        return default.get(key, training.get(key.rpartition(".")[2]))

    return ", ".join(f"{key} {value}" for key, value in _flat(settings) if usual(key) != value) or "none"


def _flat(value: Value, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}.")
        elif key != "class":
            yield f"{prefix}{key}", item
