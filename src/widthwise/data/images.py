"""Encoded images (files, or bytes in a Parquet column), and decoding small ones into memory."""

import io
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from widthwise.errors import UnreadableData

SMALL = 64
"""Pixels: images up to this height and width are kept in memory."""
MEMORY_LIMIT = 4 * 2**30
"""Bytes of decoded pixels that may be kept in memory, over all parts."""


@runtime_checkable
class Encoded(Protocol):
    """Encoded images by number."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def open(self, index: int) -> Image.Image:
        """Return image `index`, decoded, as L (any grey) or RGB. Raises UnreadableData, naming it."""
        ...


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Images as files."""

    paths: tuple[Path, ...]
    """One file per image."""

    def __len__(self) -> int:
        return len(self.paths)

    def open(self, index: int) -> Image.Image:
        """Return image `index`, decoded."""
        return decode(self.paths[index], str(self.paths[index]))


@dataclass(frozen=True, eq=False, slots=True)
class ImageRows:
    """Images as a column of Parquet files: encoded bytes, or structs of bytes and path."""

    column: pa.ChunkedArray
    """One row per image. Kept in Arrow's memory: Python objects would be copied by every forked worker."""
    files: tuple[tuple[Path, int], ...]
    """(file, number of its first row), increasing."""

    def __len__(self) -> int:
        return len(self.column)

    def open(self, index: int) -> Image.Image:
        """Return image `index`, decoded."""
        path, first = self.files[bisect_right(self.files, index, key=lambda file: file[1]) - 1]
        name = f"row {index - first} of {path}"
        return decode(_encoded(self.column[index].as_py(), path.parent, name), name)


def _encoded(cell: object, folder: Path, name: str) -> bytes | Path:
    if isinstance(cell, bytes):
        return cell
    fields = cell if isinstance(cell, dict) else {}
    if fields.get("bytes") is not None:
        return bytes(fields["bytes"])
    if fields.get("path"):
        return folder / str(fields["path"])
    raise UnreadableData(f"every row needs image bytes or a path, but {name} has neither; leave it out")


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """One part of a data set, as found: encoded images and their labels."""

    images: Encoded
    """n images."""
    labels: Int64[Tensor, " n"]
    """0 and above."""


class PartDataset(Dataset[tuple[Image.Image, int]]):
    """A part as a map-style dataset of (RGB image, label)."""

    def __init__(self, part: Part) -> None:
        self.part = part

    def __len__(self) -> int:
        return len(self.part.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self.part.images.open(index).convert("RGB"), int(self.part.labels[index])


def decode(source: bytes | Path, name: str) -> Image.Image:
    """Decode an image to L (grey: also with alpha, or one bit) or RGB. Raises UnreadableData, with `name`."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.mode.startswith(("I", "F")):
                raise UnreadableData(
                    f"images must have 8 bits per channel, but {name} is stored as {image.mode!r}; convert it"
                )
            return image.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB")
    except UnreadableData:
        raise
    except Exception as error:  # what a damaged file raises depends on Pillow's decoder
        raise UnreadableData(
            f"every image must be readable, but {name} is not ({type(error).__name__}: {error}); "
            f"replace it or leave it out"
        ) from error


def decode_small(parts: Sequence[Part]) -> list[UInt8[Tensor, "n c h w"]] | None:
    """Decode all parts into memory if their images are small and of one size; None if they are not.

    Grey images have one channel if all images of all parts are grey, else three. One thread decodes 60,000
    CIFAR JPEGs in about four seconds; more threads were slower (the decoder is too short to let go of the
    lock).
    """
    width, height = parts[0].images.open(0).size
    count = sum(len(part.images) for part in parts)
    if max(width, height) > SMALL or count * width * height * 3 > MEMORY_LIMIT:
        return None
    decoded = [_decode_part(part.images, height, width) for part in parts]
    arrays = [array for array, _ in decoded if array is not None]
    if len(arrays) < len(parts):
        return None
    channels = 1 if all(grey for _, grey in decoded) else 3
    return [torch.from_numpy(array[..., :channels]).permute(0, 3, 1, 2).contiguous() for array in arrays]


def _decode_part(images: Encoded, height: int, width: int) -> tuple[npt.NDArray[np.uint8] | None, bool]:
    """Return pixels [n, H, W, 3] (None if a size differs), and whether every image is grey."""
    pixels = np.empty((len(images), height, width, 3), dtype=np.uint8)
    grey = True
    for index in range(len(images)):
        image = images.open(index)
        if image.size != (width, height):
            return None, grey
        grey = grey and image.mode == "L"
        pixels[index] = np.asarray(image).reshape(height, width, -1)
    return pixels, grey
