"""Every whole network that a search scored: what it costs, how it scored, and what became of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np

from widthwise.methods import RunRecord
from widthwise.search.division.pareto import undominated

__all__ = ["Candidate", "Candidates", "candidates_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One scored network."""

    index: int
    """Its place in the search, from 0."""
    widths: tuple[int, ...]
    score: float
    """In percent where the score is an accuracy; higher is better."""
    macs: int | None = None
    params: int | None = None
    finalist: int | None = None
    """Its place among those that were trained to the end, from 1."""
    trained: float | None = None
    """Validation accuracy in percent after that training."""
    chosen: bool = False
    """Whether it is the network that the run ended with."""
    front: bool = False
    """Whether no other one costs no more and scores no less."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """The candidates of a search, in its order."""

    items: tuple[Candidate, ...]
    score: str
    """What the score is, in words."""
    percent: bool
    """Whether the score is an accuracy in percent."""
    noun: str
    """What one of them is called: ``candidate`` or ``round``."""
    metric: str | None
    """The cost that differs most between them (``macs`` or ``params``): that of the front; None without costs."""
    full: Mapping[str, int]
    """The cost of the full network by metric, where it is known."""
    limits: Mapping[str, float]
    """The budget by metric: absolute where the full cost is known or the budget is absolute."""

    @property
    def best(self) -> tuple[float, ...]:
        """The best score so far, after each of them."""
        return tuple(accumulate((c.score for c in self.items), max))

    @property
    def chosen(self) -> Candidate | None:
        """The network that the run ended with; None before the end."""
        return next((c for c in self.items if c.chosen), None)

    @property
    def finalists(self) -> tuple[Candidate, ...]:
        """Those that were trained to the end, best score first."""
        some = [c for c in self.items if c.finalist is not None]
        return tuple(sorted(some, key=lambda c: c.finalist or 0))

    def cost(self, candidate: Candidate) -> int | None:
        """What one costs by the metric that the front is about."""
        return {"macs": candidate.macs, "params": candidate.params}.get(self.metric or "")


SCORES = {
    "adaptive_bn": "validation accuracy with adaptive batch norm",
    "global_bn": "validation accuracy with the full network's batch norm",
    "short_training": "validation accuracy after a short training",
}
"""What FNNP judges by."""

CHAINED = "minus the chained loss"
"""What stage-wise pruning judges whole networks by: the loss of the last stage, each stage fed by the one before."""

ROUND = "validation accuracy after its round"


def candidates_of(run: RunRecord) -> Candidates | None:
    """The candidates of a run; None where its method does not score whole networks one by one."""
    rounds = run.of("round")
    found = [_from_round(event) for event in rounds] if rounds else _from_trials(run)
    if not found:
        return None
    method = run.config.get("method", {})
    evaluator = SCORES.get(method.get("evaluator", ""))
    percent = bool(rounds) or evaluator is not None
    found = [replace(c, score=100 * c.score) if percent else c for c in found]
    found = _marked(run, found)
    metric = _metric(found)
    return Candidates(
        items=tuple(_with_front(found, metric)),
        score=ROUND if rounds else evaluator or (CHAINED if method.get("chained") else "score"),
        percent=percent,
        noun="round" if rounds else "candidate",
        metric=metric,
        full=_full(run),
        limits=_limits(run),
    )


def _from_round(event: Mapping[str, Any]) -> Candidate:
    return Candidate(
        index=event["index"],
        widths=tuple(event["widths"]),
        score=event["accuracy"],
        macs=event["macs"],
        params=event["params"],
    )


def _from_trials(run: RunRecord) -> list[Candidate]:
    """From the journal; what they cost stands in the result of a finished run."""
    costs = {trial["index"]: trial for trial in (run.result or {}).get("trials", [])}
    return [
        Candidate(
            index=event["index"],
            widths=tuple(event["widths"]),
            score=event["score"],
            macs=costs.get(event["index"], {}).get("macs"),
            params=costs.get(event["index"], {}).get("params"),
        )
        for event in run.of("trial")
    ]


def _marked(run: RunRecord, found: list[Candidate]) -> list[Candidate]:
    """With the finalists, how they were trained, and the choice: what has the widths of the result."""
    finalists = int(run.config.get("method", {}).get("finalists", 1)) if "finetune" in run.seconds else 0
    different: dict[tuple[int, ...], Candidate] = {}
    for candidate in sorted(found, key=lambda c: (-c.score, c.index)):
        different.setdefault(candidate.widths, candidate)
    place = {c.index: number for number, c in enumerate(list(different.values())[:finalists], 1)}
    kept = tuple(group["kept"] for group in (run.result or {}).get("groups", []))
    marked = []
    for candidate in found:
        number = place.get(candidate.index)
        history = run.trainings.get(f"finalist-{number}")
        reached = None if history is None else history.val_accuracy
        trained = None if reached is None else 100 * reached
        chosen = number is not None and candidate.widths == kept
        marked.append(replace(candidate, finalist=number, trained=trained, chosen=chosen))
    return marked


def _metric(found: Iterable[Candidate]) -> str | None:
    """The cost whose largest value is farthest above its smallest one."""
    costs = {"macs": [c.macs for c in found], "params": [c.params for c in found]}
    known = {name: [v for v in values if v is not None] for name, values in costs.items() if None not in values}
    return max(known, key=lambda name: max(known[name]) / max(1, min(known[name])), default=None)


def _with_front(found: list[Candidate], metric: str | None) -> list[Candidate]:
    if metric is None:
        return found
    costs = np.array([[c.macs if metric == "macs" else c.params] for c in found], dtype=np.int64)
    losses = np.array([-c.score for c in found], dtype=np.float64)
    front = set(undominated(np.zeros(len(found), dtype=np.int64), losses, costs).tolist())
    return [replace(c, front=place in front) for place, c in enumerate(found)]


def _full(run: RunRecord) -> dict[str, int]:
    before = (run.result or {}).get("before", {})
    return {name: before[name] for name in ("macs", "params") if name in before}


def _limits(run: RunRecord) -> dict[str, float]:
    budget, full = run.config.get("budget") or {}, _full(run)
    given = {name: budget.get(name) for name in ("macs", "params")}
    return {
        name: value if value > 1 else value * full[name]
        for name, value in given.items()
        if value is not None and (value > 1 or name in full)
    }
