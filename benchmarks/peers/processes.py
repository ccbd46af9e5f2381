"""A process for one network, with the interpreter of its tool's environment."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.peers.task import Task
from benchmarks.peers.variants import TOOLS
from widthwise.errors import ConfigError
from widthwise.runs import read_json, write_json

__all__ = ["interpreters", "missing", "run"]

_ROOT = Path(__file__).resolve().parents[2]


def interpreters(given: list[str]) -> dict[str, str]:
    """The interpreter of each tool: ``PATH`` for all, ``TOOL=PATH`` for one; this one where nothing is said.

    Raises:
        ConfigError: there is no such tool or no such file.
    """
    found = dict.fromkeys(TOOLS, sys.executable)
    for text in given:
        tool, equals, path = text.rpartition("=")
        if (equals and tool not in TOOLS) or not Path(path).is_file():
            raise ConfigError(
                f"--python takes an interpreter, as PATH or as TOOL=PATH with a tool of {', '.join(TOOLS)}, but got "
                f"{text!r}."
            )
        found |= {tool: path} if equals else dict.fromkeys(TOOLS, path)
    return found


def missing(tool: str, python: str) -> str:
    """How to install a tool that this interpreter does not have; empty where it does (or is another one)."""
    if python != sys.executable or importlib.util.find_spec(TOOLS[tool].module) is not None:
        return ""
    return f"{TOOLS[tool].title} is not installed here: see benchmarks/peers/environments/{TOOLS[tool].environment}"


def run(task: Task, python: str, log: Path) -> dict[str, Any]:
    """What a process answered; ``failed`` where it died or took too long.

    Args:
        task: what to do.
        python: the interpreter.
        log: file for all that it prints.
    """
    threads = str(task.settings.threads)
    paths = os.pathsep.join([str(_ROOT), str(_ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    log.parent.mkdir(parents=True, exist_ok=True)
    start = perf_counter()
    with tempfile.TemporaryDirectory(prefix="peers-") as folder, log.open("wb") as sink:
        asked, answer = Path(folder) / "task.json", Path(folder) / "answer.json"
        write_json(asked, task.to_json())
        command = [python, "-m", "benchmarks.peers.child", str(asked), str(answer), str(os.getpid())]
        try:
            code = subprocess.run(
                command, env=environment, stdout=sink, stderr=subprocess.STDOUT, timeout=60 * task.settings.minutes
            ).returncode
            why = f"ended with code {code}"
        except subprocess.TimeoutExpired:
            why = f"took more than {task.settings.minutes:g} minutes"
        value = dict(read_json(answer)) if answer.exists() else {"outcome": "failed", "why": f"{why}: {_last(log)}"}
    return {**value, "seconds": round(perf_counter() - start, 1)}


def _last(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "no message"
