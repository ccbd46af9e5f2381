"""Two splits as one."""

import torch

from widthwise import load_data
from widthwise.data import JoinedSplit
from widthwise.data.splits import Split


def joined() -> tuple[JoinedSplit, Split, Split]:
    data = load_data("digits")
    return JoinedSplit(data.train, data.val), data.train, data.val


def test_every_image_comes_once_in_an_order_of_the_seed() -> None:
    both, train, val = joined()
    assert len(both) == len(train) + len(val)
    assert torch.equal(both.labels, torch.cat([train.labels, val.labels]))
    passes = [torch.cat([images for images, _ in both.batches(64, seed=seed)]) for seed in (1, 1, 2)]
    assert torch.equal(passes[0], passes[1])
    assert not torch.equal(passes[0], passes[2])
    in_order = torch.cat([images for split in (train, val) for images, _ in split.batches(64)])
    for found in passes:
        rows = [{tuple(row) for row in images.flatten(1).tolist()} for images in (found, in_order)]
        assert rows[0] == rows[1]
        assert found.shape == in_order.shape
    assert torch.equal(torch.cat([images for images, _ in both.batches(64)]), in_order)


def test_parts_take_turns() -> None:
    both, train, _ = joined()
    sizes = [len(labels) for _, labels in both.batches(64, seed=3)]
    assert sum(size == 64 for size in sizes) == sum(len(split) // 64 for split in (both.first, both.second))
    of_train = {tuple(row) for row in next(iter(train.batches(len(train))))[0].flatten(1).tolist()}
    parts = [tuple(images[0].flatten().tolist()) in of_train for images, _ in both.batches(64, seed=3)]
    assert parts != sorted(parts, reverse=True)


def test_a_single_image_is_left_out() -> None:
    both, *_ = joined()
    some = JoinedSplit(both.first.subset(9, seed=0), both.second.subset(6, seed=0))
    assert [len(labels) for _, labels in some.batches(4)] == [4, 4, 4, 2]
    assert [len(labels) for _, labels in some.batches(1)] == [1] * 15


def test_a_subset_takes_of_each_its_share() -> None:
    both, train, val = joined()
    some = both.subset(100, seed=0)
    assert isinstance(some, JoinedSplit)
    assert len(some) == 100
    assert len(some.first) == round(100 * len(train) / (len(train) + len(val)))
    assert len(both.subset(len(both), seed=0)) == len(both)
