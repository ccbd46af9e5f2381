"""The contract of every searcher: in the space, under the budget, the same for the same seed, resumed exactly."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from search_memory import Memory

from widthwise import Budget, build_model, trace
from widthwise.cost import CostModel, Limits
from widthwise.errors import CorruptRun
from widthwise.search import (
    Evolution,
    RandomRates,
    Searcher,
    ThompsonSampling,
    best_first,
    run_search,
    uniform_widths,
)
from widthwise.subnet import Space, WidthSpace

Make = Callable[[Space, Limits, int], Searcher]

SEARCHERS: dict[str, Make] = {
    "random": lambda space, limits, seed: RandomRates(space, limits, max_rate=0.9, seed=seed, batch=7),
    "evolution": lambda space, limits, seed: Evolution(space, limits, generation=6, parents=3, seed=seed),
    "thompson": lambda space, limits, seed: ThompsonSampling(space, limits, start=4, seed=seed),
}


def score(widths) -> float:
    """A toy objective: even widths are best."""
    full = torch.tensor([6.0, 8.0, 10.0, 12.0])
    return -float((widths / full).var())


@pytest.fixture(params=SEARCHERS)
def make(request) -> Make:
    return SEARCHERS[request.param]


def test_strategies_lie_in_the_space_and_the_budget(make, chain_space, half):
    searcher = make(chain_space, half, 0)
    for _ in range(40):
        widths = searcher.ask()
        assert all(int(w) in c.tolist() for w, c in zip(widths, chain_space.choices, strict=True))
        assert bool(half.met(widths[None])[0])
        searcher.tell(widths, score(widths))


def test_same_seed_same_run_and_other_seed_another(make, chain_space, half):
    def widths(seed):
        trials = run_search(make(chain_space, half, seed), partial(map, score), 20, Memory())
        return [t.widths.tolist() for t in trials]

    assert widths(1) == widths(1)
    assert widths(1) != widths(2)


@pytest.mark.parametrize("cut", [0, 1, 7, 19, 20])
def test_resumed_equals_uninterrupted(make, chain_space, half, cut):
    log = Memory()
    whole = run_search(make(chain_space, half, 3), partial(map, score), 20, log)
    scored = []

    def counting(widths) -> float:
        scored.append(widths)
        return score(widths)

    resumed = run_search(make(chain_space, half, 3), partial(map, counting), 20, Memory(log.events[:cut]))
    assert [(t.widths.tolist(), t.score) for t in resumed] == [(t.widths.tolist(), t.score) for t in whole]
    assert len(scored) == 20 - cut


def test_a_journal_of_another_search_is_refused(make, chain_space, half):
    log = Memory()
    run_search(make(chain_space, half, 3), partial(map, score), 5, log)
    with pytest.raises(CorruptRun, match="strategy 0"):
        run_search(
            make(chain_space, half, 4) if make is SEARCHERS["random"] else _shifted(make(chain_space, half, 4)),
            partial(map, score),
            5,
            log,
        )


def _shifted(searcher: Searcher) -> Searcher:
    widths = searcher.ask()
    searcher.tell(widths, 0.0)
    return searcher


def test_side_by_side_is_told_after_each_batch_and_resumed_exactly(make, chain_space, half):
    class Watched:
        def __init__(self) -> None:
            self.inner, self.calls = make(chain_space, half, 3), ""

        def ask(self):
            self.calls += "a"
            return self.inner.ask()

        def tell(self, widths, score) -> None:
            self.calls += "t"
            self.inner.tell(widths, score)

    sizes = []

    def batch(asked):
        sizes.append(len(asked))
        return map(score, asked)

    log, searcher = Memory(), Watched()
    whole = run_search(searcher, batch, 22, log, at_once=8)
    assert (sizes, searcher.calls) == ([8, 8, 6], "aaaaaaaattttttttaaaaaaaattttttttaaaaaatttttt")
    assert [t.index for t in whole] == list(range(22))
    for cut in (3, 8, 19):
        sizes.clear()
        resumed = run_search(make(chain_space, half, 3), batch, 22, Memory(log.events[:cut]), at_once=8)
        assert [(t.widths.tolist(), t.score) for t in resumed] == [(t.widths.tolist(), t.score) for t in whole]
        assert sum(sizes) == 22 - cut


def test_an_evaluation_that_forgets_a_strategy_is_noticed(chain_space, half):
    with pytest.raises(ValueError, match="zip"):
        run_search(SEARCHERS["random"](chain_space, half, 0), lambda asked: [0.0], 4, Memory(), at_once=2)


STARTED: list[Callable[..., Searcher]] = [partial(Evolution, generation=4), ThompsonSampling]


@pytest.mark.parametrize("started", STARTED)
def test_a_search_starts_where_it_is_told(started, chain_space, half):
    other = SEARCHERS["random"](chain_space, half, 5).ask()
    searcher = started(chain_space, half, first=[other, other])
    asked = [searcher.ask().tolist() for _ in range(5)]
    assert asked[:2] == [uniform_widths(chain_space, half).tolist(), other.tolist()]
    assert len({tuple(row) for row in asked}) == 5


def test_best_first_breaks_ties_by_order(chain_space, half):
    trials = run_search(
        SEARCHERS["random"](chain_space, half, 0), partial(map, lambda w: float(w[0] % 2)), 10, Memory()
    )
    ranked = best_first(trials)
    assert [t.score for t in ranked] == sorted((t.score for t in trials), reverse=True)
    for first, second in pairwise(ranked):
        assert first.score > second.score or first.index < second.index


def distance(widths) -> float:
    """The best strategy is narrow first, wide last."""
    return -float((widths / torch.tensor([6.0, 8.0, 10.0, 12.0]) - torch.tensor([0.3, 0.6, 0.8, 0.9])).abs().sum())


def best_of(searcher: Searcher, count: int, goal: Callable[..., float]) -> torch.Tensor:
    return best_first(run_search(searcher, partial(map, goal), count, Memory()))[0].widths


@pytest.mark.parametrize("learning", [partial(Evolution, generation=10, parents=4), ThompsonSampling])
def test_a_search_that_learns_starts_at_uniform_repeats_nothing_and_improves(learning, chain_space, half):
    trials = run_search(learning(chain_space, half, seed=0), partial(map, distance), 80, Memory())
    assert trials[0].widths.tolist() == uniform_widths(chain_space, half).tolist()
    assert len({tuple(t.widths.tolist()) for t in trials}) == 80
    assert best_first(trials)[0].score > distance(best_of(SEARCHERS["random"](chain_space, half, 0), 80, distance))
    assert best_first(trials)[0].score > trials[0].score


def test_thompson_sampling_finds_more_than_evolution_in_as_many_strategies():
    """Groups that lose accuracy at rates of their own when they are narrowed, judged with noise."""
    graph = trace(build_model("resnet32"), torch.zeros(1, 3, 16, 16))
    space = WidthSpace().of(graph)
    limits = Budget(macs=0.5).on(CostModel(graph), space)
    order = torch.randperm(len(space.full), generator=torch.Generator().manual_seed(0))
    rates = torch.logspace(-3, 0, len(space.full))[order]

    def truth(widths) -> float:
        return -float((rates * (widths / space.full).log().square()).sum())

    for seed in range(3):
        noise = torch.Generator().manual_seed(seed)

        def judged(widths, noise=noise) -> float:
            return truth(widths) + 0.02 * float(torch.randn((), generator=noise))

        searchers = (learning(space, limits, seed=seed) for learning in (Evolution, ThompsonSampling))
        evolved, guessed = (truth(best_of(searcher, 60, judged)) for searcher in searchers)
        assert guessed > evolved / 2, "where nothing is lost, it is 0"


def test_thompson_sampling_repeats_where_all_was_asked_for(half):
    """A space of a few strategies is used up; the search goes on."""
    space = WidthSpace(ratios=(0.5, 1.0)).of(half.cost.graph)
    searcher = ThompsonSampling(space, half, start=2)
    asked = []
    for _ in range(24):
        asked.append(searcher.ask())
        searcher.tell(asked[-1], score(asked[-1]))
    assert len({tuple(row.tolist()) for row in asked}) < 24
    assert bool(half.met(torch.stack(asked)).all())
