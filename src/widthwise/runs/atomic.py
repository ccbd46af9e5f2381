"""Files that are either the old one or the new one, whole: after a crash, a SIGKILL or on a full disk.

The new content goes to a temporary file in the same folder, is flushed to the disk, and then takes the old
file's place in one step (``rename`` is atomic on POSIX file systems). A process killed in between leaves
at most files that match `TEMPORARY`, which nothing reads.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from widthwise.errors import CorruptRun, SaveFailed

__all__ = [
    "TEMPORARY",
    "read_json",
    "remove_temporaries",
    "save_failed",
    "sync_folder",
    "write_atomic",
    "write_json",
]

TEMPORARY = (".*.tmp*", ".tmp??????")
"""Glob patterns of what a killed process may leave behind: ours, and safetensors' own temporary files."""


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Replaces `path` by what `write` puts into the temporary file that it is given, or leaves it alone.

    The temporary file keeps the suffix of `path`, because some writers choose the format by it. Missing
    folders are created. If `path` is a symbolic link, the file that it points to is replaced.

    Raises:
        SaveFailed: the operating system refused (full disk, quota, permission, ...). What was at `path`
            before is intact and the temporary file is gone. Errors that are not about writing, such as a
            mistake inside `write`, pass through unchanged; `path` is intact then as well.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        _sync_file(temporary)
        temporary.replace(target)
        sync_folder(target.parent)
    except (OSError, SafetensorError, RuntimeError) as error:
        if not _is_write_failure(error):
            raise
        raise save_failed(path, error) from error
    finally:
        _discard(temporary)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` to `path` as sorted, indented JSON, atomically.

    Raises:
        SaveFailed: as `write_atomic`.
        TypeError, ValueError: `value` holds something that JSON has no form for (also NaN and infinity).
    """
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Writes text to `path` in UTF-8, atomically.

    Raises:
        SaveFailed: as `write_atomic`.
    """
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Any:
    """The value that `path` holds.

    Raises:
        CorruptRun: the file is missing, cannot be read or is not JSON.
    """
    remedy = "restore it from a backup, or move the folder away and run the command again"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CorruptRun(f"a run needs {path}, but it cannot be read: {error.strerror}; {remedy}") from error
    except ValueError as error:
        raise CorruptRun(f"{path} must hold JSON, but it does not: {error}; {remedy}") from error


def remove_temporaries(folder: Path) -> None:
    """Deletes what killed writers left in `folder` and below; nobody else may be writing there."""
    for pattern in TEMPORARY:
        for leftover in sorted(folder.rglob(pattern)):
            _discard(leftover)


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` (a new or replaced file) survive a loss of power."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save_failed(path: Path, error: Exception) -> SaveFailed:
    """The error to raise when `path` could not be written because of `error`."""
    return SaveFailed(
        f"a file must be written whole or not at all, and {path} could not be written: {_reason(error)}; "
        "the previous file is intact; free space and run the same command again"
    )


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _discard(path: Path) -> None:
    # A temporary file that cannot be removed must not hide the error that matters.
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _is_write_failure(error: Exception) -> bool:
    """Whether the operating system refused to write; safetensors and torch hide that in their own errors."""
    if isinstance(error, OSError):
        return True
    text = str(error)
    if isinstance(error, SafetensorError):
        return "os error" in text or "I/O error" in text
    return "PytorchStreamWriter" in text or "inline_container" in text


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    reason = str(error).splitlines()[0]
    if isinstance(error, SafetensorError):
        return reason
    return f"torch.save stopped early, as it does on a full disk ({reason})"
