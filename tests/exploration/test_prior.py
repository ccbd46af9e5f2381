"""Where the probabilities start."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from exploration_toys import additive
from torch import Tensor

from widthwise import Budget, ChannelGraph, CostModel, WidthSpace, build_model, trace
from widthwise.cost import Limits
from widthwise.errors import CorruptRun
from widthwise.exploration import ExplorationEstimation, best_widths, by_rank
from widthwise.exploration.evaluate import Draw
from widthwise.runs import Journal
from widthwise.search import Evolution


@pytest.fixture
def importance() -> Tensor:
    return torch.tensor([0.2, 3.0, 0.1, 3.0, 7.0], dtype=torch.float64)


def test_log_odds_rise_evenly_with_the_rank(importance: Tensor) -> None:
    odds = torch.logit(by_rank(additive(5, 0).space.graph, importance, 2.0))
    torch.testing.assert_close(odds, torch.tensor([-0.8, 0.0, -1.6, 0.8, 1.6], dtype=torch.float64))


def test_without_a_spread_all_are_alike(importance: Tensor) -> None:
    assert bool((by_rank(additive(5, 0).space.graph, importance, 0.0) == 0.5).all())


def test_the_search_starts_at_the_budget_in_the_order_of_the_importance() -> None:
    graph = trace(build_model("resnet20"), torch.zeros(1, 3, 32, 32))
    space, cost = WidthSpace().of(graph), CostModel(graph)
    limits, importance = Budget(macs=0.5).on(cost, space), graph.importance("l1")
    start = by_rank(graph, importance, 2.0)
    searcher = ExplorationEstimation(space, limits, start=start)
    assert float(searcher.budget.used(searcher.p)) == pytest.approx(1, rel=1e-3)
    for group in graph.prunable:
        by_p, by_importance = (values[group.ids].argsort(stable=True) for values in (searcher.p, importance))
        assert torch.equal(by_p, by_importance)
    small = searcher.found()
    assert 0.97 < float(limits.used(graph.widths(small)[None])[0]) <= 1
    for group in graph.prunable:  # before any loss is known, the largest filters stay
        kept = small.keep[group.ids]
        assert float(importance[group.ids][kept].min()) >= float(importance[group.ids][~kept].max())


def test_samples_have_the_widths_on_average() -> None:
    graph = trace(build_model("resnet20"), torch.zeros(1, 3, 32, 32))
    importance, generator = graph.importance("l1"), torch.Generator().manual_seed(0)
    widths = (torch.rand(len(graph.prunable), generator=generator) * graph.full_widths).long() + 1
    widths[0] = graph.full_widths[0]
    p = by_rank(graph, importance, 1.0, widths)
    for group, kept in zip(graph.prunable, widths.tolist(), strict=True):
        assert float(p[group.ids].sum()) == pytest.approx(kept, rel=1e-9)
        if kept < group.width:  # of a whole group all are 1, nearly
            odds = torch.logit(p[group.ids])
            assert torch.equal(odds.argsort(stable=True), importance[group.ids].argsort(stable=True))
            assert float(odds.max() - odds.min()) == pytest.approx(2 * (1 - 1 / group.width), rel=1e-6)


class Judge:
    """A loss that is known: how far widths are from the ones to be found, noisy by batch; counts what it computes."""

    def __init__(self, graph: ChannelGraph, wanted: Tensor) -> None:
        self.graph, self.wanted, self.seen = graph, wanted, list[Draw]()

    def loss(self, keep: Tensor) -> float:
        kept = torch.stack([keep[group.ids].double().mean() for group in self.graph.prunable])
        return float((kept - self.wanted).square().sum())

    def __call__(self, draws: list[Draw]) -> Iterator[tuple[int, list[tuple[float, float]]]]:
        self.seen += draws
        for place, (_, batch, keeps) in reversed(list(enumerate(draws))):
            yield place, [(self.loss(keep) + (0.1 if batch else -0.1), 0.5) for keep in keeps]


@pytest.fixture(scope="module")
def small() -> tuple[ChannelGraph, Limits]:
    graph = trace(build_model("digits_net"), torch.zeros(1, 1, 8, 8))
    return graph, Budget(macs=0.4).on(CostModel(graph), WidthSpace().of(graph))


def tried(small: tuple[ChannelGraph, Limits], log: Journal, judge: Judge, workers: int = 1) -> Tensor:
    graph, limits = small
    return best_widths(
        Evolution(WidthSpace().of(graph), limits, seed=0),
        judge,
        graph,
        graph.importance("l1"),
        log,
        candidates=90,
        batches=2,
        workers=workers,
    )


def test_the_widths_with_the_smallest_mean_loss_are_found(small: tuple[ChannelGraph, Limits], tmp_path: Path) -> None:
    graph, limits = small
    judge = Judge(graph, torch.tensor([0.9, 0.2, 0.8, 0.5]))
    with Journal.open(tmp_path / "log.jsonl") as log:
        best = tried(small, log, judge)
        losses = [loss for event in log.events if event["event"] == "widths" for loss in event["losses"]]
    assert bool(limits.met(best[None])[0])
    importance = graph.importance("l1")
    assert judge.loss(graph.top(importance, best).keep) == pytest.approx(min(losses), abs=1e-6)
    assert min(losses) < 0.5 * losses[0]  # uniform width comes first
    assert len(losses) == 90
    assert sum(len(keeps) for _, _, keeps in judge.seen) == 2 * 90
    assert {(epoch, batch) for epoch, batch, _ in judge.seen} == {(0, 0), (0, 1)}


def test_workers_and_kills_do_not_change_the_widths(small: tuple[ChannelGraph, Limits], tmp_path: Path) -> None:
    wanted = torch.tensor([0.9, 0.2, 0.8, 0.5])
    with Journal.open(tmp_path / "a.jsonl") as log:
        best = tried(small, log, Judge(small[0], wanted))
    lines = (tmp_path / "a.jsonl").read_text().splitlines(keepends=True)
    for keep, workers in ((1, 3), (3, 2), (len(lines), 1)):
        (tmp_path / "b.jsonl").write_text("".join(lines[:keep]))
        judge = Judge(small[0], wanted)
        with Journal.open(tmp_path / "b.jsonl") as log:
            assert torch.equal(tried(small, log, judge, workers), best)
        left = sum(len(json.loads(line)["losses"]) for line in lines[keep:])
        assert sum(len(keeps) for _, _, keeps in judge.seen) == 2 * left
        assert (tmp_path / "b.jsonl").read_text().splitlines(keepends=True) == lines


def test_the_log_of_other_widths_is_refused(small: tuple[ChannelGraph, Limits], tmp_path: Path) -> None:
    with Journal.open(tmp_path / "a.jsonl") as log:
        log.append({"event": "widths", "first": 0, "digest": 1, "losses": [1.0] * 20})
        with pytest.raises(CorruptRun, match="new folder"):
            tried(small, log, Judge(small[0], torch.ones(4)))
