"""The page and its figures, from the journal: nothing on it that is not in a record."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.experiments import results_of
from benchmarks.report import INK, by_seed, drawn, page, schedules, write_figures, write_page
from benchmarks.stagewise.summary import summarise
from benchmarks.stagewise.tables import checks_of, tables_of
from widthwise.runs import read_events, read_json

__all__ = ["figures_of", "write"]

SHOWN = {
    "stagewise": "stage-wise, summed",
    "chained": "stage-wise, chained",
    "slimmable": "universally slimmable",
    "meta": "MetaPruning",
    "adaptive_bn": "adaptive BN",
}
"""The proxies that have a picture, with its title."""


def write(run: Path, docs: Path) -> Path:
    """Write ``stagewise_MODEL.md`` and its figures into a folder, from the run's journal; returns the page's path."""
    results = results_of(read_events(run / "journal.jsonl"))
    config, environment = read_json(run / "config.json"), read_json(run / "environment.json")[-1]
    summary, stem = summarise(results, config["resamples"]), f"stagewise_{config['model']}"
    links = write_figures(docs, stem, figures_of(summary))
    title = f"Stage-wise pruning of {config['model']} at {config['budget']:.0%} of the MACs"
    command = "python -m benchmarks.stagewise all --data ... --settings ... --out ..."
    text = page(title, command, environment, tables_of(summary), checks_of(summary))
    text = "\n\n".join([text.rstrip(), _schedules(config), *links]) + "\n"
    return write_page(docs / f"{stem}.md", text)


def _schedules(config: Mapping[str, Any]) -> str:
    trainings = {name: config[name] for name in ("supernet", "scratch", "finetune", "teacher")}
    note = (
        f"MetaPruning and the full network of adaptive batch norm: {config['passes']} times the epochs of "
        "`supernet`, because their steps have one pass where those of the others have three; so they make as "
        "many passes (of different cost: full ones for the full network, random ones for MetaPruning) and more updates."
    )
    return schedules(config["images"], trainings, [note])


def figures_of(summary: Mapping[str, Any]) -> dict[str, tuple[Figure, str]]:
    """Each figure with its caption, for the parts that have results."""
    figures: dict[str, tuple[Figure, str]] = {}
    titles = {"mixed": "Networks of mixed budgets", "fixed": "Networks of one budget"}
    for name, title in titles.items():
        if summary["ranking"][name] is not None:
            caption = f"{title}: each proxy against test accuracy after training from scratch"
            size = (2.9 * len(SHOWN), 3.6)
            figures[f"ranking_{name}"] = (drawn(summary["ranking"][name], _ranking, len(SHOWN), size), caption)
    if summary["expectation"]:
        caption = "Accuracy of random sub-networks without training of their own, and widths per layer"
        figures["expectation"] = (drawn(summary["expectation"], _expectation, 2, (6.8, 3.6)), caption)
    if summary["result"]:
        caption = "Test accuracy by seed, and the means"
        tests = {row["name"]: row["test"] for row in summary["result"]}
        figures["result"] = (drawn(tests, by_seed, 1, (6, 3.6)), caption)
    return figures


def _ranking(found: Mapping[str, Any], axes: Sequence[Axes]) -> None:
    for panel, proxy, colour in zip(axes, SHOWN, INK, strict=False):
        rows = found["rows"]
        panel.scatter([r[proxy] for r in rows], [100 * fmean(r["test"]) for r in rows], s=18, color=colour)
        tau = found["figures"][proxy]["kendall"].value
        panel.set_title(SHOWN[proxy] + ("" if math.isnan(tau) else f"\ntau = {tau:.2f}"), fontsize=9)
        panel.set_xlabel("minus the loss" if proxy in ("stagewise", "chained") else "accuracy, not trained", fontsize=8)
        panel.tick_params(labelsize=8)
    axes[0].set_ylabel("test accuracy, trained (%)", fontsize=9)


def _expectation(rows: Sequence[Mapping[str, Any]], axes: Sequence[Axes]) -> None:
    curves = dict.fromkeys((r["model"], r["epochs"]) for r in rows)
    for panel, kind in zip(axes, ("own", "common"), strict=True):
        for colour, (model, epochs) in zip(INK * 9, curves, strict=False):
            found = [r for r in rows if (r["model"], r["epochs"]) == (model, epochs)]
            places = [r["candidates"] for r in found]
            panel.plot(places, [100 * r[kind]["mean"] for r in found], "o-", color=colour, label=f"{model}, {epochs}")
        panel.set_xscale("log", base=2)
        panel.set_xlabel("widths per layer", fontsize=9)
        panel.set_title("networks of its own widths" if kind == "own" else "the same networks for all", fontsize=9)
    axes[0].set_ylabel("E(a_super) (%)")
    axes[-1].legend(fontsize=7, title="network, epochs", title_fontsize=7)
