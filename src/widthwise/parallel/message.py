"""What travels between a pool and its workers: what they are made of, tasks and answers.

Tasks and answers are small and travel by value. What a worker is made of may be large (a network, cached features),
so it is written down once for all workers of a machine: into memory that each of them maps copy-on-write. Reading it
costs no memory of their own, and what one of them changes no other sees.
"""

import io
import os
import pickle
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import torch

from widthwise.errors import ConfigError, TaskFailed

__all__ = ["Parcel", "answer", "evaluated", "opened", "outcome", "packed"]


def packed(make: Callable[[], Callable[[Any], Any]]) -> bytes:
    """What `opened` makes an evaluator of, in another process.

    Raises:
        ConfigError: it cannot be pickled.
    """
    buffer = io.BytesIO()
    _write(make, buffer)
    return buffer.getvalue()


def _write(make: Callable[[], Callable[[Any], Any]], file: io.BufferedIOBase) -> None:
    try:
        torch.save(make, cast(IO[bytes], file), pickle_protocol=pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"what makes the evaluator must be picklable to reach other processes, but: {error}; use a function or a "
            "dataclass at the top level of a module, or workers=0"
        ) from error


def opened(parcel: str | bytes) -> Callable[[Any], Any]:
    """Makes the evaluator of a packed parcel: a file's path (mapped copy-on-write), or the bytes themselves.

    All its tensors lie on the CPU; moving them to an accelerator is the maker's part.
    """
    # Nothing is unpickled but what this very program has just written, into memory of its own.
    if isinstance(parcel, str):
        make = torch.load(parcel, map_location="cpu", mmap=True, weights_only=False)
    else:
        make = torch.load(io.BytesIO(parcel), map_location="cpu", weights_only=False)
    evaluate: Callable[[Any], Any] = make()
    return evaluate


class Parcel:
    """A packed maker in memory that processes of this machine can map; `path` is valid until `close`.

    On Linux the memory has no name in any file system, so nothing is left behind even by a killed program.
    Elsewhere it is a temporary file that only this user can read.
    """

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        if sys.platform == "linux":
            handle = os.memfd_create("widthwise")
            self.path, self._named = f"/proc/{os.getpid()}/fd/{handle}", False
        else:
            handle, self.path = tempfile.mkstemp(prefix="widthwise-")
            self._named = True
        self._file: io.BufferedIOBase = os.fdopen(handle, "wb")
        try:
            _write(make, self._file)
            self._file.flush()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Frees the memory as soon as no worker maps it any more."""
        self._file.close()
        if self._named:
            Path(self.path).unlink(missing_ok=True)


def answer(call: Callable[[], object]) -> bytes:
    """What `call` returned or raised, to be read by `outcome` in another process."""
    try:
        return pickle.dumps((True, call()))
    except Exception as error:
        return pickle.dumps((False, (_portable(error), traceback.format_exc())))


def evaluated(evaluate: Callable[[Any], Any], task: bytes) -> Any:
    """What the evaluator returns for a pickled task."""
    return evaluate(pickle.loads(task))


def _portable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does when it is pickled
        return TaskFailed(f"{type(error).__name__}: {error}")
    return error


def outcome(message: bytes) -> Any:
    """What the call behind an `answer` returned; raises what it raised, with the worker's traceback as a note."""
    good, content = pickle.loads(message)
    if good:
        return content
    error, text = content
    error.add_note(f"In the worker:\n{text}")
    raise error
