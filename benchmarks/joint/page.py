"""``joint_MODEL.md`` and its figures, from the journal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.experiments import results_of
from benchmarks.joint.checks import checks_of
from benchmarks.joint.weights import SCORES, VARIANTS
from benchmarks.report import INK, by_seed, drawn, page, schedules, write_figures, write_page
from widthwise.experiments import Table
from widthwise.runs import read_events, read_json

__all__ = ["write"]

Value = Mapping[str, Any]
Results = Mapping[str, Value]


def write(run: Path, docs: Path) -> Path:
    """Write the page and its figures into a folder; returns the page's path."""
    config, environment = read_json(run / "config.json"), read_json(run / "environment.json")[-1]
    results = results_of(read_events(run / "journal.jsonl"))
    arms: dict[str, list[Value]] = {}
    for key, value in results.items():
        if "test" in value:
            name, _, seed = key.rpartition("/")
            arms.setdefault(name, []).append({**value, "seed": int(seed)})
    stem = f"joint_{config['model']}"
    links = write_figures(docs, stem, _figures(arms, results))
    title = f"Joint search-and-training of {config['model']} at {config['budget']:.0%} of the MACs"
    command = "python -m benchmarks.joint all --data ... --settings ... --out ..."
    tables = [
        table
        for table in (_result(arms), _longer(arms, results), _weights(results), _noise(results), _share(results))
        if table.rows
    ]
    text = page(title, command, environment, tables, checks_of(arms, results))
    text = "\n\n".join([text.rstrip(), _settings(config), *links]) + "\n"
    return write_page(docs / f"{stem}.md", text)


def _settings(config: Mapping[str, Any]) -> str:
    joint, rounds = config["joint"], config["joint"]["rounds"]
    trainings = {"coarse": joint["coarse"], "a round's network": rounds["network"], "its weights": rounds["weights"]}
    trainings |= {name: config[name] for name in ("finetune", "full", "scratch", "longer")}
    policy = f"{rounds['policy_steps']} steps of the policy in each, {rounds['episodes']} episodes per step"
    notes = [
        f"{rounds['rounds']} rounds, noise {rounds['noise']}, lambda {joint['penalty']}; {policy}",
        f"FNNP: {config['fnnp']['candidates']} candidates",
    ]
    return schedules(config["images"], trainings, notes)


# -- tables


def _result(arms: Mapping[str, Sequence[Value]]) -> Table:
    rows = []
    for name, values in arms.items():
        tests = [100 * value["test"] for value in values]
        spread = f" +- {stdev(tests):.2f}" if len(tests) > 1 else ""
        seconds = fmean(value["seconds"] for value in values)
        least = ">= " if any(value["cut"] for value in values) else ""
        macs, params = (fmean(value[key] for value in values) / 1e6 for key in ("macs", "params"))
        each = ", ".join(f"{test:.2f}" for test in tests)
        rows.append(
            (name, f"{fmean(tests):.2f}{spread}", each, f"{macs:.2f}", f"{params:.3f}", f"{least}{seconds:.0f}")
        )
    columns = ("run", "test accuracy (%)", "by seed", "MACs (millions)", "parameters (millions)", "core-seconds")
    note = (
        "From fresh weights to the final network, each on the same images; mean and standard deviation over seeds. "
        "Core-seconds: what the one process computed. "
        "`>=`: a run was cut off and went on, so that some of its time is missing."
    )
    return Table("Result at the budget", columns, tuple(rows), note)


def _longer(arms: Mapping[str, Sequence[Value]], results: Results) -> Table:
    rows = []
    for name, values in arms.items():
        before = {value["seed"]: value["test"] for value in values}
        after = {seed: results[key]["after"] for seed in before if (key := f"longer/{name}/{seed}") in results}
        if after:
            each = ", ".join(f"{100 * test:.2f}" for test in after.values())
            start = 100 * fmean(before[seed] for seed in after)
            rows.append((name, f"{start:.2f}", f"{100 * fmean(after.values()):.2f}", each))
    columns = ("run", "test accuracy as above (%)", "after further training (%)", "by seed")
    note = "The final networks of these seeds, trained on with one schedule for all."
    return Table("Trained on", columns, tuple(rows), note)


def _weights(results: Results) -> Table:
    rows = []
    for key, value in results.items():
        if key.startswith("weights/"):
            first, last = value["epochs"][0], value["epochs"][-1]
            moved = [f"{epoch[name]:.2g}" for name in ("gradient", "spread") for epoch in (first, last)]
            taus = [_known(value["taus"][name]["mean"]) for name in SCORES]
            norms = [f"{norm:.2g}" for norm in value["norms"]]
            rows.append((*key.split("/")[1:], *norms, *moved, *taus))
    columns = (
        *("placement", "seed", "norm as drawn", "after", "gradient, first epoch", "last", "spread, first epoch"),
        *("last", *(f"tau of {name}" for name in SCORES)),
    )
    note = (
        "Coarse training. Norm: of alpha. Gradient: norm of what the labels ask of alpha, mean over an epoch. "
        "Spread: root mean square distance of the factors from 1. Tau: Kendall's, between a score of the channels and "
        "the loss on validation images when one is taken out, mean over the groups."
    )
    return Table("Filter weights by placement", columns, tuple(rows), note)


def _known(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _noise(results: Results) -> Table:
    found = {tuple(key.split("/")[1:]): value for key, value in results.items() if key.startswith("noise/")}
    scales = sorted({scale for _, scale in found}, key=float)
    rows = []
    for network in dict.fromkeys(name for name, _ in found):
        cells = (found.get((network, scale)) for scale in scales)
        rows.append(
            (network, *("-" if v is None else f"{v['mean']:.2f} ({v['low']:.2f}-{v['high']:.2f})" for v in cells))
        )
    note = (
        "Share of the multiply-adds that one draw keeps, without a budget: random thresholds, weights as they are "
        "drawn at the start; mean (lowest-highest). The paper's networks keep 0.55, 0.50 and 0.42 (its table 1)."
    )
    return Table("What noise leaves", ("network", *(f"scale {scale}" for scale in scales)), tuple(rows), note)


def _share(results: Results) -> Table:
    rows = [
        (f"{value['outside']:.1%}", *(f"{value[name]:.0f}" for name in ("forward", "backward", "seconds")))
        for key, value in results.items()
        if key == "share"
    ]
    columns = ("outside passes", "forward (s)", "backward (s)", "whole run (s)")
    note = (
        "A short run from fresh weights to its end: one coarse epoch, two rounds, one epoch of fine-tuning, the files."
    )
    return Table("Time outside forward and backward passes", columns, tuple(rows), note)


# -- figures


def _figures(arms: Mapping[str, Sequence[Value]], results: Results) -> dict[str, tuple[Figure, str]]:
    figures: dict[str, tuple[Figure, str]] = {}
    if arms:
        tests = {name: [value["test"] for value in values] for name, values in arms.items()}
        figures["result"] = (drawn(tests, by_seed, 1, (7.5, 3.6)), "Test accuracy by seed, and the means")
    runs = [value for value in arms.get("joint", []) if value["rounds"]]
    if runs:
        caption = "Accuracy of every sampled network at the end of its round (validation images), and thresholds"
        figures["rounds"] = (drawn(runs, _rounds, 2, (7.5, 3.4)), caption)
    trained = {where: results[f"weights/{where}/0"] for where in VARIANTS if f"weights/{where}/0" in results}
    if trained:
        caption = "Coarse training with filter weights in either place: their gradient, and how far they lie apart"
        figures["weights"] = (drawn(trained, _training, 2, (7.5, 3.4)), caption)
    return figures


def _rounds(runs: Sequence[Value], axes: Sequence[Axes]) -> None:
    for value, colour in zip(runs, INK, strict=False):
        numbers = range(1, len(value["rounds"]) + 1)
        axes[0].plot(
            numbers,
            [100 * r["accuracy"] for r in value["rounds"]],
            "o-",
            ms=3,
            color=colour,
            label=f"seed {value['seed']}",
        )
        axes[1].plot(numbers, [fmean(r["thresholds"]) for r in value["rounds"]], "o-", ms=3, color=colour)
    axes[0].set_ylabel("accuracy of the sampled network (%)", fontsize=8)
    axes[0].legend(fontsize=8)
    axes[1].set_ylabel("mean threshold", fontsize=8)
    _small(axes, "round")


def _training(trained: Results, axes: Sequence[Axes]) -> None:
    for panel, name in zip(axes, ("gradient", "spread"), strict=True):
        for (where, value), colour in zip(trained.items(), INK, strict=False):
            numbers = range(1, len(value["epochs"]) + 1)
            panel.plot(numbers, [epoch[name] for epoch in value["epochs"]], "o-", ms=3, color=colour, label=where)
        panel.set_yscale("log")
        panel.set_ylabel(name, fontsize=8)
    axes[0].legend(fontsize=8, title="placement", title_fontsize=8)
    _small(axes, "epoch")


def _small(axes: Sequence[Axes], along: str) -> None:
    for panel in axes:
        panel.set_xlabel(along, fontsize=8)
        panel.tick_params(labelsize=8)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
