"""From what was found (pixels, encoded images, a user's objects) to an ImageData."""

from collections.abc import Mapping

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from widthwise.data.config import DataConfig
from widthwise.data.images import Part, PartDataset, decode_small
from widthwise.data.lazy import DatasetSplit, Examples, Prepare, user_split
from widthwise.data.loader import LoaderSplit, loader_split
from widthwise.data.memory import MemorySplit
from widthwise.data.order import hold_out
from widthwise.data.pixels import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    CropFlip,
    Normalisation,
    channel_statistics,
    to_float,
)
from widthwise.data.splits import ImageData, as_labels, check_labels, numbered
from widthwise.errors import DataError, EmptyData

PARTS = ("train", "val", "test")
_IMAGENET = Normalisation(mean=IMAGENET_MEAN, std=IMAGENET_STD)

Pixels = tuple[UInt8[Tensor, "n c h w"], Int64[Tensor, " n"]]
"""Images in memory and their labels."""
AnySplit = MemorySplit | DatasetSplit | LoaderSplit
"""The splits of this package: they can also `select` by index."""


def from_pixels(
    name: str,
    parts: Mapping[str, Pixels],
    class_names: tuple[str, ...],
    config: DataConfig,
    default: Normalisation | None = None,
) -> ImageData:
    """Return small uint8 images as an ImageData that lives in memory.

    Without `mean` and `std` in the configuration, colour is normalised as ImageNet, grey by the statistics of
    the training part (before validation is held out, so that they do not depend on the seed).
    """
    images = parts["train"][0]
    channels, height = images.shape[1:3]
    usual = _IMAGENET if channels == 3 else channel_statistics(images)
    normalise = config.normalisation or default or usual
    normalise.check_channels(channels)
    flip = channels == 3 if config.flip is None else config.flip
    splits = {
        part: MemorySplit(
            images=pixels,
            all_labels=labels,
            indices=torch.arange(len(labels)),
            normalise=normalise,
            augmentation=CropFlip.usual(height, flip=flip),
        )
        for part, (pixels, labels) in parts.items()
    }
    return _image_data(name, splits, class_names, config, normalise)


def from_encoded(name: str, parts: Mapping[str, Part], class_names: tuple[str, ...], config: DataConfig) -> ImageData:
    """Return encoded images as an ImageData: in memory where they are small, else decoded when needed."""
    decoded = decode_small(list(parts.values()))
    if decoded is not None:
        pixels = {part: (images, parts[part].labels) for part, images in zip(parts, decoded, strict=True)}
        return from_pixels(name, pixels, class_names, config)
    normalise = config.normalisation or _IMAGENET
    normalise.check_channels(3)
    train, evaluate = photo_transforms(config.image_size, normalise, flip=config.flip is not False)
    splits = {}
    for key, part in parts.items():
        examples = Examples(PartDataset(part), f"{key} of {name}", workers=config.workers, labels=part.labels)
        indices = torch.arange(examples.size)
        splits[key] = DatasetSplit(examples=examples, indices=indices, train=train, evaluate=evaluate)
    return _image_data(name, splits, class_names, config, normalise)


def photo_transforms(size: int, normalise: Normalisation, *, flip: bool) -> tuple[Prepare, Prepare]:
    """Return ImageNet's usual transforms for (training, evaluation), from PIL to float32 [3, size, size].

    Training: random resized crop, and flip. Evaluation: the shorter side to size * 256 / 224, and centre
    crop.
    """
    from torchvision.transforms import v2

    mean, std = list(normalise.mean), list(normalise.std)
    end = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std), v2.ToPureTensor()]
    mirror = [v2.RandomHorizontalFlip()] if flip else []
    train = v2.Compose([v2.RandomResizedCrop(size, antialias=True), *mirror, *end])
    return train, v2.Compose([v2.Resize(round(size * 256 / 224), antialias=True), v2.CenterCrop(size), *end])


def from_python(source: object, config: DataConfig) -> ImageData:
    """Return a user's Dataset or DataLoader, or a tuple or dict of several, as an ImageData.

    Images are used as they are yielded (PIL and uint8 scaled to [0, 1]), and normalised only where the
    configuration says how. Raises DataError for anything else.
    """
    given = _named_parts(source)
    name = type(given["train"]).__name__
    splits = {part: _user_split(value, f"the {part} {name}", config) for part, value in given.items()}
    return _image_data(name, splits, (), config, config.normalisation)


def _named_parts(source: object) -> dict[str, object]:
    if isinstance(source, tuple):
        named: dict[str, object] = dict(zip(PARTS, source, strict=False))
        fits = 1 <= len(source) <= len(PARTS)
    elif isinstance(source, dict):
        named, fits = source, set(source) <= set(PARTS)
    else:
        named, fits = {"train": source}, True
    given = {part: value for part, value in named.items() if value is not None}
    if not fits or "train" not in given:
        got = sorted(map(str, source)) if isinstance(source, dict) else f"{len(given)} of them"
        raise DataError(
            "several parts must be a tuple (train[, val[, test]]) or a dict with the keys "
            f"{', '.join(PARTS)}, "
            f"train among them, but got a {type(source).__name__} with {got}"
        )
    return given


def _user_split(value: object, name: str, config: DataConfig) -> AnySplit:
    if isinstance(value, IterableDataset):
        value = DataLoader(value, batch_size=256, num_workers=config.workers)
    if isinstance(value, DataLoader):
        return loader_split(value, name, config.normalisation)
    if type(value) is TensorDataset and len(value.tensors) == 2 and value.tensors[0].ndim == 4:
        return _tensor_split(value, name, config.normalisation)
    if isinstance(value, Dataset):
        return user_split(value, name, config.normalisation, config.workers)
    raise DataError(
        f"data must be a torch Dataset or DataLoader (or a name or path), but got a {type(value).__name__}; "
        f"tensors fit into torch.utils.data.TensorDataset(images, labels)"
    )


def _tensor_split(dataset: TensorDataset, name: str, normalise: Normalisation | None) -> MemorySplit:
    images, labels = dataset.tensors
    if len(images) == 0:
        raise EmptyData(f"a data set needs at least one example, but {name} has none; check its source")
    if normalise is not None:
        normalise.check_channels(images.shape[1])
    return MemorySplit(
        images=images if images.dtype == torch.uint8 else to_float(images, None),
        all_labels=as_labels(labels, name),
        indices=torch.arange(len(labels)),
        normalise=normalise,
        augmentation=None,
    )


def _image_data(
    name: str,
    splits: Mapping[str, AnySplit],
    class_names: tuple[str, ...],
    config: DataConfig,
    normalise: Normalisation | None,
) -> ImageData:
    """Hold out validation where it is missing; count and check the classes. The test part is left alone."""
    train, val, test = splits["train"], splits.get("val"), splits.get("test")
    if config.val_fraction is not None and val is not None and test is None:  # ImageNet: its `val` is for the end
        val, test = None, val
    largest = max(int(split.labels.max()) for split in (train, val) if split is not None)
    if val is None:
        fraction = 0.1 if config.val_fraction is None else config.val_fraction
        kept, held = hold_out(train.labels, fraction, seed=config.seed, where=f"the training part of {name}")
        train, val = train.select(kept), train.select(held)
    images, _ = next(iter(val.batches(1)))
    data = ImageData(
        name=name,
        train=train,
        val=val,
        test=test,
        num_classes=len(class_names) or largest + 1,
        input_shape=(images.shape[1], images.shape[2], images.shape[3]),
        class_names=class_names or numbered(largest + 1),
        mean=() if normalise is None else normalise.mean,
        std=() if normalise is None else normalise.std,
    )
    if class_names:  # known to the source, which then also has its labels at hand
        for part, split in splits.items():
            check_labels(split.labels, data.num_classes, f"the {part} part of {name}")
    return data
