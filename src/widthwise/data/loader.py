"""A user's DataLoader as a split: unwrapped where it is a plain one, else streamed and cut to size."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from widthwise.data.indexed import Pass, PlannedSplit
from widthwise.data.lazy import DatasetSplit, unchanging, user_split
from widthwise.data.memory import MemorySplit
from widthwise.data.order import seeded, share, stratified
from widthwise.data.pixels import Normalisation, to_float
from widthwise.data.splits import as_labels
from widthwise.digest import digest
from widthwise.errors import EmptyData, UnreadableData

_END = object()


def loader_split(loader: DataLoader[Any], name: str, normalise: Normalisation | None) -> "DatasetSplit | LoaderSplit":
    """Return a DataLoader as a split.

    A plain loader (a map-style dataset, in order or shuffled, default collation) is unwrapped: its dataset
    and workers are used, its order is replaced by ours, and all promises of `Split` hold. Any other is a
    LoaderSplit.
    """
    if _is_plain(loader):
        return user_split(loader.dataset, name, normalise, loader.num_workers)
    return LoaderSplit(loader, name, normalise)


def _is_plain(loader: DataLoader[Any]) -> bool:
    return (
        not isinstance(loader.dataset, IterableDataset)
        and _visits_each_once(loader)
        and type(loader.batch_sampler) is BatchSampler
        and loader.collate_fn is default_collate
        and loader.worker_init_fn is None
    )


def _visits_each_once(loader: DataLoader[Any]) -> bool:
    sampler = loader.sampler
    dataset: object = loader.dataset
    if type(sampler) is RandomSampler:
        whole = not sampler.replacement and sampler.num_samples == len(sampler.data_source)
        return whole and sampler.data_source is dataset
    return type(sampler) is SequentialSampler and sampler.data_source is dataset


class LoaderSplit(PlannedSplit):
    """A split over a re-iterable DataLoader of (images, labels, ...) batches, cut into batches of the asked
    size.

    The order is the loader's. While it is read, torch's generator is a private one that starts from the seed
    (0 without), so a loader that draws from it gives the same pass for the same seed; a loader with a
    generator of its own does not, and then `labels` and the batches need not agree. `augment` has no effect.
    `labels` and `len` take one pass; `select` and `subset` read the images into memory once, with whatever
    augmentation they had.
    """

    shuffles = False

    def __init__(self, loader: DataLoader[Any], name: str, normalise: Normalisation | None) -> None:
        self.loader = loader
        self.name = name
        self.normalise = normalise

    @cached_property
    def labels(self) -> Int64[Tensor, " n"]:
        """The labels in the order of a pass without a seed, int64 [n]."""
        found = [labels for _, labels in self._loaded(0)]
        if not found:
            raise EmptyData(f"a data set needs at least one example, but {self.name} yields no batch")
        return torch.cat(found)

    @cached_property
    def _in_memory(self) -> MemorySplit:
        images = torch.cat([images for images, _ in self._loaded(0)])
        return MemorySplit(
            images=images if images.dtype == torch.uint8 else images.float(),
            all_labels=self.labels,
            indices=torch.arange(len(images)),
            normalise=self.normalise,
            augmentation=None,
        )

    def fingerprint(self) -> str:
        """Of the labels, the normalisation and the first batch, where it is the same each time."""
        return digest(self.labels, self.normalise, unchanging(self._first))

    def _first(self) -> Tensor:
        return next((images for images, _ in self._loaded(0)), torch.empty(0))

    def select(self, indices: Int64[Tensor, " m"]) -> MemorySplit:
        """Return the examples at these positions of a pass without a seed, in memory."""
        return self._in_memory.select(indices)

    def subset(self, n: int, *, seed: int) -> MemorySplit:
        """Return n examples in memory, stratified, seeded, without replacement, in increasing order."""
        return self.select(stratified(self.labels, n, seed=seed))

    def _loaded(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the loader's own batches, checked: images [B, C, H, W] as they come, labels int64 [B]."""
        for item in _privately(self.loader, seed):
            images, labels = item[:2] if isinstance(item, tuple | list) and len(item) > 1 else (None, None)
            if not isinstance(images, Tensor) or images.ndim != 4 or not isinstance(labels, Tensor):
                raise UnreadableData(
                    f"a DataLoader must yield (images [B, C, H, W], labels [B]), but {self.name} yields "
                    f"{_describe(item)}; change its collate_fn, or pass its Dataset"
                )
            if self.normalise is not None:
                self.normalise.check_channels(images.shape[1])
            yield images, as_labels(labels, self.name)

    def read(self, epoch: Pass) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of a pass."""
        seen = 0
        for images, labels in _rebatch(self._loaded(epoch.seed or 0), epoch.plan.batch_size):
            seen += len(labels)
            mine = share(len(labels), epoch.plan.shard)
            yield to_float(images[mine].to(epoch.device), self.normalise), labels[mine].to(epoch.device)
        if seen != len(self):
            raise UnreadableData(
                f"a DataLoader must yield equally many examples in every pass, but {self.name} gave "
                f"{len(self)} first and {seen} now; pass a list-like Dataset or a re-iterable loader"
            )


def _privately(loader: DataLoader[Any], seed: int) -> Iterator[Any]:
    """Iterate a loader while torch's CPU generator is another one; the caller's is back after every batch."""
    generator = seeded(seed)
    state = torch.get_rng_state() if generator is None else generator.get_state()
    iterator: Iterator[Any] | None = None
    while True:
        outer = torch.get_rng_state()
        torch.set_rng_state(state)
        try:
            iterator = iter(loader) if iterator is None else iterator
            item = next(iterator, _END)
            state = torch.get_rng_state()
        finally:
            torch.set_rng_state(outer)
        if item is _END:
            return
        yield item


def _rebatch(
    batches: Iterator[tuple[Tensor, Tensor]], size: int
) -> Iterator[tuple[Shaped[Tensor, "b c h w"], Int64[Tensor, " b"]]]:
    """Cut batches of any size into batches of `size`; the last may be smaller."""
    held: tuple[Tensor, Tensor] | None = None
    for images, labels in batches:
        held = (images, labels) if held is None else (torch.cat([held[0], images]), torch.cat([held[1], labels]))
        while len(held[1]) >= size:
            yield held[0][:size], held[1][:size]
            held = held[0][size:], held[1][size:]
    if held is not None and len(held[1]):
        yield held


def _describe(item: object) -> str:
    if not isinstance(item, tuple | list):
        return f"a {type(item).__name__}"
    return ", ".join(str(tuple(x.shape)) if isinstance(x, Tensor) else type(x).__name__ for x in item)
