"""One network with one tool in a process of its own, and what it wrote down."""

import sys
import tempfile
from pathlib import Path
from threading import Event
from typing import Any

from benchmarks.processes import Limits, run_limited
from widthwise.errors import CorruptRun
from widthwise.runs import read_json

__all__ = ["run"]


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
        notes = Path(folder) / "notes.json"
        ended = run_limited([sys.executable, *command, str(notes)], limits, Path(folder) / "log.txt", stop=stop)
        facts = _read(notes) | {"wall_s": ended.seconds, "peak_gib": ended.peak_gib}
    return facts | {"outcome": "killed", "why": ended.why} if ended.stopped or "outcome" not in facts else facts


def _read(notes: Path) -> dict[str, Any]:
    try:
        return dict(read_json(notes))
    except CorruptRun:  # it ended before it wrote anything
        return {}
