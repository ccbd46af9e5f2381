"""From the journal of the FNNP experiment to plain data: what the page shows, and what a test can check."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate
from math import isfinite
from statistics import fmean, stdev
from typing import Any

from benchmarks.experiments import results_of
from benchmarks.fnnp.parts import SEARCHES
from widthwise.evaluate import correlation

__all__ = ["EVALUATORS", "summarise"]

EVALUATORS = ("global_bn", "adaptive_bn", "short_training")
"""The quick judgements, in the paper's order."""

Events = Sequence[Mapping[str, Any]]


def summarise(events: Events, rate: float) -> dict[str, Any]:
    """Everything found out so far as JSON data; parts that have not run are empty.

    Args:
        events: of the journal.
        rate: R of evolution, and of the random search beside it.
    """
    results = results_of(events)
    trials: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("event") == "trial":
            trials[event["part"]].append(float(event["score"]))
    uniform = results.get("uniform", {}).get("score")
    searches = _searches(trials)
    if uniform is None and searches:
        uniform = next(iter(searches.values()))[0]["scores"][0]
    return {
        "uniform": uniform,
        "rates": _rates(trials, results, uniform),
        "rate": rate,
        "searches": searches,
        "iterations": _iterations(results),
        "correlation": _correlation(results),
        "final": _final(results),
    }


def _searches(trials: Mapping[str, list[float]]) -> dict[str, list[dict[str, Any]]]:
    """By name what each seed found: the scores in order, and the best of them so far."""
    found: dict[str, list[dict[str, Any]]] = {}
    for part, scores in trials.items():
        name, _, seed = part.partition("/")
        if name in SEARCHES and scores:
            row = {"seed": int(seed), "scores": scores, "best": list(accumulate(scores, max))}
            found.setdefault(name, []).append(row)
    return found


def _rates(
    trials: Mapping[str, list[float]], results: Mapping[str, Any], uniform: float | None
) -> list[dict[str, Any]]:
    rows = []
    for part, scores in trials.items():
        if part.startswith("rates/") and scores:
            above = None if uniform is None else fmean(score > uniform for score in scores)
            rows.append({"max_rate": float(part[6:]), "scores": scores, "above_uniform": above, "reason": None})
    for key, value in results.items():
        if key.startswith("infeasible/"):
            rate = float(key.removeprefix("infeasible/"))
            rows.append({"max_rate": rate, "scores": [], "above_uniform": None, "reason": value["reason"]})
    return sorted(rows, key=lambda row: row["max_rate"])


def _iterations(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Calibration images (0: none, the full network's statistics) and the accuracies with them."""
    found: dict[int, list[float]] = defaultdict(list)
    for key, value in results.items():
        if key.startswith("iterations/"):
            found[int(key.split("/")[1])].append(value["accuracy"])
    return [{"images": images, "accuracies": found[images]} for images in sorted(found)]


def _correlation(results: Mapping[str, Any]) -> dict[str, Any]:
    models: dict[str, dict[str, Any]] = {}
    for key, value in results.items():
        if key.startswith("correlation/"):
            _, name, judged = key.split("/")
            models.setdefault(name, {"name": name})[judged] = value["accuracy"]
    whole = [m for m in models.values() if all(key in m for key in (*EVALUATORS, "finetuned"))]
    figures = {}
    if len(whole) >= 2:
        tuned = [m["finetuned"] for m in whole]
        for evaluator in EVALUATORS:
            agreement = asdict(correlation([m[evaluator] for m in whole], tuned))
            figures[evaluator] = {k: _finite(v) for k, v in agreement.items() if isinstance(v, dict)}
    return {"models": whole, "figures": figures}


def _final(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per network, one figure per seed; ``fnnp`` is the finalist with the better validation accuracy."""
    by_seed: dict[int, dict[str, dict[str, Any]]] = defaultdict(dict)
    for key, value in results.items():
        if key.startswith("final/"):
            _, seed, name = key.split("/")
            by_seed[int(seed)][name] = value
    for networks in by_seed.values():
        finalists = [value for name, value in networks.items() if name.startswith("fnnp-")]
        if finalists:
            networks["fnnp"] = max(finalists, key=lambda value: value["val"])
    names = dict.fromkeys(name for networks in by_seed.values() for name in networks)
    return [_final_row(name, [n[name] for _, n in sorted(by_seed.items()) if name in n]) for name in names]


def _final_row(name: str, values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    tests = [v["test"] for v in values if v["test"] is not None]
    return {
        "name": name,
        "val": [v["val"] for v in values],
        "test": tests,
        "test_mean": fmean(tests) if tests else None,
        "test_std": stdev(tests) if len(tests) > 1 else None,
        "macs": values[0]["macs"],
        "params": values[0]["params"],
    }


def _finite(estimate: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {key: value if isfinite(value) else None for key, value in estimate.items()}
