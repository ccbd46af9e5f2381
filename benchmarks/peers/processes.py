"""A process for one network, with the interpreter of its tool's environment."""

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from threading import Event
from typing import Any

from benchmarks.peers.task import Task
from benchmarks.peers.variants import TOOLS
from benchmarks.processes import Limits, run_limited
from widthwise.errors import ConfigError
from widthwise.runs import read_json, write_json

__all__ = ["interpreters", "missing", "run"]


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


def run(task: Task, python: str, log: Path, stop: Event) -> dict[str, Any]:
    """What a process answered; ``failed`` where it died or took too long.

    Args:
        task: what to do.
        python: the interpreter.
        log: file for all that it prints.
        stop: ends it.
    """
    limits = Limits(minutes=task.settings.minutes, threads=task.settings.threads)
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        asked, answer = Path(folder) / "task.json", Path(folder) / "answer.json"
        write_json(asked, task.to_json())
        command = [python, "-m", "benchmarks.peers.child", str(asked), str(answer), str(os.getpid())]
        ended = run_limited(command, limits, log, stop=stop)
        value = dict(read_json(answer)) if answer.exists() else {"outcome": "failed", "why": ended.why}
    return {**value, "seconds": ended.seconds}
