"""What the coverage run measures, within which limits, and where it puts the results."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from benchmarks.processes import ROOT
from widthwise.errors import ConfigError

__all__ = ["CoverageConfig", "Tool", "minutes_of"]

Tool = Literal["widthwise", "torch_pruning", "fastnas"]
"""Ours first, then the peers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CoverageConfig:
    """Settings of one run; what was measured before with the same versions is not measured again."""

    only: str = "*"
    """Names to measure, with wildcards: ``torchvision/resnet*``, ``timm/*``."""
    tools: tuple[Tool, ...] = field(default=get_args(Tool))
    """Tools to measure."""
    workers: int = 2
    """Networks measured at once, each in a process of its own."""
    threads: int = 1
    """Torch threads of each process."""
    memory_gib: float = 20.0
    """Resident memory of all processes together; a network that needs more than its share is tried again alone."""
    minutes: float = 15.0
    """Time limit of one network with Widthwise, everything that is measured included."""
    peer_minutes: float = 5.0
    """Time limit of one network with a peer."""
    render: bool = False
    """Write the page from the journal and measure nothing."""
    remark: str = ""
    """For the page, on how the run was made: what else the machine did meanwhile."""
    work: Path = ROOT / "runs" / "coverage"
    """Folder of the journal (ignored by git)."""
    page: Path = ROOT / "docs" / "coverage.md"
    """The page; where anything is missing it goes into ``work`` instead."""
    results: Path = ROOT / "benchmarks" / "results"
    """Folder of the raw results."""

    def __post_init__(self) -> None:
        numbers = (self.workers, self.threads, self.memory_gib, self.minutes, self.peer_minutes)
        if not self.tools or min(numbers) <= 0:
            raise ConfigError(
                "A coverage run needs a tool, a worker, a thread, memory and time, but got "
                f"tools={self.tools}, workers={self.workers}, threads={self.threads}, "
                f"memory_gib={self.memory_gib}, minutes={self.minutes}, "
                f"peer_minutes={self.peer_minutes}. Give each a positive number."
            )


def minutes_of(config: CoverageConfig, tool: Tool) -> float:
    """The time limit of one network with a tool; no method, because a method would be a subcommand to jsonargparse."""
    return config.minutes if tool == "widthwise" else config.peer_minutes
