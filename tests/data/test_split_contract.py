"""One contract for every kind of split: memory, lazy files, a user's Dataset, a user's DataLoader."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from widthwise.data import DatasetSplit, LoaderSplit, MemorySplit, Split, load_data
from widthwise.data.splits import Batches
from widthwise.errors import EmptyData

N = 37


class Numbered(Dataset[tuple[Tensor, int]]):
    """Image i is filled with i: a batch says which examples it holds."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((3, 4, 4), float(index)), index % 3


def _collate(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    images, labels = default_collate(items)
    return images, labels


def _memory(_: Path) -> Split:
    images = torch.arange(N, dtype=torch.uint8).view(N, 1, 1, 1).expand(N, 3, 16, 16).contiguous()
    return MemorySplit(
        images=images,
        all_labels=torch.arange(N) % 3,
        indices=torch.arange(N),
        normalise=None,
        augmentation=None,
    )


def _dataset(_: Path) -> Split:
    return load_data((Numbered(), Numbered())).train


def _workers(_: Path) -> Split:
    return load_data((Numbered(), Numbered()), workers=1).train


def _plain_loader(_: Path) -> Split:
    return load_data((DataLoader(Numbered(), batch_size=5, shuffle=True), Numbered())).train


def _loader(_: Path) -> Split:
    return load_data((DataLoader(Numbered(), batch_size=5, collate_fn=_collate), Numbered())).train


def _shuffling_loader(_: Path) -> Split:
    loader = DataLoader(Numbered(), batch_size=5, shuffle=True, collate_fn=_collate)
    return load_data((loader, Numbered())).train


def _folder(tmp: Path) -> Split:
    for index in range(N):
        place = tmp / f"{index % 3}"
        place.mkdir(exist_ok=True)
        Image.fromarray(np.full((70, 80, 3), index, dtype=np.uint8)).save(place / f"{index:02}.png")
    data = load_data(tmp, image_size=8, val_fraction=0.1)
    assert isinstance(data.train, DatasetSplit)
    return data.train


@pytest.fixture(params=[_memory, _dataset, _workers, _plain_loader, _loader, _shuffling_loader, _folder])
def split(request: pytest.FixtureRequest, tmp_path: Path) -> Split:
    make: Callable[[Path], Split] = request.param
    return make(tmp_path)


def _read(batches: Batches) -> tuple[list[Tensor], Tensor]:
    pairs = list(batches)
    assert len(pairs) == len(batches)
    return [images.flatten(1)[:, 0] for images, _ in pairs], torch.cat([labels for _, labels in pairs])


def test_it_is_a_split(split: Split) -> None:
    assert isinstance(split, Split)
    assert split.labels.dtype == torch.int64
    assert len(split.labels) == len(split)


def test_in_order_the_labels_match(split: Split) -> None:
    _, labels = _read(split.batches(8))
    assert torch.equal(labels, split.labels)


def test_types_sizes_and_completeness(split: Split) -> None:
    expected = sorted(torch.cat(_read(split.batches(8))[0]).tolist())
    for images, labels in split.batches(8, seed=1):
        assert images.dtype == torch.float32
        assert images.ndim == 4
        assert labels.dtype == torch.int64
    chunks, _ = _read(split.batches(8, seed=1))
    assert [len(chunk) for chunk in chunks[:-1]] == [8] * (len(chunks) - 1)
    assert sorted(torch.cat(chunks).tolist()) == expected
    assert len(set(expected)) == len(split)


def test_a_pass_depends_on_its_seed_and_leaves_the_global_generator(split: Split) -> None:
    before = torch.get_rng_state()
    batches = split.batches(8, seed=5, augment=True)
    first = torch.cat([images for images, _ in batches])
    again = torch.cat([images for images, _ in batches])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(123)
    new = torch.cat([images for images, _ in split.batches(8, seed=5, augment=True)])
    assert torch.equal(first, again)
    assert torch.equal(first, new)
    if not isinstance(split, LoaderSplit) or split.loader.sampler.__class__.__name__ == "RandomSampler":
        assert not torch.equal(first, torch.cat([x for x, _ in split.batches(8, seed=6, augment=True)]))


def test_shares_add_up_to_the_global_batches(split: Split) -> None:
    whole = list(split.batches(8, seed=2, augment=True))
    ranks = [list(split.batches(8, seed=2, augment=True, shard=(rank, 3))) for rank in range(3)]
    for (images, labels), *parts in zip(whole, *ranks, strict=True):
        for rank, (part, part_labels) in enumerate(parts):
            if rank < len(images):
                assert torch.equal(part, images[rank::3])
                assert torch.equal(part_labels, labels[rank::3])


def test_subset_is_stratified_increasing_and_fixed(split: Split) -> None:
    whole, _ = _read(split.batches(100))
    small = split.subset(9, seed=4)
    assert len(small) == 9
    assert (torch.bincount(small.labels) - 3).abs().max() <= 1
    values = torch.cat(_read(small.batches(4))[0])
    positions = [whole[0].tolist().index(value) for value in values.tolist()]
    assert positions == sorted(set(positions))
    assert torch.equal(values, torch.cat(_read(split.subset(9, seed=4).batches(4))[0]))
    with pytest.raises(EmptyData):
        split.subset(len(split) + 1, seed=0)
