"""From the journal to plain data: what the page shows, and what a test can check."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
import scipy.stats

from benchmarks.stagewise.jobs import text
from widthwise.evaluate import correlation, kendall

__all__ = ["PROXIES", "Results", "ceiling", "interval", "summarise"]

Results = Mapping[str, Mapping[str, Any]]
"""Values of the records by key."""

PROXIES = {
    "stagewise": "stage-wise: minus the sum of the stages' losses",
    "chained": "stage-wise: minus the last stage's loss, each stage fed by the one before",
    "slimmable": "universally slimmable: accuracy",
    "meta": "MetaPruning: accuracy",
    "adaptive_bn": "adaptive BN on the trained network, L1: accuracy",
    "macs": "multiply-adds alone",
    "params": "parameters alone",
}
"""How the proxies are called in print."""

NETWORKS = ("full", "uniform", "fnnp", "stagewise", "stagewise, chained")
"""Of the result, in the order of the table; journals sort names."""


def summarise(results: Results, resamples: int = 1000) -> dict[str, Any]:
    """Everything found out so far; parts that have not run are empty.

    Args:
        results: of the journal.
        resamples: behind each interval and each ceiling.
    """
    return {
        "cost": _cost(results),
        "ranking": {name: _ranking(results, name, resamples) for name in ("mixed", "fixed")},
        "result": _result(results),
        "division": _division(results),
        "expectation": _expectation(results),
        "teachers": _teachers(results),
    }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % t interval; nan with one value."""
    if len(values) < 2:
        return fmean(values), math.nan
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return fmean(values), float(half)


def _cost(results: Results) -> dict[str, Any]:
    steps, genes = [], []
    for key, value in results.items():
        kind, *rest = key.split("/")
        if kind != "cost":
            continue
        what, (name, pixels, batch, precision) = rest[0], rest[-4:]
        facts = {"network": name, "pixels": int(pixels), "images": int(batch), "precision": precision}
        if what == "step":
            times = {side: median(spent) for side, spent in value["times"].items()}
            ratios = value["ratios"]
            spread = [float(q) for q in np.quantile(ratios, (0.25, 0.75))]
            more = {"times": times, "ratio": median(ratios), "spread": spread, "rounds": len(ratios)}
            steps.append({**facts, **more, "work": value["work"], "threads": value["threads"]})
        else:
            speeds = {side: len(spent) / sum(spent) for side, spent in value["times"].items()}
            genes.append({**facts, "speeds": speeds, "gap": value["gap"]})
    return {"steps": steps, "genes": genes}


def _networks(results: Results, prefix: str) -> Mapping[str, Any] | None:
    """The last record of what a part looks at: it may have grown."""
    found = [value for key, value in results.items() if key.startswith(f"{prefix}/")]
    return found[-1] if found else None


def _ranking(results: Results, name: str, resamples: int) -> dict[str, Any] | None:
    """The networks that all was found out about, and how well each proxy ranks them."""
    drawn = _networks(results, "networks")
    rows = [row for widths in (drawn or {}).get(name, []) if (row := _ranked(results, tuple(widths))) is not None]
    if len(rows) < 2:
        return None
    actual = [fmean(row["test"]) for row in rows]
    figures = {}
    for proxy in PROXIES:
        found = correlation([row[proxy] for row in rows], actual, resamples=resamples)
        val = kendall([row[proxy] for row in rows], [fmean(row["val"]) for row in rows])
        figures[proxy] = {"kendall": found.kendall, "spearman": found.spearman, "val": val}
    return {"rows": rows, "figures": figures, "ceiling": ceiling([row["test"] for row in rows], resamples)}


def _ranked(results: Results, widths: tuple[int, ...]) -> dict[str, Any] | None:
    name = text(widths)
    judged = {p: results.get(f"judge/{p}/{name}") for p in PROXIES if p not in ("macs", "params")}
    trained = _trainings(results, "scratch", widths)
    if not trained or any(value is None for value in judged.values()):
        return None
    scores = {p: value["score"] for p, value in judged.items() if value is not None}
    facts = {key: trained[0][key] for key in ("macs", "params")}
    accuracies = {key: [value[key] for value in trained] for key in ("val", "test")}
    if None in accuracies["test"]:
        accuracies["test"] = accuracies["val"]
    return {"widths": list(widths), **scores, **facts, **accuracies}


def _trainings(results: Results, kind: str, widths: Sequence[int]) -> list[Mapping[str, Any]]:
    prefix = f"{kind}/{text(tuple(widths))}/"
    found = {int(key.removeprefix(prefix)): value for key, value in results.items() if key.startswith(prefix)}
    return [found[seed] for seed in sorted(found)]


def ceiling(accuracies: Sequence[Sequence[float]], draws: int = 1000) -> dict[str, float] | None:
    """The tau that a proxy would have that knew the true accuracies, given the noise of the trainings.

    The noise comes from the networks that were trained more than once; the true accuracies are taken to be the
    measured means, drawn together so that their variance is what is left without the noise. None without repetitions,
    or where the noise is all there is.
    """
    again = [values for values in accuracies if len(values) > 1]
    if not again:
        return None
    noise = fmean(float(np.var(values, ddof=1)) for values in again)
    means = np.array([fmean(values) for values in accuracies])
    each = np.sqrt([noise / len(values) for values in accuracies])
    whole = float(np.var(means, ddof=1))
    share = max(0.0, 1 - float(np.mean(each**2)) / whole) if whole else 0.0
    true = means.mean() + math.sqrt(share) * (means - means.mean())
    noises = np.random.default_rng(0).normal(size=(draws, len(means)))
    tau = 0.0 if share == 0 else fmean(kendall(true, true + each * draw) for draw in noises)
    return {"kendall": tau, "deviation": math.sqrt(noise), "repeated": len(again)}


def _result(results: Results) -> list[dict[str, Any]]:
    """One row per network; ``fnnp, fine-tuned`` is, for each seed, the finalist with the better validation accuracy."""
    drawn = _networks(results, "result")
    if drawn is None:
        return []
    rows = []
    for name in NETWORKS:
        widths = drawn["networks"][name]
        trained = [v for s in drawn["seeds"] if (v := results.get(f"scratch/{text(widths)}/{s}")) is not None]
        rows += [_row(name, trained)] if trained else []
    finalists = results.get("fnnp", {}).get("finalists", [])
    tuned = []
    for seed in drawn["seeds"]:
        found = [v for w in finalists if (v := results.get(f"finetune/{text(w)}/{seed}")) is not None]
        tuned += [max(found, key=lambda value: value["val"])] if len(found) == len(finalists) and found else []
    rows += [_row("fnnp, fine-tuned", tuned)] if tuned else []
    uniform = next((row["test"] for row in rows if row["name"] == "uniform"), None)
    for row in rows:
        row["gain"] = _gain(row["test"], uniform)
    return rows


def _row(name: str, values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    tests = [v["val"] if v["test"] is None else v["test"] for v in values]
    facts = {key: values[0][key] for key in ("macs", "params")}
    return {"name": name, "val": [v["val"] for v in values], "test": tests, **facts}


def _gain(test: Sequence[float], base: Sequence[float] | None) -> tuple[float, float] | None:
    """The difference of the means, and half of its 95 % interval (Welch)."""
    if base is None or test is base or min(len(test), len(base)) < 2:
        return None
    parts = [stdev(v) ** 2 / len(v) for v in (test, base)]
    if sum(parts) == 0:
        return fmean(test) - fmean(base), 0.0
    freedom = sum(parts) ** 2 / sum(p**2 / (len(v) - 1) for p, v in zip(parts, (test, base), strict=True))
    return fmean(test) - fmean(base), float(scipy.stats.t.ppf(0.975, freedom) * math.sqrt(sum(parts)))


def _division(results: Results) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for key, value in results.items():
        if key.startswith("division/"):
            _, how, seed = key.split("/")
            found.setdefault(how, []).append({**value, "seed": int(seed)})
    return {how: sorted(found[how], key=lambda row: row["seed"]) for how in sorted(found, reverse=True)}


def _expectation(results: Results) -> list[dict[str, Any]]:
    rows = []
    for key, value in results.items():
        if key.startswith("expect/"):
            _, model, candidates, epochs = key.split("/")
            facts = {"model": model, "candidates": int(candidates), "epochs": int(epochs)}
            rows.append({**facts, "own": value["own"], "common": value["common"]})
    return sorted(rows, key=lambda row: (row["model"], row["epochs"], row["candidates"]))


def _teachers(results: Results) -> list[dict[str, Any]]:
    drawn = _networks(results, "teachers")
    if drawn is None:
        return []
    rows = []
    for variant in drawn["networks"]:
        widths = drawn["networks"][variant]
        trained = [v for s in drawn["seeds"] if (v := results.get(f"scratch/{text(widths)}/{s}")) is not None]
        if trained:
            val = results.get(f"train/stagewise-{variant}", {}).get("val")
            rows.append({**_row(variant, trained), "supernet": val, "widths": list(widths)})
    return rows
