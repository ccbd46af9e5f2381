"""How much the resident memory of this process grows while something runs."""

import ctypes
import gc
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from torch import nn

__all__ = ["model_bytes", "peak_growth"]

T = TypeVar("T")

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def peak_growth(action: Callable[[], T]) -> tuple[T, int]:
    """What an action returns, and by how many bytes the process grew above its size before, at the highest.

    Unused memory is handed back to the system first, and the kernel's high-water mark of this process is set to its
    present size (``clear_refs``), so that whatever ran before does not hide the peak. Where the kernel has no such
    switch the growth of ``ru_maxrss`` is returned, which can only be less.
    """
    gc.collect()
    _trim()
    if _reset():
        before = _kernel("VmRSS")
        result = action()
        return result, max(0, _kernel("VmHWM") - before)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = action()
    return result, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def model_bytes(model: nn.Module) -> int:
    """Bytes of the parameters and buffers, shared ones once."""
    tensors = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in model.state_dict().values()}
    return sum(tensors.values())


def _trim() -> None:
    """Let the C library give back what it holds in reserve (glibc only)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _reset() -> bool:
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return _STATUS.exists()


def _kernel(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
