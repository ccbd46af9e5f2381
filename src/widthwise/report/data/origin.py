"""Where a run comes from: machine, versions, seeds, and the command that makes it again."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from widthwise.methods import RunRecord

__all__ = ["Origin", "Start", "command_line", "origin_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """One process that worked on the run."""

    date: str
    command: str
    python: str
    packages: Mapping[str, str]
    machine: str
    """Processor, number of cores and threads, accelerators."""
    platform: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """All that is needed to do it again."""

    starts: tuple[Start, ...]
    """More than one where the run was gone on with."""
    seeds: Mapping[str, int]
    """Every seed among the settings, by its path."""
    model: str
    """Class of the network, and a digest of the weights that it came with."""
    data: Mapping[str, int]
    """Images by part."""
    settings: str
    """The whole configuration, JSON."""

    @property
    def command(self) -> str | None:
        """Of the last start; None where it was not written down."""
        return self.starts[-1].command if self.starts else None


def origin_of(run: RunRecord) -> Origin:
    """Where a run comes from."""
    data = run.config["data"]
    return Origin(
        starts=tuple(_start(entry) for entry in run.environments),
        seeds=dict(_seeds(run.config)),
        model=f"{run.config['model']['class']} (weights {run.config['model']['weights']})",
        data={part: data[part][0] for part in ("train", "val", "test") if part in data},
        settings=json.dumps(run.config, indent=2),
    )


def command_line(arguments: Sequence[str]) -> str:
    """``sys.argv`` as one would type it, without the folder that Python and its programs lie in."""
    if not arguments:
        return "(not written down)"
    if arguments[0] in ("", "-c"):
        return "(from Python)"
    program, rest = PurePath(arguments[0]), list(arguments[1:])
    if program.name in ("__main__.py", "-m") or program.parts[-2:] == ("widthwise", "cli.py"):
        return shlex.join(["python", "-m", program.parent.name or "widthwise", *rest])
    if program.suffix == ".py":
        return shlex.join(["python", str(program), *rest])
    return shlex.join([program.name, *rest])


def _start(entry: Mapping[str, Any]) -> Start:
    devices = entry.get("devices") or []
    cores, threads = entry.get("cpu_count"), entry.get("torch_threads")
    machine = f"{entry.get('cpu') or entry.get('machine', 'unknown')}, {cores} cores, torch threads: {threads}"
    return Start(
        date=str(entry.get("date", "")).replace("T", " ").replace("+00:00", " UTC"),
        command=command_line(entry.get("command", [])),
        python=str(entry.get("python", "")),
        packages={name: str(version) for name, version in sorted(entry.get("packages", {}).items()) if version},
        machine=f"{machine}, {', '.join(devices)}" if devices else machine,
        platform=str(entry.get("platform", "")),
    )


def _seeds(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, int]]:
    for name, value in settings.items():
        here = f"{path}.{name}".removeprefix(".")
        if isinstance(value, dict):
            yield from _seeds(value, here)
        elif name == "seed" and isinstance(value, int):
            yield here, value
