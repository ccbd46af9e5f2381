"""The append-only journal of a run: its file is the truth, the state of a run is its replay.

One JSON object per line, compact, with sorted keys. Each line carries ``"crc"``, the CRC-32 of the line
without it: it costs a microsecond and turns a changed digit in an otherwise valid line, which would silently
alter a resumed search, into an error. The first line is ``{"crc":...,"event":"header","format":1}``.

A line has left the process before `Journal.append` returns. A process killed within `append` leaves a torn last
line; it is forgiven, because nobody was told that it was written. A torn line anywhere else is damage.
"""

import fcntl
import json
import os
import weakref
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from widthwise.errors import CorruptRun, RunError
from widthwise.runs.atomic import save_failed, sync_folder

__all__ = ["FORMAT", "Journal", "read_events"]

FORMAT = 1
"""The version of the journal's format; a reader refuses a newer one."""

SYNC_SECONDS = 1.0
"""The disk is not told to keep what was written more often than this."""

_HEADER = {"event": "header", "format": FORMAT}


def _dump(event: Mapping[str, Any]) -> bytes:
    text = json.dumps(dict(event), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.encode("utf-8")


def _encode(event: Mapping[str, Any]) -> bytes:
    return _dump({**event, "crc": f"{zlib.crc32(_dump(event)):08x}"}) + b"\n"


def _decode(line: bytes) -> dict[str, Any] | None:
    """The event of a line without its newline, None when the line is damaged."""
    try:
        event = json.loads(line)
        if not isinstance(event, dict):
            return None
        event.pop("crc", None)
        return event if _encode(event) == line + b"\n" else None
    except (ValueError, RecursionError):
        return None


def _replay(path: Path, content: bytes) -> tuple[list[dict[str, Any]], int]:
    """The events with the header first, and the number of bytes that they take up in `content`."""
    lines = content.split(b"\n")
    torn = lines.pop()
    events: list[dict[str, Any]] = []
    size = 0
    for number, line in enumerate(lines, start=1):
        event = _decode(line)
        if event is None:
            if number == len(lines) and not torn and events:
                break
            raise _damaged(path, number)
        events.append(event)
        size += len(line) + 1
    if not events and not _encode(_HEADER).startswith(torn.strip(b"\0")):
        raise _damaged(path, 1)
    _check_header(path, events)
    return events, size


def _check_header(path: Path, events: list[dict[str, Any]]) -> None:
    if not events:
        return
    header = events[0]
    if header.get("event") != "header" or not isinstance(header.get("format"), int):
        raise _damaged(path, 1)
    if header["format"] > FORMAT:
        raise RunError(
            f"this version reads journals up to format {FORMAT}, but {path} has format {header['format']}; "
            "use the newer Widthwise that wrote it, or another folder"
        )


def _damaged(path: Path, number: int) -> CorruptRun:
    return CorruptRun(
        f"each line of a journal must be whole (only a torn last line is forgiven), but line {number} of "
        f"{path} is damaged or was changed; restore the file from a backup, or move the folder away and run "
        "the command again from the start"
    )


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of a journal, oldest first, without its header; takes no lock and changes nothing.

    For reports on a run, also on one that is under way: a last line that is still being written is left out.

    Raises:
        CorruptRun: the file is missing, cannot be read, or a line before the last is damaged.
        RunError: a newer version wrote it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CorruptRun(
            f"a run has a journal, but {path} cannot be read: {error.strerror}; name the folder of a run"
        ) from error
    return _replay(path, content)[0][1:]


class Journal:
    """An open journal: replays what is there, then appends. One process at a time may hold it.

    Use `Journal.open`, and close it (or use ``with``) to let another process go on. The lock goes with the
    process, however it ends.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle: int | None = handle
        self._events: list[dict[str, Any]] = []
        self._size = 0
        self._synced = -SYNC_SECONDS
        _open_journals.add(self)

    @classmethod
    def open(cls, path: Path) -> "Journal":
        """Opens the journal at `path` for writing, or starts one; a torn last line is cut off.

        Raises:
            CorruptRun: a line before the last is damaged, or the file is no journal. It is left as it is.
            RunError: another process holds the journal, or a newer version wrote it.
            SaveFailed: the file cannot be created or written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise save_failed(path, error) from error
        journal = cls(path, handle)
        try:
            _lock(path, handle)
            journal._load(handle)
        except BaseException:
            journal.close()
            raise
        return journal

    @property
    def path(self) -> Path:
        """Where the journal lies."""
        return self._path

    @property
    def events(self) -> tuple[dict[str, Any], ...]:
        """Everything appended so far, also by earlier processes, oldest first, without the header."""
        return tuple(self._events)

    def append(self, event: Mapping[str, Any]) -> None:
        """Puts one event at the end.

        When this returns a killed process has not lost it. The disk is told to keep it through a loss of power at
        most a second later than the next event, and on closing: telling it after every one of many small events would
        take longer than what they tell of.

        Floats come back exactly. What `events` holds afterwards is what a later replay will read
        (so tuples are lists).

        Raises:
            RunError: the event holds NaN or infinity or something that JSON has no form for, keys that are
                not text, a key named "crc", or the journal is closed.
            SaveFailed: the disk is full or the like; the journal is as it was before the call.
        """
        line, replayed = _checked_line(event)
        self._write(line)
        self._events.append(replayed)

    def close(self) -> None:
        """Gives the journal up, so that another process can open it. Closing twice is fine."""
        if self._handle is not None:
            with suppress(OSError):
                os.fsync(self._handle)
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _load(self, handle: int) -> None:
        events, self._size = _replay(self._path, self._path.read_bytes())
        self._events = events[1:]
        _truncate(self._path, handle, self._size)
        if not events:
            self._write(_encode(_HEADER))
            sync_folder(self._path.parent)

    def _write(self, line: bytes) -> None:
        if self._handle is None:
            raise RunError(f"the journal must be open, but {self._path} was closed; open it again")
        try:
            written = os.write(self._handle, line)
            if written != len(line):
                raise OSError(0, f"only {written} of {len(line)} bytes were written; the disk may be full")
            if monotonic() - self._synced >= SYNC_SECONDS:
                os.fsync(self._handle)
                self._synced = monotonic()
        except OSError as error:
            self._undo()
            raise save_failed(self._path, error) from error
        self._size += len(line)

    def _undo(self) -> None:
        # Half a line must not stay in front of the next one; if it cannot be cut off, nothing may follow it.
        try:
            if self._handle is not None:
                os.ftruncate(self._handle, self._size)
        except OSError:
            self.close()


def _checked_line(event: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """The line of an event, and the event as a replay will read it."""
    rule = "an event must be plain JSON data with text keys, finite numbers and no key 'crc'"
    reason = "not readable again"
    try:
        line = _encode(event)
        replayed = _decode(line[:-1])
    except (TypeError, ValueError, RecursionError) as error:
        reason, replayed, line = str(error), None, b""
    if replayed is None or "crc" in event or not _has_text_keys(event):
        raise RunError(
            f"{rule}, but got {dict(event)!r} ({reason if replayed is None else 'its keys'}); store None for "
            "what is not a finite number, lists for arrays, and rename other keys"
        )
    return line, replayed


def _has_text_keys(value: object) -> bool:
    """False where JSON would silently turn a key such as 1 into "1"."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _has_text_keys(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_has_text_keys(item) for item in value)
    return True


def _lock(path: Path, handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunError(
            f"one process at a time may work on a run, and another one holds {path}; wait until it ends, "
            "stop it, or name another folder"
        ) from error
    except OSError as error:
        raise RunError(
            f"a run folder must be on a file system with locks (flock), but {path} gave: {error.strerror}; "
            "name a folder on a local disk"
        ) from error


def _truncate(path: Path, handle: int, size: int) -> None:
    try:
        if os.fstat(handle).st_size != size:
            os.ftruncate(handle, size)
            os.fsync(handle)
    except OSError as error:
        raise save_failed(path, error) from error


_open_journals: "weakref.WeakSet[Journal]" = weakref.WeakSet()


def _close_in_child() -> None:
    # A forked child (a data loader's worker) shares the lock and may outlive a killed parent by seconds;
    # closing its copy of the handle leaves the parent's lock in place and lets a resumed run start at once.
    for journal in list(_open_journals):
        journal.close()


os.register_at_fork(after_in_child=_close_in_child)
