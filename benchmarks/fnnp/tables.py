"""The tables of the FNNP experiment, from its summary."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.fnnp.parts import SEARCHES
from benchmarks.fnnp.summary import EVALUATORS
from widthwise.experiments import Table

__all__ = ["NAMES", "tables_of"]

NAMES = {"global_bn": "global BN", "adaptive_bn": "adaptive BN", "short_training": "short training"}
"""How the evaluators are called in print."""


def tables_of(summary: Mapping[str, Any]) -> list[Table]:
    """A table for each part that has results."""
    makers = {
        "rates": rates_table,
        "searches": searches_table,
        "iterations": iterations_table,
        "correlation": correlation_table,
        "final": final_table,
    }
    empty = {"correlation": "models"}
    wanted = [name for name in makers if (summary[name][empty[name]] if name in empty else summary[name])]
    return [makers[name](summary) for name in wanted]


def rates_table(summary: Mapping[str, Any]) -> Table:
    """Random rates against the uniform strategy."""
    rows: list[tuple[str, ...]] = []
    for row in summary["rates"]:
        scores = row["scores"]
        if not scores:
            rows.append((f"{row['max_rate']}", "cannot meet the budget", "", "", "", ""))
            continue
        above = "" if row["above_uniform"] is None else f"{row['above_uniform']:.0%}"
        figures = (f"{v:.2%}" for v in (fmean(scores), min(scores), max(scores)))
        rows.append((f"{row['max_rate']}", f"{len(scores)}", *figures, above))
    note = (
        "Accuracy after adaptive batch norm on the validation images of the search, without any training. "
        f"The uniform strategy has {_percent(summary['uniform'])}."
    )
    columns = ("R", "strategies", "mean", "worst", "best", "better than uniform")
    return Table("Random rates: the effect of R", columns, tuple(rows), note)


def searches_table(summary: Mapping[str, Any]) -> Table:
    """How far the searches that learn have come after so many candidates."""
    by_name = summary["searches"]
    most = max(len(row["best"]) for rows in by_name.values() for row in rows)
    marks = [n for n in (1, 10, 20, 40, 60, 80, 100, 200, 400) if n < most] + [most]
    rows = tuple((f"{n}", *(_reached(found, n) for found in by_name.values())) for n in marks)
    seeds = max(len(found) for found in by_name.values())
    note = (
        f"The best so far: mean of {seeds} seeds of the search, least and most in brackets. The first candidate is the "
        "uniform strategy. Same images and evaluator as above."
    )
    return Table("Searches that learn", ("candidates", *(SEARCHES[name] for name in by_name)), rows, note)


def _reached(found: Sequence[Mapping[str, Any]], count: int) -> str:
    best = [row["best"][count - 1] for row in found if len(row["best"]) >= count]
    if not best:
        return ""
    return f"{fmean(best):.2%}" + (f" ({min(best):.2%} to {max(best):.2%})" if len(best) > 1 else "")


def iterations_table(summary: Mapping[str, Any]) -> Table:
    """Calibration images against accuracy."""
    rows = []
    for row in summary["iterations"]:
        found = row["accuracies"]
        name = f"{row['images']:,}" if row["images"] else "0 (global BN)"
        rows.append((name, f"{fmean(found):.2%}", f"{min(found):.2%} to {max(found):.2%}", f"{len(found)}"))
    note = "The uniform sub-network, untrained, on the whole validation split (the paper's figure 5)."
    return Table("How many calibration images", ("images", "accuracy", "least to most", "draws"), tuple(rows), note)


def correlation_table(summary: Mapping[str, Any]) -> Table:
    """Agreement of the quick judgements with the fine-tuned accuracy."""
    figures = summary["correlation"]["figures"]
    rows = tuple(
        (NAMES[name], *(_estimate(figures[name][key]) for key in ("pearson", "spearman", "kendall", "phi")))
        for name in EVALUATORS
        if name in figures
    )
    note = (
        f"{len(summary['correlation']['models'])} sub-networks of the same cost, each judged by every evaluator and "
        "then fine-tuned alike; all on the whole validation split (the late ones of Thompson sampling were found by "
        "adaptive BN on a part of it). Brackets: 95 % bootstrap intervals."
    )
    columns = ("evaluator", "Pearson", "Spearman", "Kendall", "phi(5)")
    return Table("Which quick judgement predicts the fine-tuned accuracy", columns, rows, note)


def final_table(summary: Mapping[str, Any]) -> Table:
    """The final networks on the test images."""
    rows = []
    for row in summary["final"]:
        mean, deviation = row["test_mean"], f" ± {row['test_std']:.2%}" if len(row["test"]) > 1 else ""
        test = "" if mean is None else f"{mean:.2%}{deviation}"
        each = ", ".join(f"{value:.2%}" for value in row["test"])
        val = f"{fmean(row['val']):.2%}"
        rows.append((row["name"], f"{row['macs'] / 1e6:.1f} M", f"{row['params'] / 1e6:.3f} M", val, test, each))
    rate = summary["rate"]
    drawn = next((len(r["scores"]) for r in summary["rates"] if r["max_rate"] == rate), 0)
    looked = max((len(row["scores"]) for row in summary["searches"].get("thompson", ())), default=0)
    note = (
        "`fnnp` is, for each seed, the finalist with the better validation accuracy, out of "
        f"{looked} candidates of Thompson sampling; `evolution` the best of as many of evolution, `random` of {drawn} "
        f"random ones with R = {rate}. Same filters by L1, adaptive batch norm and fine-tuning; seeds are of the "
        "fine-tuning."
    )
    columns = ("network", "MACs", "parameters", "validation", "test, mean ± deviation", "test, by seed")
    return Table("After fine-tuning", columns, tuple(rows), note)


def _estimate(estimate: Mapping[str, float | None]) -> str:
    if estimate["value"] is None:
        return "not defined"
    if estimate["low"] is None or estimate["high"] is None:
        return f"{estimate['value']:.2f}"
    return f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"


def _percent(value: float | None) -> str:
    return "not been scored" if value is None else f"{value:.2%}"
