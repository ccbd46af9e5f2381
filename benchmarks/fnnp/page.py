"""``fnnp_MODEL.md`` and its figures, from the journal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.fnnp.parts import SEARCHES
from benchmarks.fnnp.summary import EVALUATORS, summarise
from benchmarks.fnnp.tables import NAMES, tables_of
from benchmarks.report import INK, drawn, page, schedules, write_figures, write_page
from widthwise.runs import read_events, read_json

__all__ = ["figures_of", "write"]

WIDE = (8.4, 3.8)
"""Width and height of a figure with one panel, in inches."""

_COLUMN = 2.2
"""Width of a search in the figure of candidates, where each R takes 1."""


def write(run: Path, docs: Path) -> Path:
    """Write the page and its figures into a folder; returns the page's path."""
    config, environment = read_json(run / "config.json"), read_json(run / "environment.json")[-1]
    summary = summarise(read_events(run / "journal.jsonl"), config["rate"])
    stem = f"fnnp_{config['model']}"
    links = write_figures(docs, stem, figures_of(summary))
    title = f"FNNP on {config['model']} at {config['budget']:.0%} of the MACs"
    command = "python -m benchmarks.fnnp all --data ... --weights ... --settings ... --out ..."
    text = page(title, command, environment, tables_of(summary))
    return write_page(docs / f"{stem}.md", "\n\n".join([text.rstrip(), _settings(config), *links]) + "\n")


def _settings(config: Mapping[str, Any]) -> str:
    trainings = {"fine-tuning of `correlation`": config["finetune"], "of `final`": config["final"]}
    notes = [
        f"short training: {config['short_training']['max_steps']} steps, lr {config['short_training']['lr']}",
        f"{config['calibration_images']} calibration images; searches look at {config['search_images']} validation "
        f"images; R of evolution {config['rate']}",
    ]
    return schedules(config["images"], trainings, notes)


def figures_of(summary: Mapping[str, Any]) -> dict[str, tuple[Figure, str]]:
    """Each figure with its caption, for the parts that have results."""
    figures: dict[str, tuple[Figure, str]] = {}
    if summary["searches"] or any(row["scores"] for row in summary["rates"]):
        caption = "Accuracy of untrained candidates at the same cost: random rates up to R, and searches that learn"
        figures["candidates"] = (drawn(summary, _candidates, 1, WIDE), caption)
    if summary["correlation"]["models"]:
        caption = "Quick judgements against the accuracy after fine-tuning"
        panels = len(EVALUATORS)
        figures["correlation"] = (drawn(summary, _correlation, panels, (3.6 * panels, 3.8)), caption)
    if summary["iterations"]:
        caption = "Accuracy of the uniform sub-network against the number of calibration images"
        figures["iterations"] = (drawn(summary, _iterations, 1, WIDE), caption)
    return figures


def _candidates(summary: Mapping[str, Any], axes: list[Axes]) -> None:
    """Columns of dots for random rates, then each search that learns in the order of its candidates."""
    (panel,) = axes
    rows = [row for row in summary["rates"] if row["scores"]]
    for place, row in enumerate(rows):
        scores = row["scores"]
        spread = [place + 0.6 * (i / max(1, len(scores) - 1) - 0.5) for i in range(len(scores))]
        panel.scatter(spread, [100 * s for s in scores], s=9, color=INK[0], alpha=0.7)
    labels = [f"R = {row['max_rate']}" for row in rows]
    ticks = [float(place) for place in range(len(rows))]
    for place, (name, found) in enumerate(summary["searches"].items()):
        scores, best, colour = found[0]["scores"], found[0]["best"], INK[2 + place]
        start = len(rows) - 0.3 + place * (_COLUMN + 0.4)
        positions = [start + _COLUMN * i / max(1, len(scores) - 1) for i in range(len(scores))]
        panel.scatter(positions, [100 * s for s in scores], s=9, color=colour, alpha=0.7)
        panel.plot(positions, [100 * s for s in best], color=colour, label=f"{SEARCHES[name]}, best so far")
        labels.append(f"{SEARCHES[name]}\n(1 to {len(scores)})")
        ticks.append(start + _COLUMN / 2)
    if summary["uniform"] is not None:
        panel.axhline(100 * summary["uniform"], color=INK[1], linestyle="--", label="uniform width")
    panel.set_xticks(ticks, labels, fontsize=8)
    panel.set_ylabel("validation accuracy (%), no training")
    panel.legend(fontsize=8, loc="best")


def _correlation(summary: Mapping[str, Any], axes: list[Axes]) -> None:
    """One panel for each evaluator."""
    models = summary["correlation"]["models"]
    kinds = list(dict.fromkeys(_kind(m["name"]) for m in models))
    for panel, evaluator in zip(axes, EVALUATORS, strict=True):
        for colour, kind in zip(INK * 3, kinds, strict=False):
            chosen = [m for m in models if _kind(m["name"]) == kind]
            x = [100 * m[evaluator] for m in chosen]
            panel.scatter(x, [100 * m["finetuned"] for m in chosen], s=18, color=colour, label=kind)
        figures = summary["correlation"]["figures"].get(evaluator)
        value = figures and figures["pearson"]["value"]
        panel.set_title(NAMES[evaluator] + (f": Pearson {value:.2f}" if value is not None else ""), fontsize=10)
        panel.set_xlabel("accuracy, quick judgement (%)", fontsize=9)
    axes[0].set_ylabel("accuracy after fine-tuning (%)", fontsize=9)
    axes[-1].legend(fontsize=7)


def _kind(name: str) -> str:
    return name.partition(" #")[0]


def _iterations(summary: Mapping[str, Any], axes: list[Axes]) -> None:
    """Every draw as a dot; the dashed line is the full network's statistics."""
    (panel,) = axes
    for row in summary["iterations"]:
        if row["images"] == 0:
            panel.axhline(100 * row["accuracies"][0], color=INK[1], linestyle="--", label="global BN")
            continue
        found = [100 * accuracy for accuracy in row["accuracies"]]
        panel.scatter([row["images"]] * len(found), found, s=14, color=INK[0])
    panel.set_xscale("log")
    panel.set_xlabel("calibration images")
    panel.set_ylabel("validation accuracy (%), no training")
    panel.legend(fontsize=8)
