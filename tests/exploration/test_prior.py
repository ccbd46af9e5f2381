"""Where the probabilities start."""

import pytest
import torch
from exploration_toys import additive
from torch import Tensor

from widthwise import Budget, CostModel, WidthSpace, build_model, trace
from widthwise.exploration import ExplorationEstimation, by_rank


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
