"""Images that are read when they are needed: a map-style Dataset behind torch's DataLoader."""

from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from widthwise.data.indexed import IndexedSplit, Pass
from widthwise.data.order import evenly, seeded
from widthwise.data.pixels import Normalisation, to_float
from widthwise.data.splits import as_labels
from widthwise.digest import digest
from widthwise.errors import DataError, EmptyData, UnreadableData

Prepare = Callable[[Any], Tensor]
"""From what a Dataset yields as its image to float32 [C, H, W], ready for the network."""

SAMPLED = 8
"""Images that are looked at for the fingerprint of a split."""

_WITH_TARGETS = ("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "ImageFolder", "DatasetFolder")
"""Of torchvision."""


class Examples:
    """A map-style dataset of (image, label, ...) and its labels; every split over it shares them.

    The labels are taken from the dataset where it is known to hold them, else found by one pass when first
    asked.

    Raises:
        EmptyData: the dataset has no example.
        UnreadableData: it has no length.
    """

    def __init__(self, dataset: Dataset[Any], name: str, *, workers: int = 0, labels: Tensor | None = None) -> None:
        if not isinstance(dataset, Sized):
            raise UnreadableData(
                f"a map-style Dataset needs __len__ and __getitem__, but {name} ({type(dataset).__name__}) "
                "has "
                f"no __len__; add it, or pass a DataLoader"
            )
        if len(dataset) == 0:
            raise EmptyData(f"a data set needs at least one example, but {name} has none; check its source")
        self.dataset = dataset
        self.name = name
        self.workers = workers
        self.size = len(dataset)
        self._given = _known_labels(dataset) if labels is None else labels

    @cached_property
    def labels(self) -> Int64[Tensor, " all"]:
        """The label of every example, int64 [all]."""
        return as_labels(self._read_labels() if self._given is None else self._given, self.name)

    def _read_labels(self) -> list[Any]:
        keys = [(index, 0) for index in range(self.size)]
        loader = DataLoader(
            _Keyed(self.dataset, self.name, _nothing),
            batch_sampler=[keys[at : at + 64] for at in range(0, self.size, 64)],
            num_workers=self.workers,
            collate_fn=_labels_only,
            generator=seeded(0),
        )
        return [label for labels in loader for label in _or_raise(labels)]


def _known_labels(dataset: Dataset[Any]) -> Tensor | None:
    if type(dataset) is TensorDataset and len(dataset.tensors) > 1:
        return dataset.tensors[1]
    # By name, so that torchvision need not be imported, and only torchvision's own: a subclass may yield something else
    # than its `targets` say.
    kind = type(dataset)
    known = kind.__module__.startswith("torchvision.datasets.") and kind.__name__ in _WITH_TARGETS
    if known and vars(dataset)["target_transform"] is None:
        return torch.as_tensor(vars(dataset)["targets"])
    return None


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetSplit(IndexedSplit):
    """A split over a map-style dataset; images are read, prepared and stacked by a DataLoader.

    With a seed, torch's generator is seeded for each example, so random transforms of torch and torchvision
    give the same images whatever the number of workers and ranks (transforms that draw from `random` or numpy
    do not).
    """

    examples: Examples
    """The dataset and its labels."""
    train: Prepare
    """Used with `augment=True`."""
    evaluate: Prepare
    """Used with `augment=False`. The same as `train` for a user's Dataset, which has its own augmentation."""

    @property
    def labels(self) -> Int64[Tensor, " n"]:
        """The labels in order, int64 [n]."""
        return self.examples.labels[self.indices]

    def fingerprint(self) -> str:
        """Of the labels, of how images are prepared, and of a few images, where they are the same each time."""
        prepared = (type(self.examples.dataset).__qualname__, self.train, self.evaluate)
        return digest(self.labels, *prepared, *self._sample())

    def _sample(self) -> Iterator[Tensor | None]:
        keyed = _Keyed(self.examples.dataset, self.examples.name, self.evaluate)
        for index in self.indices[evenly(len(self), SAMPLED)].tolist():
            yield unchanging(lambda: _or_raise(keyed[index, 0])[0])  # noqa: B023 - called at once

    def read(self, epoch: Pass) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of a pass."""
        examples = self.examples
        loader = DataLoader(
            _Keyed(examples.dataset, examples.name, self.train if epoch.augment else self.evaluate),
            batch_sampler=self._keys(epoch),
            num_workers=examples.workers,
            collate_fn=_stack,
            pin_memory=epoch.device.type == "cuda",
            generator=seeded(0),  # else each pass would draw from the user's generator
        )
        for result in loader:
            images, labels = _or_raise(result)
            yield images.to(epoch.device, non_blocking=True), labels.to(epoch.device, non_blocking=True)

    def _keys(self, epoch: Pass) -> list[list[tuple[int, int | None]]]:
        """Per batch, the (example, seed) pairs to read; the seed belongs to the slot, not to the rank."""
        order = epoch.plan.order
        draws = torch.randint(0, 2**32, (len(order),), generator=seeded(epoch.seed or 0, stream=1))
        seeds: list[int | None] = [None] * len(draws) if epoch.seed is None else draws.tolist()
        rows = self.indices[order].tolist()
        return [[(rows[slot], seeds[slot]) for slot in slots.tolist()] for slots in epoch.plan.slots()]


class _Keyed(Dataset[Any]):
    """Reads (example, seed) keys. A DataError is returned: raised in a worker, it would lose its text."""

    def __init__(self, dataset: Dataset[Any], name: str, prepare: Prepare) -> None:
        self.dataset, self.name, self.prepare = dataset, name, prepare

    def __getitem__(self, key: tuple[int, int | None]) -> tuple[Tensor, Any] | DataError:
        index, seed = key
        try:
            if seed is None:
                return self._read(index)
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs, too
                return self._read(index)
        except DataError as error:
            return error

    def _read(self, index: int) -> tuple[Tensor, Any]:
        item = self.dataset[index]
        if not isinstance(item, tuple | list) or len(item) < 2:
            raise UnreadableData(
                f"a Dataset must yield (image, label), but example {index} of {self.name} is a "
                f"{type(item).__name__}; wrap it so that it yields such pairs"
            )
        return self.prepare(item[0]), item[1]


def unchanging(read: Callable[[], Tensor]) -> Tensor | None:
    """What is read twice, if it is the same both times: a user's own augmentation may draw from anywhere."""
    first, again = read(), read()
    return first if torch.equal(first, again) else None


def _nothing(_image: object) -> Tensor:
    return torch.empty(0)


def _labels_only(items: list[Any]) -> list[Any] | DataError:
    pairs = _pairs(items)
    return pairs if isinstance(pairs, DataError) else [label for _, label in pairs]


def _pairs(items: list[Any]) -> list[Any] | DataError:
    return next((item for item in items if isinstance(item, DataError)), items)


def _stack(items: list[Any]) -> tuple[Tensor, Tensor] | DataError:
    pairs = _pairs(items)
    if isinstance(pairs, DataError):
        return pairs
    shapes = {tuple(image.shape) for image, _ in pairs}
    if len(shapes) > 1:
        return UnreadableData(
            f"the images of a batch must have one shape, but got {sorted(shapes)[:4]}; resize or crop them "
            "in "
            f"the Dataset (torchvision.transforms.v2.Resize, CenterCrop)"
        )
    try:
        labels = as_labels([label for _, label in pairs], "a batch")
    except DataError as error:
        return error
    return torch.stack([image for image, _ in pairs]), labels


def _or_raise(result: Any) -> Any:
    if isinstance(result, DataError):
        raise result
    return result


@dataclass(frozen=True, slots=True)
class AsYielded:
    """Prepares the image of a user's Dataset: PIL and uint8 are scaled to [0, 1], floats stay as they are."""

    normalise: Normalisation | None
    """Applied last, only where the user asks for it."""

    def __call__(self, image: object) -> Float32[Tensor, "c h w"]:
        """Return the image as the network sees it. Raises UnreadableData unless it is [C, H, W] or PIL."""
        if isinstance(image, Image.Image):
            pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
            image = torch.from_numpy(pixels.copy()).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)
        if not isinstance(image, Tensor) or image.ndim != 3:
            shape = f" of shape {tuple(image.shape)}" if isinstance(image, Tensor) else ""
            raise UnreadableData(
                f"an image must be a tensor [C, H, W] or a PIL image, but got {type(image).__name__}{shape}; "
                f"convert it in the Dataset (torchvision.transforms.v2.PILToTensor)"
            )
        if self.normalise is not None:
            self.normalise.check_channels(len(image))
        return to_float(image, self.normalise).contiguous()


def user_split(dataset: Dataset[Any], name: str, normalise: Normalisation | None, workers: int) -> DatasetSplit:
    """Return a split over a Dataset of the user's; `augment` has no effect on it."""
    examples = Examples(dataset, name, workers=workers)
    prepare = AsYielded(normalise)
    indices = torch.arange(examples.size)
    return DatasetSplit(examples=examples, indices=indices, train=prepare, evaluate=prepare)
