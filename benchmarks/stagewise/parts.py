"""The parts of the experiment but the cost of a step: which jobs they consist of."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice, repeat
from statistics import fmean
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from benchmarks.stagewise.bench import supernet_of
from benchmarks.stagewise.cost import cost
from benchmarks.stagewise.jobs import Expect, FineTune, Job, Judge, Key, Scratch, Train
from benchmarks.stagewise.lab import Lab
from benchmarks.stagewise.proxies import PROXIES
from widthwise.evaluate.devices import search_device
from widthwise.experiments.networks import different, evenly, random_networks
from widthwise.methods import FNNP
from widthwise.methods.stagewise import stage_problem
from widthwise.parallel import workers
from widthwise.runs import Journal
from widthwise.search import Division, StageLosses, divide, uniform_widths
from widthwise.search.division import How
from widthwise.supernet import FeatureLosses

__all__ = ["DIVISIONS", "PARTS", "fixed_networks", "mixed_networks", "network_names", "winner"]

DIVISIONS: tuple[How, ...] = ("knapsack", "evolution")

SUPERNETS = ("stagewise-inplace", "slimmable", "meta", "full")
"""In the order of the proxies that they serve."""


def ranking(lab: Lab) -> None:
    """Proxies of sub-networks, and their accuracy after training from scratch (the paper's figure 4)."""
    s = lab.settings
    mixed, fixed = mixed_networks(lab), fixed_networks(lab)
    drawn = {"mixed": list(map(list, mixed)), "fixed": list(map(list, fixed))}
    lab.records.once(f"networks/{len(mixed)}/{len(fixed)}", lambda: drawn)
    lab.run([Train(name) for name in SUPERNETS])
    lab.run([Judge(proxy, widths) for proxy in PROXIES for widths in (*mixed, *fixed)])
    first: list[Job] = [Scratch(widths, 0) for widths in (*fixed, *mixed)]
    again: list[Job] = [Scratch(widths, 1) for widths in (*fixed[: s.fixed_again], *mixed[: s.mixed_again])]
    lab.run([*first, *again])


def mixed_networks(lab: Lab) -> list[Key]:
    """Networks of many budgets, different from one another."""
    drawn = different(_drawn(lab, evenly(*lab.settings.range), lab.settings.seed))
    return list(map(_key, islice(drawn, lab.settings.mixed)))


def fixed_networks(lab: Lab) -> list[Key]:
    """Networks of the one budget, different from one another, the uniform one first."""
    uniform = torch.tensor(network_names(lab)["uniform"])
    drawn = different(chain([uniform], _drawn(lab, repeat(lab.settings.budget), lab.settings.seed + 1)))
    return list(map(_key, islice(drawn, lab.settings.fixed)))


def _drawn(lab: Lab, shares: Iterable[float], seed: int) -> Iterator[Tensor]:
    bench = lab.bench
    return random_networks(bench.task.cost, bench.space, shares, seed, lab.settings.spreads)


def network_names(lab: Lab) -> dict[str, Key]:
    """The networks that need no search."""
    task = lab.bench.task
    return {"full": _key(task.space.full), "uniform": _key(uniform_widths(lab.bench.space, task.limits))}


def result(lab: Lab) -> None:
    """At the budget: uniform width, FNNP's choice and stage-wise pruning's, beside the full network."""
    s = lab.settings
    lab.run([Train(name) for name in ("stagewise-inplace", "full")])
    names = {"inplace": "stagewise", "chained": "stagewise, chained"}
    winners = {name: winner(lab, variant) for variant, name in names.items()}
    networks = network_names(lab) | winners
    finalists = _fnnp(lab)
    tuned = iter(lab.run([FineTune(widths, seed) for widths in finalists for seed in s.seeds]))
    reached = {widths: fmean(next(tuned)["val"] for _ in s.seeds) for widths in finalists}
    networks["fnnp"] = max(finalists, key=lambda widths: reached[widths])
    found = {name: list(widths) for name, widths in networks.items()}
    lab.records.once(f"result/{len(found)}/{len(s.seeds)}", lambda: {"networks": found, "seeds": list(s.seeds)})
    lab.run([Scratch(widths, seed) for seed in s.seeds for widths in networks.values()])


def winner(lab: Lab, variant: str) -> Key:
    """The widths that the method finds with a super-net of this kind, which is trained already."""

    def search() -> dict[str, Any]:
        # With one log for both, no gene of a division is looked at again before networks are judged whole.
        with lab.searching(f"winner-{supernet_of(variant)}") as log:
            found = lab.bench.method(variant).search(lab.bench.stagewise_task(variant, log))
        return {"widths": found.trials[0].widths.tolist(), "score": found.trials[0].score}

    return tuple(lab.records.once(f"winner/{variant}", search)["widths"])


def _fnnp(lab: Lab) -> list[Key]:
    """FNNP's finalists on the trained full network, by its defaults but for the number of candidates."""

    def search() -> dict[str, Any]:
        s = lab.settings
        method = FNNP(candidates=s.fnnp_candidates, sensitivity_images=0, seed=s.seed, validation_images=s.judge_images)
        with lab.searching("fnnp") as log:
            found = method.search(replace(lab.bench.full_task, log=log))
        graph = lab.bench.full_task.graph
        return {"finalists": [graph.widths(subnet).tolist() for subnet in found.finalists]}

    return [tuple(widths) for widths in lab.records.once("fnnp", search)["finalists"]]


def division(lab: Lab) -> None:
    """The knapsack beside the paper's evolution, on the same super-net, with as many genes per stage."""
    lab.run([Train("stagewise-inplace")])
    for seed in lab.settings.division_seeds:
        for how in DIVISIONS:
            lab.records.once(f"division/{how}/{seed}", lambda h=how, s=seed: _divided(lab, h, s))  # type: ignore[misc]


def _divided(lab: Lab, how: How, seed: int) -> dict[str, Any]:
    """One search, and a second one over its log: that evaluates nothing, so its time is the search's own."""
    bench = lab.bench
    settings = replace(bench.method("inplace").division, how=how, seed=seed)
    objective = bench.stagewise("inplace")
    problem = stage_problem(bench.task, objective.stages, bench.space)
    stored = FeatureLosses(objective, bench.search_images, lab.settings.search_batch, search_device())
    with lab.searching(f"division-{how}-{seed}") as log:
        with workers(bench.parallel(), stored) as pool:
            list(
                pool.map([(0, problem.space.full)] * max(1, lab.settings.workers))
            )  # so that no clock sees their start
            found = divide(StageLosses(problem, pool.map, log), settings)
        start = perf_counter()
        divide(StageLosses(problem, _nothing, log), settings)
        own, evaluating = perf_counter() - start, _evaluating(log)
    return {
        **_facts(found),
        "macs": int(bench.task.cost.macs(found.widths[None])[0]),
        "evaluating": evaluating,
        "own": own,
        "seconds": evaluating + own,
    }


def _facts(found: Division) -> dict[str, Any]:
    return {"loss": found.loss, "losses": list(found.losses), "gap": found.gap, "genes": found.genes}


def _nothing(genes: list[tuple[int, Tensor]]) -> Iterator[tuple[int, float]]:
    raise AssertionError(f"all losses are in the log, but {len(genes)} were asked for")


def _evaluating(log: Journal) -> float:
    """Wall time of the evaluations, also of those before a kill."""
    return sum(float(event["seconds"]) for event in log.events if event["event"] == "stage_loss")


def expectation(lab: Lab) -> None:
    """E(a_super) against the widths per layer (the paper's figure 1); the long trainings first."""
    s = lab.settings
    models = s.depths or (s.model,)
    lengths = sorted(s.candidate_epochs)
    jobs = [(m, c, e) for e in lengths for m in models for c in s.candidates if e == lengths[0] or m == s.model]
    lab.run([Expect(*job) for job in sorted(jobs, key=lambda job: -job[2])])


def teachers(lab: Lab) -> None:
    """Winners with other teachers (the paper's table 3), and without the smallest sub-network."""
    s = lab.settings
    lab.run([Train(name) for name in ("stagewise-inplace", "full", "other-teacher")])
    lab.run([Train(f"stagewise-{variant}") for variant in ("pretrained", "other", "no-small")])
    found = {variant: winner(lab, variant) for variant in ("inplace", "pretrained", "other", "no-small")}
    networks = {variant: list(widths) for variant, widths in found.items()}
    lab.records.once(f"teachers/{len(s.teacher_seeds)}", lambda: {"networks": networks, "seeds": list(s.teacher_seeds)})
    lab.run([Scratch(widths, seed) for widths in found.values() for seed in s.teacher_seeds])


def _key(widths: Tensor) -> Key:
    return tuple(widths.tolist())


PARTS: dict[str, Callable[[Lab], None]] = {
    "cost": cost,
    "ranking": ranking,
    "result": result,
    "division": division,
    "expectation": expectation,
    "teachers": teachers,
}
"""In the order of what they are worth."""
