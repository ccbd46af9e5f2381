"""Epoch plans, shares and stratified picks, against counting by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from widthwise.data.order import EpochPlan, hold_out, pick, plan_epoch, seeded, share, stratified
from widthwise.errors import ConfigError, EmptyData


@given(n=st.integers(1, 60), batch=st.integers(1, 20), world=st.integers(1, 5), seed=st.none() | st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_the_ranks_together_see_each_global_batch_once(n: int, batch: int, world: int, seed: int | None) -> None:
    batch = max(batch, world)
    whole = plan_epoch(n, batch, seed, (0, 1))
    ranks = [plan_epoch(n, batch, seed, (rank, world)) for rank in range(world)]
    assert sorted(whole.order.tolist()) == list(range(n))
    assert {len(plan) for plan in ranks} == {len(whole)}
    for expected, *parts in zip(whole.slots(), *(plan.slots() for plan in ranks), strict=True):
        assert all(len(part) for part in parts)
        together = torch.cat(parts).tolist()
        assert set(together) == set(expected.tolist())
        if len(expected) >= world:
            assert len(together) == len(expected)


def test_order_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = plan_epoch(50, 8, 7, (0, 1)).order
    torch.manual_seed(2)
    assert torch.equal(first, plan_epoch(50, 16, 7, (0, 1)).order)
    assert not torch.equal(first, plan_epoch(50, 8, 8, (0, 1)).order)
    assert torch.equal(plan_epoch(50, 8, None, (0, 1)).order, torch.arange(50))


def test_streams_of_one_seed_differ() -> None:
    one, two = (torch.rand(4, generator=seeded(3, stream)) for stream in (0, 1))
    assert not torch.equal(one, two)
    assert seeded(None) is None


@pytest.mark.parametrize(("batch", "shard"), [(0, (0, 1)), (4, (2, 2)), (4, (-1, 2)), (1, (0, 2))])
def test_impossible_plans_are_refused(batch: int, shard: tuple[int, int]) -> None:
    with pytest.raises(ConfigError):
        EpochPlan(torch.arange(9), batch, shard)


def test_a_last_batch_smaller_than_the_world_repeats() -> None:
    assert [share(2, (rank, 3)).tolist() for rank in range(3)] == [[0], [1], [0]]


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=80), data=st.data(), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_stratified_is_proportional_to_within_one(labels: list[int], data: st.DataObject, seed: int) -> None:
    n = data.draw(st.integers(1, len(labels)))
    tensor = torch.tensor(labels)
    picked = stratified(tensor, n, seed=seed)
    assert len(picked) == n
    assert picked.tolist() == sorted(set(picked.tolist()))
    assert torch.equal(picked, stratified(tensor, n, seed=seed))
    for label in set(labels):
        share_of = labels.count(label) * n / len(labels)
        assert abs(int((tensor[picked] == label).sum()) - share_of) < 1


def test_stratified_draws_ties_and_examples() -> None:
    labels = torch.arange(100).repeat(5)
    first, second = (stratified(labels, 30, seed=seed) for seed in (0, 1))
    assert set(labels[first].tolist()) != set(labels[second].tolist())
    with pytest.raises(EmptyData, match="1 to 500"):
        stratified(labels, 501, seed=0)


def test_pick_reaches_every_example() -> None:
    labels = torch.tensor([1, 0, 1, 1, 0])
    seen = {tuple(pick(labels, torch.tensor([1, 2]), seed=seed).tolist()) for seed in range(200)}
    assert len(seen) == 2 * 3  # 2 choices of class 0, 3 pairs of class 1


def test_hold_out_agrees_with_scikit_learn() -> None:
    labels = torch.tensor([0] * 40 + [1] * 20 + [2] * 100)
    kept, held = hold_out(labels, 0.1, seed=0, where="x")
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(160))
    _, expected = train_test_split(labels.numpy(), test_size=0.1, stratify=labels.numpy(), random_state=0)
    assert torch.bincount(labels[held]).tolist() == torch.bincount(torch.from_numpy(expected)).tolist()


def test_hold_out_leaves_every_class_on_both_sides() -> None:
    labels = torch.tensor([0] * 97 + [2] * 2)
    kept, held = hold_out(labels, 0.01, seed=0, where="x")
    assert torch.bincount(labels[held]).tolist() == [1, 0, 1]
    assert torch.bincount(labels[kept]).tolist() == [96, 0, 1]
    with pytest.raises(EmptyData, match=r"class\(es\) \[1\]"):
        hold_out(torch.tensor([0, 0, 1]), 0.5, seed=0, where="x")
