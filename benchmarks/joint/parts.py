"""The parts of the experiment: which results each consists of."""

from collections.abc import Callable
from dataclasses import replace
from statistics import fmean

import torch

from benchmarks.clock import PassClock
from benchmarks.experiments import Value, fresh_network
from benchmarks.joint.arms import ARMS, LITERAL, Bench
from benchmarks.joint.weights import VARIANTS, filter_weights
from widthwise import CostModel, WidthSpace, trace
from widthwise.joint import THRESHOLDS, FilterWeights, MassSampler
from widthwise.train import TrainConfig

__all__ = ["PARTS", "UNIFORM"]

UNIFORM = "uniform, same time"
"""Comes last for each seed, because its time is that of the joint runs so far."""

LONGER = {"joint": "joint", "full, then FNNP": "fnnp"}
"""Runs whose networks are trained on, and their folders."""


def result(bench: Bench) -> None:
    """The method beside its ablations and what one would do instead."""
    for seed in bench.settings.seeds:
        for name, run in ARMS.items():
            bench.records.once(f"{name}/{seed}", lambda run=run, seed=seed: run(bench, seed))  # type: ignore[misc]
        epochs = bench.records.once(f"epochs/{seed}", lambda: _epochs(bench))["epochs"]
        bench.records.once(f"{UNIFORM}/{seed}", lambda s=seed, e=epochs: bench.uniform(s, e))  # type: ignore[misc]
    for seed in bench.settings.literal_seeds:
        for name, run in LITERAL.items():
            bench.records.once(f"{name}/{seed}", lambda run=run, seed=seed: run(bench, seed))  # type: ignore[misc]


def longer(bench: Bench) -> None:
    """The final networks of `result`, trained on alike: does a longer training close the gaps between them?"""
    for seed in bench.settings.longer_seeds:
        for name, folder in LONGER.items():
            bench.records.once(
                f"longer/{name}/{seed}",
                lambda f=folder, s=seed: bench.longer(bench.delivered(f, s), f, s),  # type: ignore[misc]
            )
        epochs = bench.records.results[f"{UNIFORM}/{seed}"]["epochs"]
        bench.records.once(
            f"longer/{UNIFORM}/{seed}",
            lambda s=seed, e=epochs: bench.longer(bench.uniform_network(s, e), "uniform", s),  # type: ignore[misc]
        )


def _epochs(bench: Bench) -> Value:
    """As many as take the time of the joint runs so far."""
    runs = [value for key, value in bench.records.results.items() if key.startswith("joint/")]
    whole = [value["seconds"] for value in runs if not value["cut"]] or [value["seconds"] for value in runs]
    each = bench.seconds_per_epoch()
    return {"epochs": max(1, round(fmean(whole) / each)), "of": each}


def noise(bench: Bench) -> None:
    """What random thresholds and noise of some scale keep of a network, with weights as they are drawn."""
    for name in bench.settings.noise_networks:
        for scale in bench.settings.noise_scales:
            bench.records.once(f"noise/{name}/{scale}", lambda n=name, s=scale: _kept(bench, n, s))  # type: ignore[misc]


def _kept(bench: Bench, name: str, scale: float) -> Value:
    graph = trace(fresh_network(name, bench.data, 0), bench.data.example())
    cost, sampler = CostModel(graph), MassSampler(WidthSpace().of(graph), noise=scale)
    alpha = FilterWeights(graph, seed=0).alpha
    chosen = torch.randint(
        len(THRESHOLDS), (bench.settings.noise_draws, len(graph.prunable)), generator=torch.Generator().manual_seed(0)
    )
    draws = [sampler.draw(alpha, torch.tensor(THRESHOLDS).double()[row], seed) for seed, row in enumerate(chosen)]
    shares = [cost.macs(draw.subnet) / cost.full["macs"] for draw in draws]
    return {"mean": fmean(shares), "low": min(shares), "high": max(shares)}


def weights(bench: Bench) -> None:
    """alpha's gradient, its spread, and whether it tells which channels matter, for both placements and lambdas."""
    for seed in bench.settings.weights_seeds:
        for name in VARIANTS:
            bench.records.once(f"weights/{name}/{seed}", lambda n=name, s=seed: filter_weights(bench, n, s))  # type: ignore[misc]


def share(bench: Bench) -> None:
    """The share of a run outside forward and backward passes; run nothing beside it."""

    def measured() -> Value:
        def brief(config: TrainConfig) -> TrainConfig:
            return replace(config, epochs=1)

        base = bench.settings.joint
        rounds = replace(base.rounds, rounds=2, network=brief(base.rounds.network), weights=brief(base.rounds.weights))
        method = replace(base, coarse=brief(base.coarse), rounds=rounds)
        short = replace(bench, settings=replace(bench.settings, finetune=brief(bench.settings.finetune)))
        with PassClock() as clock:
            short.compressed(f"share-{len(bench.records.journal.events)}", method, 0)
        return {"outside": clock.outside, "forward": clock.forward, "backward": clock.backward, "seconds": clock.whole}

    bench.records.once("share", measured)


PARTS: dict[str, Callable[[Bench], None]] = {
    "share": share,
    "noise": noise,
    "weights": weights,
    "result": result,
    "longer": longer,
}
"""The short ones first; `longer` goes on from the runs of `result`."""
