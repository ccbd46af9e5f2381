"""What docs/joint.md predicts, and the paper's claims, against what was measured."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.joint.parts import UNIFORM
from benchmarks.joint.weights import VARIANTS
from benchmarks.report import Check

__all__ = ["checks_of"]

Value = Mapping[str, Any]
Arms = Mapping[str, Sequence[Value]]


def checks_of(arms: Arms, results: Mapping[str, Value]) -> list[Check]:
    """The checks of the parts that have results."""
    return [*_against(arms), *_longer(results), *_rounds(arms), *_weights(results), *_share(results)]


def _against(arms: Arms) -> list[Check]:
    """The mean gap in points must lie between the two figures."""
    predicted = {
        "full, then FNNP": ("joint is at most 0.5 points below training the full network, then FNNP", -0.5, 100),
        "fixed rate": ("flexible thresholds beat the fixed rate, by less than a point", 0, 1),
        "no noise": ("without noise it is as good, within half a point", -0.5, 0.5),
        "noise of scale 1": ("noise of scale 1 is worse", 0, 100),
        "lambda 0.1": ("with the paper's lambda it is as good, within half a point", -0.5, 0.5),
        "weights on filters": ("weights on the filters are as good, within half a point", -0.5, 0.5),
    }
    checks = []
    for other, (text, low, high) in predicted.items():
        there = {value["seed"]: value for value in arms.get(other, [])}
        pairs = [(mine, there[mine["seed"]]) for mine in arms.get("joint", []) if mine["seed"] in there]
        if pairs:
            gaps = [100 * (mine["test"] - theirs["test"]) for mine, theirs in pairs]
            said = f"{fmean(gaps):+.2f} points ({', '.join(f'{gap:+.2f}' for gap in gaps)})"
            checks.append(Check(text, said, low <= fmean(gaps) <= high))
    return checks


def _longer(results: Mapping[str, Value]) -> list[Check]:
    """The mean gap in points after further training, below the limit."""
    checks = []
    for other, limit in (("full, then FNNP", 1.0), (UNIFORM, 2.0)):
        seeds = [key.rpartition("/")[2] for key in results if key.startswith("longer/joint/")]
        pairs = [[results.get(f"longer/{name}/{seed}") for name in ("joint", other)] for seed in seeds]
        gaps = [100 * (theirs["after"] - mine["after"]) for mine, theirs in pairs if mine and theirs]
        if gaps:
            said = f"{fmean(gaps):+.2f} points ({', '.join(f'{gap:+.2f}' for gap in gaps)})"
            text = f"after further training `{other}` is at most {limit:g} points above joint"
            checks.append(Check(text, said, fmean(gaps) <= limit))
    return checks


def _rounds(arms: Arms) -> list[Check]:
    """Time, and where the best network appears."""
    checks, joint, full = [], arms.get("joint", []), arms.get("full, then FNNP", [])
    if joint and full:
        mine, theirs = (fmean(value["seconds"] for value in values) for values in (joint, full))
        text = "joint takes less time than training the full network, then FNNP"
        checks.append(Check(text, f"{mine / theirs:.2f} of the time", mine < theirs))
        training = fmean(v["seconds"] * v["phases"]["train"] / sum(v["phases"].values()) for v in full)
        text = "joint takes about as long as training the full network alone (the paper): at most 1.5 times as long"
        checks.append(Check(text, f"{mine / training:.2f} times", mine <= 1.5 * training))
    runs = [value["rounds"] for value in joint if value["rounds"]]
    if runs:
        best = [max(range(len(rounds)), key=lambda i, r=rounds: r[i]["accuracy"]) + 1 for rounds in runs]  # type: ignore[misc]
        text = "the best sub-network appears in the middle of the search (the paper, figure 4), not in the last fifth"
        said = ", ".join(f"round {place} of {len(rounds)}" for place, rounds in zip(best, runs, strict=True))
        held = all(place <= 0.8 * len(rounds) for place, rounds in zip(best, runs, strict=True))
        checks.append(Check(text, said, held))
    return checks


def _weights(results: Mapping[str, Value]) -> list[Check]:
    behind, on, literal = (results.get(f"weights/{name}/0") for name in VARIANTS)
    if behind is None or on is None or literal is None:
        return []
    gradients = [fmean(epoch["gradient"] for epoch in value["epochs"]) for value in (on, behind)]
    text = "on the filters, where batch norm takes them back, alpha's gradient is below a tenth of that behind the norm"
    checks = [Check(text, f"{gradients[0] / gradients[1]:.2g} of it", gradients[0] < 0.1 * gradients[1])]
    drawn, after = literal["norms"]
    text = "with the paper's lambda of 0.1 less than a hundredth of alpha is left after coarse training"
    checks.append(Check(text, f"{after / drawn:.2g} of its norm", after < 0.01 * drawn))
    for value, text, low, high in (
        (behind, "behind the norm alpha tells which channels matter: tau above 0.2", 0.2, 1),
        (on, "on the filters it does not: tau between -0.1 and 0.1", -0.1, 0.1),
    ):
        tau = value["taus"]["alpha"]["mean"]
        if tau is not None:
            checks.append(Check(text, f"{tau:.2f}", low <= tau <= high))
    return checks


def _share(results: Mapping[str, Value]) -> list[Check]:
    if "share" not in results:
        return []
    outside = results["share"]["outside"]
    text = "less than a tenth of a run lies outside forward and backward passes"
    return [Check(text, f"{outside:.1%}", outside < 0.1)]
