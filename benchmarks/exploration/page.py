"""``exploration_MODEL.md`` and its figures, from the journal and the logs of the searches."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib.figure import Figure

from benchmarks.experiments import results_of
from benchmarks.report import Check, by_seed, drawn, page, schedules, write_figures, write_page
from widthwise.experiments import Table
from widthwise.report.data.probabilities import snapshots_of
from widthwise.report.figures import probabilities_figure
from widthwise.runs import read_events, read_json

__all__ = ["write"]

Value = Mapping[str, Any]
Results = Mapping[str, Value]
Runs = dict[tuple[str, str], dict[int, tuple[Value, Value]]]
"""(name, budget) to what was found and what came of it, by seed."""


def write(run: Path, docs: Path) -> Path:
    """Write the page and its figures into a folder; returns the page's path."""
    config, environment = read_json(run / "config.json"), read_json(run / "environment.json")[-1]
    results = results_of(read_events(run / "journal.jsonl"))
    runs = _runs(results)
    stem = f"exploration_{config['model']}"
    links = write_figures(docs, stem, _figures(run, runs, results))
    command = "python -m benchmarks.exploration all --data ... --weights ... --settings ... --out ..."
    tables = [table for table in (_result(runs), _cost(results)) if table.rows]
    title = f"Exploration and estimation on {config['model']}"
    text = page(title, command, environment, tables, _checks(runs, results))
    method = config["method"]
    inner = {name: value for name, value in method["settings"].items() if name != "class"}
    notes = [
        f"search: {method['epochs']} passes over {method['images']} images in batches of {method['batch']}, "
        f"{method['statistics']} statistics",
        ", ".join(f"{name} {value}" for name, value in inner.items()),
        f"FNNP: {config['fnnp']['candidates']} candidates; random search: rates up to {config['max_rate']}",
    ]
    settings = schedules(config["images"], {"finetune": config["finetune"]}, notes)
    return write_page(docs / f"{stem}.md", "\n\n".join([text.rstrip(), settings, *links]) + "\n")


def _runs(results: Results) -> Runs:
    runs: Runs = {}
    for key, found in results.items():
        kind, _, rest = key.partition("/")
        if kind == "found" and f"tuned/{rest}" in results:
            name, budget, seed = rest.split("/")
            runs.setdefault((name, budget), {})[int(seed)] = (found, results[f"tuned/{rest}"])
    return {key: dict(sorted(seeds.items())) for key, seeds in runs.items()}


def _result(runs: Runs) -> Table:
    rows = []
    for (name, budget), seeds in sorted(runs.items(), key=lambda item: item[0][1]):
        pairs = list(seeds.values())
        macs = fmean(found["macs"] for found, _ in pairs) / 1e6
        seconds = fmean(found["search_s"] for found, _ in pairs)
        before, after = (_mean([pair[place]["test"] for pair in pairs]) for place in (0, 1))
        evidence = fmean(found["evidence"]["effective"] for found, _ in pairs) if "evidence" in pairs[0][0] else None
        sampled = "-" if evidence is None else f"{evidence:.1f}"
        rows.append((f"{float(budget):.0%}", name, before, after, f"{macs:.2f}", f"{seconds:.0f}", sampled))
    columns = (
        *("budget", "run", "before fine-tuning (%)", "after (%)", "MACs (millions)", "search (s)"),
        "effective samples",
    )
    note = (
        "Test accuracy, mean and standard deviation over seeds; batch-norm statistics recomputed before. Effective "
        "samples: size of the samples of one step by their likelihood ratios (Kish), mean over the search."
    )
    return Table("Result", columns, tuple(rows), note)


def _mean(values: Sequence[float]) -> str:
    spread = f" +- {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):.2f}{spread}"


def _cost(results: Results) -> Table:
    rows = [
        (f"{v['samples'] / v['seconds']:.1f}", f"{1 - v['outside']:.1%}", str(v["samples"]), f"{v['seconds']:.0f}")
        for key, v in results.items()
        if key == "cost"
    ]
    return Table("Cost", ("evaluations per second", "in forward passes", "evaluations", "seconds"), tuple(rows))


def _checks(runs: Runs, results: Results) -> list[Check]:
    checks = []
    for (name, budget), seeds in runs.items():
        mine = runs.get(("exploration", budget), {})
        both = [(mine[seed], pair) for seed, pair in seeds.items() if seed in mine]
        if name == "exploration" or not both:
            continue
        for place, when in enumerate(("before fine-tuning", "after")):
            gaps = [100 * (ours[place]["test"] - theirs[place]["test"]) for ours, theirs in both]
            text = f"at {float(budget):.0%} exploration is above {name} {when}"
            said = f"{fmean(gaps):+.2f} points ({', '.join(f'{gap:+.2f}' for gap in gaps)})"
            checks.append(Check(text, said, fmean(gaps) > 0))
    if "cost" in results:
        inside = 1 - results["cost"]["outside"]
        checks.append(Check("95 % of the time or more lies in forward passes", f"{inside:.1%}", inside >= 0.95))
    return checks


def _figures(run: Path, runs: Runs, results: Results) -> dict[str, tuple[Figure, str]]:
    figures: dict[str, tuple[Figure, str]] = {}
    budgets = sorted({budget for _, budget in runs})
    if budgets:
        tests = {
            name: [t["test"] for _, t in seeds.values()]
            for (name, budget), seeds in runs.items()
            if budget == budgets[0]
        }
        caption = f"Test accuracy after fine-tuning at {float(budgets[0]):.0%} of the MACs, by seed, and the means"
        figures["result"] = (drawn(tests, by_seed, 1, (max(8, 1.2 * len(tests)), 3.6)), caption)
        log = run / "searches" / f"exploration-{budgets[0]}-0.jsonl"
        shown = [event for event in read_events(log) if event["event"] == "probabilities"]
        caption = "Keep probabilities of each group at the start, in the middle and at the end of a search (seed 0)"
        figures["dynamics"] = (probabilities_figure(snapshots_of(shown, results["groups"]["widths"])), caption)
    return figures
