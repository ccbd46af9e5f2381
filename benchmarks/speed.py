"""How fast Widthwise traces, copies, judges and costs, side by side in one run with Torch-Pruning.

Prediction: tracing each of the three networks, proof included, takes less than 50 forward passes at batch 1.
Prediction: 100,000 strategies of ResNet-50 are costed in less than one second.
Prediction: judging a candidate spends at least 90 % of its wall time within the network's forward passes.

All networks have random weights; times do not depend on them.
"""

import copy
from collections.abc import Callable
from functools import partial
from time import perf_counter

import torch
from rich.console import Console
from torch import Tensor, nn

from benchmarks import peer
from benchmarks.candidates import candidates, forward_share
from benchmarks.measure import alternate, count_macs, forward_seconds, ready
from benchmarks.report import Check, ratio
from benchmarks.subjects import SpeedConfig, Subject, subject
from widthwise import Budget, CostModel, WidthSpace, materialize, trace
from widthwise.experiments import Table
from widthwise.search import draw_rates, project

__all__ = ["measure_all"]


def measure_all(config: SpeedConfig, console: Console) -> tuple[list[Table], list[Check]]:
    """Every measurement, in a few minutes; says what it is at."""
    steps: dict[str, Callable[[SpeedConfig, list[Subject]], tuple[Table, list[Check]]]] = {
        "tracing": tracing,
        "copies": copies,
        "candidates": candidates,
        "forward share": forward_share,
        "costs": costs,
        "draws": draws,
    }
    console.print("building and tracing the networks", highlight=False)
    subjects = [subject(name, config.image_size) for name in config.models]
    tables, checks = [], []
    for name, step in steps.items():
        console.print(f"measuring {name}", highlight=False)
        table, found = step(config, subjects)
        tables.append(table)
        checks += found
    return tables, checks


def tracing(config: SpeedConfig, subjects: list[Subject]) -> tuple[Table, list[Check]]:
    """Time to trace: ours with the proof, theirs as the graph alone and as a pruner ready to prune."""
    rows, checks = [], []
    for s in subjects:
        forward = forward_seconds(s.model, s.example, config.repeats)
        times = alternate(
            {
                "ours": ready(trace, s.model, s.example),
                "graph": ready(peer.build_graph, s.model, s.example),
                "pruner": ready(peer.build_pruner, s.model, s.example),
            },
            config.repeats,
        )
        ours, graph, pruner = (times[side] for side in ("ours", "graph", "pruner"))
        passes = ours.median / forward
        fast = (ratio(ours.median, graph.median), ratio(ours.median, pruner.median))
        rows.append((s.name, f"{forward * 1000:.0f} ms", str(ours), f"{passes:.0f}", str(graph), str(pruner), *fast))
        prediction = f"tracing {s.name} takes less than 50 forward passes"
        checks.append(Check(prediction, f"{passes:.0f} passes", passes < 50))
    columns = ("network", "forward pass", "Widthwise", "in passes", "its graph", "its pruner", "vs graph", "vs pruner")
    note = (
        f"Median (least to most) of {config.repeats} rounds at batch 1. `widthwise.trace` includes the proof: random "
        f"sub-networks are built, run and compared with the reference. {peer.NAME} builds its graph without one; its "
        "pruner also prepares the groups. Ratios above 1x mean that Widthwise is faster."
    )
    return Table("Time to trace", columns, tuple(rows), note), checks


def copies(config: SpeedConfig, subjects: list[Subject]) -> tuple[Table, list[Check]]:
    """Time to produce one pruned copy, half of every width, the largest filters by L1 norm."""
    rows = []
    for s in subjects:
        ranking = s.graph.importance("l1")
        times = alternate(
            {
                "whole": ready(_whole_copy, s),
                "ranked": ready(_ranked_copy, s, ranking),
                "theirs": ready(peer.pruned_copy, s.model, s.example),
                "step": partial(_their_step, s),
            },
            config.repeats,
        )
        full = count_macs(s.model, s.example)
        left = [
            count_macs(net, s.example) / full
            for net in (_ranked_copy(s, ranking), peer.pruned_copy(s.model, s.example))
        ]
        medians = {side: timing.median for side, timing in times.items()}
        rows.append(
            (
                s.name,
                *(str(times[side]) for side in ("whole", "ranked", "theirs", "step")),
                ratio(medians["whole"], medians["theirs"]),
                ratio(medians["ranked"], medians["step"]),
                f"{left[0]:.1%} / {left[1]:.1%}",
            )
        )
    columns = (
        "network",
        "ours",
        "ours, ranked",
        "theirs",
        "theirs, step alone",
        "ratio",
        "without set-up",
        "MACs left",
    )
    note = (
        f"`ours` ranks by L1 and materialises; `ranked` materialises with the ranking at hand, as a search does. "
        f"`theirs` is deepcopy, pruner and step of {peer.NAME}. Its pruner works in place and cannot be copied, so "
        "there is no second copy without building again; `step alone` leaves copy and building out of the clock, the "
        "most that could be saved. MACs left: ours / theirs, both counted by torch."
    )
    return Table("Time to produce one pruned copy at half the width", columns, tuple(rows), note), []


def _whole_copy(s: Subject) -> nn.Module:
    return materialize(s.model, s.graph, s.graph.subnet(widths=s.half))


def _ranked_copy(s: Subject, ranking: Tensor) -> nn.Module:
    return materialize(s.model, s.graph, s.graph.top(ranking, s.half))


def _their_step(s: Subject) -> Callable[[], object]:
    """A pruner on a fresh copy, ready to prune: all that a pruner which could be used again would save."""
    step: Callable[[], object] = peer.build_pruner(copy.deepcopy(s.model), s.example).step
    return step


def costs(config: SpeedConfig, subjects: list[Subject]) -> tuple[Table, list[Check]]:
    """Time to count the multiply-adds of a population of strategies."""
    s = subjects[0]
    cost = CostModel(s.graph)
    rates = torch.rand(config.strategies, len(s.graph.prunable), generator=torch.Generator().manual_seed(0))
    widths = (rates * s.graph.full_widths).long().clamp(min=1)
    times = alternate(
        {
            "macs": ready(cost.macs, widths),
            "params": ready(cost.params, widths),
            "estimate": ready(cost.estimate, "macs", widths),
        },
        config.repeats,
    )
    rows = tuple((n, str(t), f"{config.strategies / t.median:,.0f}") for n, t in times.items())
    note = (
        f"{config.strategies:,} strategies of {s.name} ({len(s.graph.prunable)} groups) at once; `estimate` is the "
        "float32 filter that `draw_rates` looks through first."
    )
    spent = times["macs"].median * 100_000 / config.strategies
    check = Check(f"100,000 strategies of {s.name} are costed in less than 1 s", f"{spent:.2f} s", spent < 1)
    return Table("Strategies costed", ("figure", "time", "per second"), rows, note), [check]


def draws(config: SpeedConfig, subjects: list[Subject]) -> tuple[Table, list[Check]]:
    """Random strategies drawn per second until 64 lie within 0.5 % below the budget."""
    s = subjects[0]
    space = WidthSpace().of(s.graph)
    cost, rows = CostModel(s.graph), []
    draw_rates(space, Budget(macs=0.5).on(cost, space), 0.7, 1, torch.Generator().manual_seed(1))  # warm up
    for budget, rate in ((0.5, 0.7), (0.5, 0.95), (0.25, 0.7)):
        limits = Budget(macs=budget).on(cost, space)
        start = perf_counter()
        found = draw_rates(space, limits, rate, 64, torch.Generator().manual_seed(0))
        spent = perf_counter() - start
        passed = len(found.widths) / found.drawn
        rows.append((f"{budget:.0%}", f"{rate}", f"{found.drawn:,}", f"{passed:.2g}", f"{found.drawn / spent:,.0f}"))
    columns = ("MACs left", "R", "drawn", "passed, at least", "drawn per second")
    scaled = alternate({"project": ready(project, space, limits, torch.rand(64, len(space.choices)) + 0.1)}, 1)
    note = (
        f"{s.name}. For comparison: scaling 64 arbitrary strategies onto the budget (`project`, what evolution does) "
        f"takes {scaled['project'].median:.2f} s."
    )
    return Table("Random strategies drawn", columns, tuple(rows), note), []
