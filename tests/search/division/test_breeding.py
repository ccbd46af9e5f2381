"""New widths from old ones: in the space, under limits that can be met, and as many as can be had."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_toys import LIMITS, toy_of

from widthwise.search.breeding import cross
from widthwise.search.division.breeding import TRIES, breed, draw, enough, fit, mutate


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    share=st.floats(0, 1),
    fill=st.sampled_from([0.0, 0.5, 1.0]),
    metrics=st.sampled_from(LIMITS),
    stage=st.integers(0, 2),
)
def test_fit_meets_limits_that_can_be_met_and_changes_only_what_it_may(seed, share, fill, metrics, stage) -> None:
    toy_ = toy_of("plain")
    problem = toy_.problem(**toy_.limits(0.9, *metrics))
    generator = torch.Generator().manual_seed(seed)
    rows, free = draw(problem.allowed, range(6), 12, generator), list(problem.inner[stage])
    narrow, wide = rows.clone(), rows.clone()
    narrow[:, free], wide[:, free] = problem.allowed.smallest[free], problem.allowed.full[free]
    low, high = problem.cost(stage, narrow), problem.cost(stage, wide)
    limits = low + ((high - low) * share).long()
    fitted = fit(problem.allowed, problem.used(stage, limits), rows, free, fill, generator)
    assert bool((problem.cost(stage, fitted) <= limits).all())
    others = [g for g in range(6) if g not in free]
    assert torch.equal(fitted[:, others], rows[:, others])
    assert all(int(w) in c.tolist() for row in fitted for w, c in zip(row, problem.allowed.choices, strict=True))
    if fill == 0:
        met = (problem.cost(stage, rows) <= limits).all(1)
        assert torch.equal(fitted[met], rows[met])


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), chance=st.floats(0, 1))
def test_mutants_and_crosses_stay_in_the_space(seed: int, chance: float) -> None:
    space, generator = toy_of("plain").space, torch.Generator().manual_seed(seed)
    groups = [1, 3, 5]
    parents = draw(space, groups, 20, generator)
    children = mutate(space, groups, parents, chance, generator)
    crossed = cross(parents, children, generator)
    assert bool(((crossed == parents) | (crossed == children)).all())
    bred = breed(space, groups, parents, 7, chance, generator)
    assert bred.shape == (7, 3)
    for rows in (parents, children, crossed, bred):
        assert all(int(w) in space.choices[g].tolist() for row in rows for w, g in zip(row, groups, strict=True))


def test_enough_different_genes_the_first_ones_first_after_few_tries() -> None:
    litters = iter([[(1,), (2,), (1,)], [(2,), (3,)], [(4,), (5,)], [(6,)]])
    assert enough(4, lambda: next(litters), first=[(2,)]) == [(2,), (1,), (3,), (4,)]
    assert list(litters) == [[(6,)]]
    calls = []
    assert enough(3, lambda: calls.append(0) or [(1,), (2,)]) == [(1,), (2,)]
    assert len(calls) == TRIES
