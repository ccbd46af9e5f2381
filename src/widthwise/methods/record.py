"""A run as it lies on disk, read for reports and comparisons: it locks and changes nothing."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from widthwise.errors import CorruptRun
from widthwise.methods.joint import STATE
from widthwise.runs.atomic import read_json
from widthwise.runs.folder import RunPaths
from widthwise.runs.journal import read_events
from widthwise.runs.phases import is_finished, phase_seconds, was_cut
from widthwise.train.checkpoint import read_history
from widthwise.train.history import History

__all__ = ["PARENTS", "RunRecord", "parent_of"]

PARENTS = ("supernet", "coarse")
"""Trainings of a full network that are part of a search."""


def parent_of(path: Path) -> str | None:
    """The training of a full network inside the search of a run whose checkpoints are there; None without one."""
    checkpoints = RunPaths(path).checkpoints
    return next((name for name in PARENTS if (checkpoints / f"{name}.pt").exists()), None)


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run, also of one that is under way or was cut."""

    path: Path
    config: dict[str, Any]
    """The settings that decide the outcome."""
    events: tuple[dict[str, Any], ...]
    """The journal."""
    result: dict[str, Any] | None
    """``result.json``: figures before and after, widths and multiply-adds per layer; None before the end."""
    environments: tuple[dict[str, Any], ...]
    """One for each start: versions, machine, seeds and command."""

    @classmethod
    def read(cls, path: str | Path) -> "RunRecord":
        """Read a run folder.

        Raises:
            CorruptRun: it is no run, or a file of it is damaged.
        """
        paths = RunPaths(path)
        if not paths.journal_path.exists():
            raise CorruptRun(
                f"A run folder holds a {paths.journal_path.name}, but {path} has none. Give the folder of a run, as "
                "`widthwise prune --run` or compress(run=...) named it."
            )
        done = paths.result_path.exists()
        return cls(
            paths.path,
            read_json(paths.config_path),
            tuple(read_events(paths.journal_path)),
            read_json(paths.result_path) if done else None,
            tuple(read_json(paths.environment_path)) if paths.environment_path.exists() else (),
        )

    @property
    def method(self) -> str:
        """The class of the method."""
        return str(self.config.get("method", {}).get("class", "unknown"))

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return self.result is not None and is_finished(self.events)

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time by phase (``train``, ``search``, ``finetune``, ``measure``), over all processes."""
        return phase_seconds(self.events)

    @property
    def cut(self) -> bool:
        """Whether a process was killed at work, so that ``seconds`` is a lower bound."""
        return was_cut(self.events)

    @property
    def parent(self) -> str | None:
        """The training of a full network inside the search, whose figures then are those before; None where they are
        those of the network that was given."""
        if self.result is not None and "parent" in self.result:
            return None if self.result["parent"] is None else str(self.result["parent"])
        return parent_of(self.path)  # not finished

    def of(self, event: str) -> list[dict[str, Any]]:
        """The events of one kind, in order."""
        return [e for e in self.events if e.get("event") == event]

    @cached_property
    def trainings(self) -> dict[str, History]:
        """What each training did, by its name, where its checkpoint is there."""
        found: dict[str, History] = {}
        for file in sorted(RunPaths(self.path).checkpoints.glob("[!.]*.pt")):  # not what is being written
            if file.name == STATE:  # no training
                continue
            try:
                found[file.stem] = read_history(file)
            except CorruptRun:
                if file.exists():  # a run under way deletes what nothing will go on from
                    raise
        return found
