"""A process of its own for one measurement, stopped with all its children when it takes too much memory or time."""

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from threading import Event
from time import monotonic

import psutil

__all__ = ["ROOT", "Ended", "Limits", "run_limited"]

ROOT = Path(__file__).resolve().parents[1]
"""Of the repository."""

INTERVAL = 0.2
"""Seconds between two looks at the memory."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a process may take."""

    minutes: float
    """Wall time."""
    threads: int
    """Torch threads."""
    memory_gib: float = inf
    """Resident memory of the process and its children."""


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    stopped: str
    """Why it was killed; empty if it ended by itself."""
    code: int
    """Its exit status; the negative number of a signal."""
    last: str
    """The last line that it printed."""
    seconds: float
    """Wall time."""
    peak_gib: float
    """Most resident memory that was seen."""

    @property
    def why(self) -> str:
        """In a sentence, for a process that left no answer."""
        ending = f"signal {signal.Signals(-self.code).name}" if self.code < 0 else f"exit code {self.code}"
        return self.stopped or f"died ({ending}): {self.last}"


def run_limited(
    command: Sequence[str],
    limits: Limits,
    log: Path,
    *,
    stop: Event | None = None,
) -> Ended:
    """Run a command to its end, or to its limits; a Python finds this repository, in whatever environment it is.

    Args:
        command: the program and its arguments.
        limits: beyond which the process is killed, with its children.
        log: file for all that it prints; its folder is made.
        stop: set when everything is to end now.
    """
    threads = {"OMP_NUM_THREADS": str(limits.threads), "MKL_NUM_THREADS": str(limits.threads)}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    log.parent.mkdir(parents=True, exist_ok=True)
    start = monotonic()
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            env={**os.environ, **threads, "PYTHONPATH": paths},
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        stopped, peak = _watch(process, limits, start, stop or Event())
    return Ended(stopped, process.returncode, _last_line(log), round(monotonic() - start, 1), round(peak / 2**30, 2))


def _watch(process: subprocess.Popen[bytes], limits: Limits, start: float, stop: Event) -> tuple[str, int]:
    """Why the process was killed (empty if it ended by itself), and the most memory that was seen, in bytes."""
    peak, why = 0, ""
    try:
        while process.poll() is None and not why:
            used = _resident(process.pid)
            peak = max(peak, used)
            if used > limits.memory_gib * 2**30:
                why = f"more than {limits.memory_gib:g} GiB"
            elif monotonic() - start > 60 * limits.minutes:
                why = f"more than {limits.minutes:g} minutes"
            elif stop.wait(INTERVAL):
                why = "stopped"
    finally:
        _kill(process)
    return why, peak


def _resident(pid: int) -> int:
    """Bytes of a process and its children; zero where it is gone."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            total += process.memory_info().rss
    except psutil.Error:
        return total
    return total


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the whole session of a process, if anything of it is left."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:240] if lines else "no message"
