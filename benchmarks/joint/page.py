"""``joint_MODEL.md`` and its figures, from the journal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib.axes import Axes

from benchmarks.experiments import results_of
from benchmarks.report import INK, Check, Table, drawn, page, write_figures, write_page
from widthwise.runs import read_events, read_json

__all__ = ["write"]

Value = Mapping[str, Any]


def write(run: Path, docs: Path) -> Path:
    """Write the page and its figures into a folder; returns the page's path."""
    config, environment = read_json(run / "config.json"), read_json(run / "environment.json")[-1]
    arms: dict[str, list[Value]] = {}
    for key, value in results_of(read_events(run / "journal.jsonl")).items():
        arms.setdefault(key.rpartition("/")[0], []).append(value)
    stem = f"joint_{config['model']}"
    figures = {"result": (drawn(arms, _result, 1, (6.5, 3.6)), "Test accuracy by seed, and the means")}
    runs = [value for value in arms.get("joint", []) if value["rounds"]]
    if runs:
        caption = "Accuracy of every sampled network at the end of its round (validation images), and thresholds"
        figures["rounds"] = (drawn(runs, _rounds, 2, (7.5, 3.4)), caption)
    links = write_figures(docs, stem, figures)
    title = f"Joint search-and-training of {config['model']} at {config['budget']:.0%} of the MACs"
    command = "python -m benchmarks.joint --data ... --settings ... --out ..."
    text = page(title, command, environment, [_table(arms)], _checks(arms))
    text = "\n\n".join([text.rstrip(), _schedules(config), *links]) + "\n"
    return write_page(docs / f"{stem}.md", text)


def _schedules(config: Mapping[str, Any]) -> str:
    """What the figures hang on."""
    joint, rounds = config["joint"], config["joint"]["rounds"]
    trainings = {"coarse": joint["coarse"], "a round's network": rounds["network"], "its weights": rounds["weights"]}
    trainings |= {name: config[name] for name in ("finetune", "full", "scratch")}
    lines = ["## Settings", "", f"Images: {config['images']}. {rounds['rounds']} rounds.", ""]
    for name, training in trainings.items():
        said = ", ".join(f"{k} {training[k]}" for k in ("epochs", "batch_size", "lr", "schedule", "precision"))
        lines.append(f"- {name}: {said}")
    return "\n".join([*lines, f"- FNNP: {config['fnnp']['candidates']} candidates"])


def _table(arms: Mapping[str, Sequence[Value]]) -> Table:
    rows = []
    for name, values in arms.items():
        tests = [100 * value["test"] for value in values]
        spread = f" +- {stdev(tests):.2f}" if len(tests) > 1 else ""
        seconds = fmean(value["seconds"] for value in values)
        macs, params = (fmean(value[key] for value in values) / 1e6 for key in ("macs", "params"))
        each = ", ".join(f"{test:.2f}" for test in tests)
        rows.append((name, f"{fmean(tests):.2f}{spread}", each, f"{macs:.2f}", f"{params:.3f}", f"{seconds:.0f}"))
    columns = ("run", "test accuracy (%)", "by seed", "MACs (millions)", "parameters (millions)", "seconds")
    note = "From fresh weights to the final network, each on the same images; mean and standard deviation over seeds."
    return Table("Result at the budget", columns, tuple(rows), note)


def _checks(arms: Mapping[str, Sequence[Value]]) -> list[Check]:
    """The method against each other run, as docs/joint.md predicts."""
    checks = []
    for other in arms:
        pairs = list(zip(arms.get("joint", []), arms[other], strict=False)) if other != "joint" else []
        if pairs:
            gaps = [100 * (mine["test"] - theirs["test"]) for mine, theirs in pairs]
            said = f"{fmean(gaps):+.2f} points ({', '.join(f'{gap:+.2f}' for gap in gaps)})"
            checks.append(Check(f"joint is at least as good as {other}", said, fmean(gaps) >= 0))
    return checks


def _result(arms: Mapping[str, Sequence[Value]], axes: Sequence[Axes]) -> None:
    (panel,) = axes
    for place, values in enumerate(arms.values()):
        tests = [100 * value["test"] for value in values]
        panel.scatter([place] * len(tests), tests, s=14, color=INK[0], alpha=0.7)
        panel.hlines(fmean(tests), place - 0.25, place + 0.25, color=INK[1])
    panel.set_xticks(range(len(arms)), [name.replace(" ", "\n") for name in arms], fontsize=8)
    panel.set_ylabel("test accuracy (%)")


def _rounds(runs: Sequence[Value], axes: Sequence[Axes]) -> None:
    for value, colour in zip(runs, INK, strict=False):
        numbers = range(1, len(value["rounds"]) + 1)
        axes[0].plot(numbers, [100 * r["accuracy"] for r in value["rounds"]], "o-", ms=3, color=colour)
        axes[1].plot(numbers, [fmean(r["thresholds"]) for r in value["rounds"]], "o-", ms=3, color=colour)
    axes[0].set_ylabel("accuracy of the sampled network (%)", fontsize=8)
    axes[1].set_ylabel("mean threshold", fontsize=8)
    for panel in axes:
        panel.set_xlabel("round", fontsize=8)
        panel.tick_params(labelsize=8)
