"""Tensors and plain values in one file: written whole or not at all, read without unpickling anything else."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from widthwise.errors import CorruptRun
from widthwise.runs.atomic import write_atomic

__all__ = ["load_state", "readable", "save_state"]


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Replaces `path`.

    Raises:
        SaveFailed: the file cannot be written (full disk, permissions); the previous one is intact.
    """
    buffer = io.BytesIO()  # torch.save hides the reason when the disk it writes to is full
    torch.save(dict(state), buffer)
    write_atomic(path, lambda temporary: temporary.write_bytes(buffer.getbuffer()))


def load_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote, tensors on the CPU; use it inside `readable`."""
    with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums that torch.save writes
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside with a file is said of the file.

    Raises:
        CorruptRun: the file is truncated or damaged, or is something else.
    """
    try:
        yield
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError, UnpicklingError, KeyError, TypeError) as error:
        raise CorruptRun(
            f"a checkpoint must be whole, but {path} cannot be read ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no details'}); delete it to train from the start, "
            "or put back a copy"
        ) from error
