"""`load_data`, and the one table of the data sets that have a name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset

from widthwise.data.assemble import Pixels, from_encoded, from_pixels, from_python
from widthwise.data.config import DEFAULT_ROOT, DataConfig
from widthwise.data.files import image_folder, parquet, parquet_paths
from widthwise.data.order import hold_out
from widthwise.data.splits import ImageData, numbered
from widthwise.errors import DataError, UnreadableData

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

DataSource = str | Path | Dataset[Any] | DataLoader[Any] | tuple[Any, ...] | dict[str, Any] | ImageData
"""What `load_data` takes."""


def digits(_path: str, config: DataConfig) -> ImageData:
    """1797 grey images of 8x8 pixels, inside scikit-learn. A fifth, always the same, is the test part."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # Ink 0..16 spread over 0..255, so that all small images are held alike.
    images = torch.from_numpy(bunch.images).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).long()
    rest, test = hold_out(labels, 0.2, seed=0, where="digits")
    if config.val_fraction is None:
        config = replace(config, val_fraction=0.25)  # 60 / 20 / 20
    parts = {"train": (images[rest], labels[rest]), "test": (images[test], labels[test])}
    return from_pixels("digits", parts, numbered(10), config)


def cifar10(_path: str, config: DataConfig) -> ImageData:
    """CIFAR-10: 50,000 and 10,000 colour images of 32x32 pixels, downloaded into the root on first use."""
    from torchvision.datasets import CIFAR10

    return _cifar(CIFAR10, "cifar10", config)


def cifar100(_path: str, config: DataConfig) -> ImageData:
    """CIFAR-100, as CIFAR-10 with 100 classes."""
    from torchvision.datasets import CIFAR100

    return _cifar(CIFAR100, "cifar100", config)


def folder(path: str, config: DataConfig) -> ImageData:
    """A folder of images in torchvision's layout."""
    root = Path(path).expanduser()
    return from_encoded(f"folder:{root.name}", *image_folder(root), config)


def parquet_files(path: str, config: DataConfig) -> ImageData:
    """A Parquet file or folder in the layout of Hugging Face's `datasets`."""
    source = Path(path).expanduser()
    return from_encoded(f"parquet:{source.name}", *parquet(source), config)


LOADERS: dict[str, Callable[[str, DataConfig], ImageData]] = {
    "digits": digits,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "folder:PATH": folder,
    "parquet:PATH": parquet_files,
}
"""Every data set with a name: how it is written, and what loads it (given PATH and the settings)."""


def load_data(
    source: DataSource,
    *,
    val_fraction: float | None = None,
    seed: int = 0,
    root: str | Path = DEFAULT_ROOT,
    image_size: int = 224,
    workers: int = 0,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    flip: bool | None = None,
) -> ImageData:
    """Load a data set as training, validation and (where the source has one) test part.

    Where the source has no validation part, a stratified share of the training part is held out, fixed by
    `seed`. The test part is the source's own and never depends on `seed`.

    Images up to 64x64 pixels, of one size and of 4 GiB together live in memory as uint8 and are transformed in
    batches on the device: `augment` crops them at random after padding by an eighth of the height, and mirrors
    half of them. All others are decoded when needed: random resized crop and flip with `augment`, else resize and
    centre crop, both to `image_size`.

    Normalisation where `mean` and `std` are not set: ImageNet's for colour; for grey the statistics of the
    training part; none for a Dataset or DataLoader (floats as they are yielded, uint8 and PIL scaled to [0,
    1]).

    Args:
        source: one of the forms in `LOADERS`; an existing path; a map-style Dataset of (image, label); a
            DataLoader of (images, labels); a tuple (train[, val[, test]]) or dict of such; an ImageData,
            which passes through. A split by `val_fraction` of a Dataset that augments also augments
            validation: pass (train, val).
        val_fraction: see `DataConfig`, like all settings.
        seed: decides which images are held out.
        root: where downloads are kept.
        image_size: height and width that big images are cropped to.
        workers: processes that decode big images and read a Dataset.
        mean: per channel, for images in [0, 1].
        std: set together with `mean`.
        flip: whether `augment` mirrors.

    Raises:
        ConfigError: a setting outside its range.
        DataError: an unknown name or kind of source.
        UnreadableData: a missing path, a damaged file or image, wrong columns, no download.
        EmptyData: no image, or too few of a class to hold some out.
        LabelOutOfRange: a negative label, or one without a class.
    """
    config = DataConfig(
        val_fraction=val_fraction,
        seed=seed,
        root=root,
        image_size=image_size,
        workers=workers,
        mean=mean,
        std=std,
        flip=flip,
    )
    if isinstance(source, ImageData):
        return source
    if not isinstance(source, str | Path):
        return from_python(source, config)
    form, path = _form(str(source))
    return LOADERS[form](path, config)


def _form(source: str) -> tuple[str, str]:
    """Return (key of LOADERS, path) for a name, a form with a path, or a bare path."""
    kind, colon, path = source.partition(":")
    if source in LOADERS and not colon:
        return source, ""
    if path and f"{kind}:PATH" in LOADERS:
        return f"{kind}:PATH", path
    place = Path(source).expanduser()
    if place.is_file() or (source and parquet_paths(place)):
        return "parquet:PATH", source
    if place.is_dir() and source:
        return "folder:PATH", source
    kind_of_error = UnreadableData if place.name != source else DataError
    raise kind_of_error(
        f"data must be one of {', '.join(LOADERS)}, or the path of an image folder or of Parquet files, "
        f"but got {source!r}, which is neither a name nor an existing path; check the spelling"
    )


def _cifar(kind: "type[CIFAR10]", name: str, config: DataConfig) -> ImageData:
    root = Path(config.root).expanduser()
    try:
        sources = {part: kind(root, train=part == "train", download=True) for part in ("train", "test")}
    except (OSError, RuntimeError) as error:
        raise UnreadableData(
            f"{name} must be downloadable or already in {root}, but it could not be read ({error}); get "
            f"{kind.filename} from {kind.url} on a machine with access and put it there (it is unpacked "
            "for you)"
        ) from error
    parts: dict[str, Pixels] = {
        part: (torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(source.targets))
        for part, source in sources.items()
    }
    return from_pixels(name, parts, tuple(sources["train"].classes), config)
