"""One network with one tool in a process of its own, stopped when it takes too much memory or time."""

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]

from widthwise.errors import CorruptRun
from widthwise.runs import read_json

__all__ = ["Limits", "run"]

INTERVAL = 0.2
"""Seconds between two looks at the memory."""

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Limits:
    """What a process may take."""

    memory_gib: float
    """Resident memory of the process and its children."""
    minutes: float
    """Wall time."""
    threads: int
    """Torch threads."""


def run(command: list[str], limits: Limits, stop: Event) -> dict[str, Any]:
    """What a process wrote down about its network, and how it ended.

    Args:
        command: arguments for this Python; the path of the file for the notes is appended.
        limits: beyond which the process is killed, with its children.
        stop: set when everything is to end now.

    Returns:
        The notes with ``outcome`` (``done``, ``raised`` or ``killed``), ``why`` unless done, ``wall_s`` and
        ``peak_gib``.
    """
    with tempfile.TemporaryDirectory(prefix="coverage-") as folder:
        notes, errors = Path(folder) / "notes.json", Path(folder) / "errors.txt"
        start = monotonic()
        with errors.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, *command, str(notes)],
                cwd=_ROOT,
                env={**os.environ, "OMP_NUM_THREADS": str(limits.threads), "MKL_NUM_THREADS": str(limits.threads)},
                stdout=subprocess.DEVNULL,
                stderr=sink,
                start_new_session=True,
            )
            why, peak = _watch(process, limits, start, stop)
        facts = _read(notes)
        facts |= {"wall_s": round(monotonic() - start, 1), "peak_gib": round(peak / 2**30, 2)}
        if why:
            facts |= {"outcome": "killed", "why": why}
        elif "outcome" not in facts:
            facts |= {"outcome": "killed", "why": f"died ({_ending(process.returncode)}): {_last_line(errors)}"}
        return facts


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


def _read(notes: Path) -> dict[str, Any]:
    try:
        return dict(read_json(notes))
    except CorruptRun:  # it ended before it wrote anything
        return {}


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _last_line(errors: Path) -> str:
    lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:240] if lines else "no message"
