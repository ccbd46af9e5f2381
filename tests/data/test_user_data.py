"""What users bring from Python: datasets and loaders of their own."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)
from torchvision.datasets import FakeData
from torchvision.transforms import v2

from widthwise.data import DatasetSplit, LoaderSplit, MemorySplit, load_data
from widthwise.errors import DataError, EmptyData, LabelOutOfRange, UnreadableData


class Items(Dataset[Any]):
    """A dataset over a list."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class Stream(IterableDataset[tuple[Tensor, int]]):
    """Examples in a stream."""

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return ((torch.full((1, 4, 4), float(index)), index % 2) for index in range(10))


class Augmented(Dataset[tuple[Tensor, int]]):
    """Draws from torch's generator at each look."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.rand(1, 4, 4) + index, index % 2


class Drawn(Augmented):
    """Draws from a generator of its own."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.rand(1, 4, 4, generator=GENERATOR) + index, index % 2


GENERATOR = torch.Generator()


class Stacked(IterableDataset[tuple[Tensor, int]]):
    """A list in a stream."""

    def __init__(self, items: list[tuple[Tensor, int]]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return iter(self.items)


def _tensors(n: int = 20, classes: int = 4) -> TensorDataset:
    return TensorDataset(torch.randn(n, 3, 8, 8), torch.arange(n) % classes)


def test_other_images_with_the_same_labels_are_other_data() -> None:
    items = [[(torch.randn(1, 4, 4), index % 2) for index in range(12)] for _ in range(2)]
    for wrap in (Items, lambda of: DataLoader(Stacked(of), batch_size=4)):
        first, again, other = (load_data((wrap(of),) * 2).val.fingerprint() for of in (items[0], items[0], items[1]))
        assert first == again != other
    assert load_data((Drawn(),) * 2).val.fingerprint() == load_data((Drawn(),) * 2).val.fingerprint()


def test_a_dataset_is_split_by_class() -> None:
    data = load_data(FakeData(40, (3, 10, 12), 4, transform=v2.PILToTensor()), val_fraction=0.25)
    assert isinstance(data.train, DatasetSplit)
    assert len(data.train) + len(data.val) == 40
    assert data.input_shape == (3, 10, 12)
    assert data.class_names == tuple("0123")
    assert float(data.example().max()) <= 1.0
    assert data.mean == ()


def test_pil_images_are_scaled_and_normalised_on_request() -> None:
    items = [(Image.new(mode, (4, 4), colour), i % 2) for i in range(6) for mode, colour in [("RGB", (51, 102, 255))]]
    plain, normal = load_data(Items(items)), load_data(Items(items), mean=(0.2, 0.4, 0.0), std=(1.0, 1.0, 0.5))
    torch.testing.assert_close(plain.example()[0, :, 0, 0], torch.tensor([0.2, 0.4, 1.0]))
    torch.testing.assert_close(normal.example()[0, :, 0, 0], torch.tensor([0.0, 0.0, 2.0]), atol=1e-6, rtol=0)
    grey = load_data(Items([(Image.new("L", (4, 5), 255), i % 2) for i in range(6)]))
    assert grey.input_shape == (1, 5, 4)


def test_tensors_go_to_memory() -> None:
    data = load_data((_tensors(), _tensors(8), _tensors(4)))
    assert isinstance(data.train, MemorySplit)
    assert data.test is not None
    assert [len(part) for part in (data.train, data.val, data.test)] == [20, 8, 4]


def test_a_plain_loader_is_unwrapped_and_others_are_streamed() -> None:
    dataset = Items([(torch.full((1, 2, 2), float(i)), i % 2) for i in range(10)])
    assert isinstance(load_data((DataLoader(dataset, shuffle=True), dataset)).train, DatasetSplit)
    weighted = DataLoader(dataset, 3, sampler=WeightedRandomSampler([1.0] * 10, 10))
    for loader in (weighted, DataLoader(dataset, 3, collate_fn=lambda items: default_collate(items))):
        assert isinstance(load_data((loader, dataset)).train, LoaderSplit)


def test_a_streamed_loader_is_split_in_memory() -> None:
    loader = DataLoader(Stream(), batch_size=4)
    data = load_data(loader, val_fraction=0.2)
    assert isinstance(data.train, MemorySplit)
    values = [
        int(images[i, 0, 0, 0])
        for split in (data.train, data.val)
        for images, _ in split.batches(3)
        for i in range(len(images))
    ]
    assert sorted(values) == list(range(10))
    assert load_data((Stream(), loader)).input_shape == (1, 4, 4)


def test_random_transforms_repeat_with_the_seed() -> None:
    split = load_data({"train": Augmented(), "val": Augmented()}).train
    first, again = (torch.cat([x for x, _ in split.batches(4, seed=1)]) for _ in range(2))
    other = torch.cat([x for x, _ in split.batches(5, seed=1, shard=(0, 1))])
    assert torch.equal(first, again)
    assert torch.equal(first, other)


def test_labels_come_from_one_pass_that_leaves_the_generator() -> None:
    before = torch.get_rng_state()
    data = load_data({"train": Augmented(), "val": Augmented()})
    assert data.train.labels.tolist() == [0, 1] * 6
    state = torch.get_rng_state()
    _ = data.train.labels
    assert torch.equal(torch.get_rng_state(), state)
    assert len(before) == len(state)


def test_labels_of_the_test_part_are_checked_against_the_model() -> None:
    data = load_data((_tensors(), _tensors(), _tensors(classes=6)))
    assert data.num_classes == 4
    with pytest.raises(LabelOutOfRange, match="the test part"):
        data.check_classes(4)


@pytest.mark.parametrize(
    ("item", "error", "text"),
    [
        (torch.zeros(3, 4, 4), UnreadableData, "yield \\(image, label\\)"),
        ((torch.zeros(3, 4, 4), 0.5), UnreadableData, "integers"),
        ((torch.zeros(3, 4, 4), torch.tensor([0, 1])), UnreadableData, "integers"),
        ((torch.zeros(3, 4, 4), -2), LabelOutOfRange, "-2"),
        ((torch.zeros(4, 4), 0), UnreadableData, r"\[C, H, W\]"),
        (("cat.png", 0), UnreadableData, "str"),
    ],
)
def test_items_that_are_no_labelled_images(item: object, error: type[DataError], text: str) -> None:
    with pytest.raises(error, match=text):
        load_data((Items([item] * 4), Items([item] * 4)))


def test_images_of_several_shapes() -> None:
    items = [(torch.zeros(3, 4, 4 + i % 2), 0) for i in range(4)]
    data = load_data((Items(items), Items(items)))
    with pytest.raises(UnreadableData, match="one shape"):
        list(data.train.batches(4))


def test_empty_and_unknown_sources() -> None:
    with pytest.raises(EmptyData):
        load_data(Items([]))
    with pytest.raises(EmptyData):
        load_data(_tensors(0))
    with pytest.raises(DataError, match="TensorDataset"):
        load_data((torch.zeros(4, 3, 8, 8), torch.zeros(4)))
    with pytest.raises(DataError, match="train"):
        load_data({"validation": _tensors()})
    with pytest.raises(DataError, match="tuple"):
        load_data((_tensors(),) * 4)


def test_a_loader_that_yields_something_else() -> None:
    loader = DataLoader(_tensors(), batch_size=4, collate_fn=lambda items: {"x": items})
    with pytest.raises(UnreadableData, match="dict"):
        load_data((loader, _tensors()))


class Endless(Dataset[Any]):
    """No length."""

    def __getitem__(self, index: int) -> Any:
        return torch.zeros(1, 2, 2), 0


def test_a_dataset_without_a_length() -> None:
    with pytest.raises(UnreadableData, match="__len__"):
        load_data(Endless())


class Shrinking(IterableDataset[tuple[Tensor, int]]):
    """Gives fewer examples in each pass, like an iterator that is used up."""

    def __init__(self) -> None:
        self.left = 14

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        self.left -= 4
        return iter([(torch.zeros(1, 4, 4), 0)] * self.left)


def test_a_loader_that_changes_its_length() -> None:
    split = load_data((Shrinking(), _tensors())).train
    with pytest.raises(UnreadableData, match="equally many"):
        list(split.batches(4))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["memory", "dataset", "loader"])
def test_batches_on_the_accelerator_equal_those_on_the_cpu(kind: str) -> None:
    tensors = _tensors()
    items = Items([tensors[i] for i in range(20)])
    source = {"memory": tensors, "dataset": items, "loader": DataLoader(Stream(), batch_size=4)}[kind]
    split = load_data((source, tensors)).train
    for (images, labels), (there, there_labels) in zip(
        split.batches(8, seed=0, augment=True), split.batches(8, seed=0, augment=True, device="cuda"), strict=True
    ):
        assert there.device.type == "cuda"
        torch.testing.assert_close(there.cpu(), images)
        assert torch.equal(there_labels.cpu(), labels)
