"""The parts of the experiment: which results each consists of."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from benchmarks.clock import PassClock
from benchmarks.experiments import Value
from benchmarks.exploration.arms import ABLATIONS, ARMS, Arm, Bench
from widthwise.data import at_most
from widthwise.exploration import batches_per_epoch
from widthwise.runs import Journal

__all__ = ["PARTS", "SWAPS"]

SWAPS = ("exploration's widths, L1's channels", "FNNP's widths, exploration's channels")
"""Runs that take the widths of one choice and the channels of another."""


def result(bench: Bench) -> None:
    """The method beside a random search of the same cost, FNNP, and L1 at uniform width."""
    bench.records.once("groups", lambda: {"widths": {group.name: group.width for group in bench.graph.prunable}})
    for seed in bench.settings.seeds:
        for budget in bench.settings.budgets:
            _chosen(bench, ARMS, budget, seed)


def ablation(bench: Bench) -> None:
    """Without exploration and with less of it (table 3), with global statistics, without the surrogate."""
    for seed in bench.settings.seeds:
        _chosen(bench, ABLATIONS, bench.settings.budgets[0], seed)


def swapped(bench: Bench) -> None:
    """Its widths with L1's channels, and FNNP's widths with its channels: do widths or channels make the difference?

    Needs the results and the logs of `result`.
    """
    budget = bench.settings.budgets[0]
    for seed in bench.settings.seeds:
        mine, theirs = (
            bench.graph.widths(bench.subnet(bench.records.results[f"found/{name}/{budget}/{seed}"]["kept"]))
            for name in ("exploration", "FNNP")
        )
        arms = (
            _top(bench.graph.importance("l1"), mine),
            _top(bench.probabilities("exploration", budget, seed), theirs),
        )
        _chosen(bench, dict(zip(SWAPS, arms, strict=True)), budget, seed)


def _top(scores: Tensor, widths: Tensor) -> Arm:
    return lambda _bench, _seed: lambda task: task.graph.top(scores, widths)


def _chosen(bench: Bench, arms: Mapping[str, Arm], budget: float, seed: int) -> None:
    for name, arm in arms.items():
        key = f"{name}/{budget}/{seed}"
        found = bench.records.once(
            f"found/{key}",
            lambda n=name, a=arm: bench.found(n, budget, seed, a(bench, seed)),  # type: ignore[misc]
        )
        bench.records.once(
            f"tuned/{key}",
            lambda k=key, f=found: bench.tuned(bench.subnet(f["kept"]), k, seed),  # type: ignore[misc]
        )


def cost(bench: Bench) -> None:
    """Evaluations per second, and the share of the time in forward passes; run nothing beside it."""

    def measured() -> Value:
        method = replace(bench.settings.method, epochs=1)
        path = bench.out / "searches" / f"cost-{len(bench.records.journal.events)}.jsonl"
        with Journal.open(path) as log:
            task = bench.task(bench.settings.budgets[-1], log)
            with PassClock() as clock:
                method.search(task)
            batches = batches_per_epoch(at_most(bench.data.train, method.images, method.seed), method.batch)
            sizes = {"samples": 1, "widths": min(method.candidate_batches, batches)}
            samples = sum(sizes[e["event"]] * len(e["losses"]) for e in log.events if e["event"] in sizes)
        return {"outside": clock.outside, "forward": clock.forward, "seconds": clock.whole, "samples": samples}

    bench.records.once("cost", measured)


PARTS: dict[str, Callable[[Bench], None]] = {"cost": cost, "result": result, "swapped": swapped, "ablation": ablation}
"""In the order of what they are worth."""
