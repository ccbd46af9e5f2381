"""The tables of the page, from the summary."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.report import Check
from benchmarks.stagewise.summary import PROXIES, interval
from widthwise.evaluate import Estimate
from widthwise.experiments import Table

__all__ = ["GOAL", "checks_of", "tables_of"]

GOAL = 1.15
"""Of the cost of a step, on CPU."""

TEACHERS = {
    "inplace": "in place (the paper's)",
    "pretrained": "pre-trained, same architecture (S1)",
    "other": "another architecture (S2)",
    "no-small": "in place, without the smallest sub-network",
}

SETS = {"mixed": "networks of mixed budgets", "fixed": "networks of one budget"}


WINNERS: tuple[tuple[str, str, str, Callable[[float], bool]], ...] = (
    ("the stage-wise winner beats uniform", "stagewise", "uniform", lambda gain: gain > 0),
    ("the stage-wise winner beats fnnp", "stagewise", "fnnp", lambda gain: gain > 0),
    (
        "judged whole, the winner is half a point above the division's",
        "stagewise, chained",
        "stagewise",
        lambda gain: gain >= 0.005,
    ),
    ("judged whole, the winner is no worse than uniform", "stagewise, chained", "uniform", lambda gain: gain >= 0),
)
"""What is predicted of the networks of `result`: which one, beside which, and what gain in test accuracy holds it."""


def tables_of(summary: Mapping[str, Any]) -> list[Table]:
    """A table for each part that has results."""
    makers = (_steps, _genes, _mixed, _fixed, _result, _division, _expectation, _teachers)
    return [table for make in makers if (table := make(summary)).rows]


def checks_of(summary: Mapping[str, Any]) -> list[Check]:
    """The predictions of which the outcome is known."""
    checks = []
    for row in summary["cost"]["steps"]:
        name = f"a super-net step of {row['network']} in {row['precision']} costs at most {GOAL} plain ones"
        checks.append(Check(name, f"{row['ratio']:.2f}", row["ratio"] <= GOAL))
    for name, title in SETS.items():
        found = summary["ranking"][name]
        if found is not None:
            taus = {p: found["figures"][p]["kendall"].value for p in ("stagewise", "slimmable", "meta", "adaptive_bn")}
            first, second = sorted((t for t in taus if not math.isnan(taus[t])), key=lambda t: -taus[t])[:2] or ("", "")
            lead = taus[first] - taus[second]
            said = f"{first} wins: {taus[first]:.2f}, by {lead:.2f} over {second}; stage-wise {taus['stagewise']:.2f}"
            checks.append(Check(f"stage-wise ranks {title} best of four", said, first == "stagewise" and lead > 0))
    means = {row["name"]: fmean(row["test"]) for row in summary["result"]}
    for text, mine, other, held in WINNERS:
        if {mine, other} <= means.keys():
            said = f"{means[mine]:.2%} against {means[other]:.2%}"
            checks.append(Check(text, said, held(means[mine] - means[other])))
    both = [summary["division"].get(how, []) for how in ("knapsack", "evolution")]
    if all(both):
        pairs = list(zip(*both, strict=False))
        better = sum(a["loss"] <= b["loss"] for a, b in pairs)
        said = f"in {better} of {len(pairs)} seeds"
        checks.append(Check("the knapsack finds losses as small as the evolution's", said, better == len(pairs)))
    return checks


def _steps(summary: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            f"{r['network']}, {r['pixels']} px, batch {r['images']}",
            r["precision"],
            *(f"{1000 * r['times'][side]:.0f}" for side in ("supernet", "full", "random", "smallest")),
            f"{r['work']:.2f}",
            f"{r['ratio']:.2f} ({r['spread'][0]:.2f} to {r['spread'][1]:.2f})",
        )
        for r in summary["cost"]["steps"]
    )
    note = (
        "Milliseconds of a stage-wise step, and of plain training steps of the full, the random and the smallest "
        "sub-network as modules of their own, in turns in one process (medians). `ratio`: step over the sum of the "
        "three, median of the rounds (middle half). `work`: the same ratio in multiply-adds, where the inputs of "
        "stages are whole and adapters are counted."
    )
    columns = ("network", "precision", "super-net step", "full", "random", "smallest", "work", "ratio")
    return Table("What a super-net step costs", columns, rows, note)


def _genes(summary: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            f"{r['network']}, {r['pixels']} px, {r['images']} images",
            r["precision"],
            *(f"{r['speeds'][side]:.1f}" for side in ("shared", "materialised")),
            f"{r['speeds']['shared'] / r['speeds']['materialised']:.2f}x",
            f"{r['gap']:.0e}",
        )
        for r in summary["cost"]["genes"]
    )
    note = (
        "Stage losses per second on stored features, by slices of the super-net and by copies of each sub-network; the "
        "same genes, in turns. `gap`: largest relative difference of the losses."
    )
    columns = ("network", "precision", "slices", "copies", "ratio", "gap")
    return Table("Genes evaluated per second", columns, rows, note)


def _mixed(summary: Mapping[str, Any]) -> Table:
    return _ranking(summary, "mixed")


def _fixed(summary: Mapping[str, Any]) -> Table:
    return _ranking(summary, "fixed")


def _ranking(summary: Mapping[str, Any], name: str) -> Table:
    found, title = summary["ranking"][name], f"Ranking {SETS[name]} (the paper's figure 4)"
    columns = ("proxy", "Kendall's tau", "Spearman's rho", "tau, validation images")
    if found is None:
        return Table(title, columns, ())
    rows = tuple(
        (PROXIES[p], _estimate(f["kendall"]), _estimate(f["spearman"]), _number(f["val"]))
        for p, f in found["figures"].items()
    )
    tests = [fmean(row["test"]) for row in found["rows"]]
    note = (
        f"{len(tests)} sub-networks against their test accuracy after training from scratch ({min(tests):.2%} to "
        f"{max(tests):.2%}; the mean where trained twice). Brackets: 95 % bootstrap intervals."
    )
    if found["ceiling"] is not None:
        c = found["ceiling"]
        note += (
            f" Trained again, accuracies deviate by {100 * c['deviation']:.2f} points ({c['repeated']} networks), so a "
            f"proxy that knew the truth would have a tau of {c['kendall']:.2f}."
        )
    return Table(title, columns, rows, note)


def _result(summary: Mapping[str, Any]) -> Table:
    rows = []
    for r in summary["result"]:
        gain = "" if r["gain"] is None else f"{100 * r['gain'][0]:+.2f} ± {100 * r['gain'][1]:.2f}"
        each = ", ".join(f"{value:.2%}" for value in r["test"])
        figures = (_millions(r["macs"], 1), _millions(r["params"], 3), f"{fmean(r['val']):.2%}")
        rows.append((r["name"], *figures, _mean(r["test"]), gain, each))
    note = (
        "Trained from scratch with one schedule, but for `fnnp, fine-tuned`: FNNP's finalists with the trained "
        "network's weights, the better one by validation images for each seed. ±: half of the 95 % t interval of the "
        "mean over the seeds of training, in points for the difference from uniform width (Welch). One search each."
    )
    columns = ("network", "MACs", "parameters", "validation", "test", "beside uniform", "test, by seed")
    return Table("Result at the budget", columns, tuple(rows), note)


def _division(summary: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            how,
            f"{r['seed']}",
            f"{r['loss']:.5g}",
            "" if r["gap"] is None else f"{r['gap']:.2g}",
            f"{r['genes']:,}",
            f"{r['evaluating']:.0f}",
            f"{r['own']:.1f}",
        )
        for how, found in summary["division"].items()
        for r in found
    )
    note = (
        "Sum of the stage losses of the network that is found on one super-net, with as many genes per stage at most. "
        "Seconds: of the evaluations, and of the search itself (a second pass over its log). `gap`: no combination of "
        "the genes looked at is better by more."
    )
    columns = ("division", "seed", "loss", "gap", "genes", "evaluating, s", "searching, s")
    return Table("Dividing the budget: knapsack and evolution", columns, rows, note)


def _expectation(summary: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            r["model"],
            f"{r['epochs']}",
            f"{r['candidates']}",
            _mean(r["own"]["accuracies"]),
            f"{r['own']['macs']:.0%}",
            _mean(r["common"]["accuracies"]),
        )
        for r in summary["expectation"]
    )
    note = (
        "E(a_super), equation 2: accuracy of random sub-networks with the weights of a super-net that was trained on "
        "random ones (single path), batch norms recalibrated, validation images. `own`: networks of the super-net's "
        "own widths. `common`: the same networks for all super-nets, of the narrowest and the full width of each "
        "layer, which every set of widths contains: there the training alone differs. ±: 95 % t interval over the "
        "networks."
    )
    columns = ("network", "epochs", "widths per layer", "E, own", "their MACs", "E, common")
    return Table("Expected accuracy and widths per layer (the paper's figure 1)", columns, rows, note)


def _teachers(summary: Mapping[str, Any]) -> Table:
    rows = []
    for r in summary["teachers"]:
        val = "" if r["supernet"] is None else f"{r['supernet']:.2%}"
        widths = " ".join(map(str, r["widths"]))
        rows.append((TEACHERS[r["name"]], val, _mean(r["test"]), _millions(r["macs"], 1), widths))
    note = "Winners at the budget, trained from scratch; `full`: validation accuracy of the super-net's full network."
    columns = ("teacher", "full", "test", "MACs", "widths")
    return Table("Teachers (the paper's table 3)", columns, tuple(rows), note)


def _mean(values: Sequence[float]) -> str:
    mean, half = interval(values)
    return f"{mean:.2%}" + ("" if math.isnan(half) else f" ± {100 * half:.2f}")


def _millions(count: int, digits: int) -> str:
    return f"{count / 1e6:.{digits}f} M"


def _estimate(estimate: Estimate) -> str:
    return "not defined" if math.isnan(estimate.value) else str(estimate)


def _number(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.2f}"
