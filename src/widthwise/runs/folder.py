"""The folder of a run: its files, and the rule that it belongs to one configuration and one process.

::

    config.json          the settings that decide the result; a resumed run must have the same
    journal.jsonl        everything that was asked and told, append-only (see `journal`)
    environment.json     a list: one entry for each start until the end, with versions, machine, seeds and command
    latency.json         what the modules take, where the budget limits latency
    checkpoints/         training states
    model.safetensors    the small network's tensors
    subnet.json          how to build the small network
    result.json          figures before and after, widths and multiply-adds per layer
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from widthwise.errors import CorruptRun, RunMismatch
from widthwise.runs.atomic import read_json, remove_temporaries, save_failed, write_json
from widthwise.runs.environment import describe_environment
from widthwise.runs.journal import Journal
from widthwise.runs.phases import is_finished

__all__ = ["RunFolder", "RunPaths", "check_same"]

_MISSING = "(not set)"
_MAX_LISTED = 20


class RunPaths:
    """Where the files of a run lie. Creates, locks and checks nothing: for reading any run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def config_path(self) -> Path:
        """The settings, JSON."""
        return self.path / "config.json"

    @property
    def journal_path(self) -> Path:
        """The journal, JSON lines."""
        return self.path / "journal.jsonl"

    @property
    def environment_path(self) -> Path:
        """The environments, a JSON list."""
        return self.path / "environment.json"

    @property
    def model_path(self) -> Path:
        """The small network's tensors, safetensors."""
        return self.path / "model.safetensors"

    @property
    def subnet_path(self) -> Path:
        """How to build the small network, JSON."""
        return self.path / "subnet.json"

    @property
    def result_path(self) -> Path:
        """The figures of a finished run, JSON."""
        return self.path / "result.json"

    @property
    def latency_path(self) -> Path:
        """What the modules of the network take, where the budget limits latency."""
        return self.path / "latency.json"

    @property
    def checkpoints(self) -> Path:
        """The folder of training states; whoever writes there creates it (`write_atomic` does)."""
        return self.path / "checkpoints"


class RunFolder:
    """A run that this process works on: the files at `paths` and the open `journal`.

    Use `RunFolder.open`, and close it (or use ``with``) to let another process go on.
    """

    def __init__(self, paths: RunPaths, journal: Journal) -> None:
        self.paths = paths
        self.journal = journal

    @classmethod
    def open(
        cls, path: str | Path, config: Mapping[str, Any], *, seeds: Mapping[str, int] | None = None
    ) -> "RunFolder":
        """Starts a run in a new or empty folder, or goes on with the run that is there.

        Args:
            path: the folder; created with its parents when missing.
            config: JSON data: every setting that decides the result, and none that does not.
            seeds: recorded in the environment.

        Raises:
            RunMismatch: the folder holds another run or something that is no run; nothing was changed.
            CorruptRun: a file of the run is damaged; nothing was changed.
            RunError: another process works on the folder.
            SaveFailed: the folder cannot be written.
        """
        paths = RunPaths(path)
        _refuse_foreign_folder(paths)
        journal = Journal.open(paths.journal_path)
        try:
            _claim(paths, journal, json.loads(json.dumps(dict(config), allow_nan=False)))
            remove_temporaries(paths.path)
            if not is_finished(journal.events):  # who only looks at a finished run did not make it
                _record_environment(paths, seeds)
        except BaseException:
            journal.close()
            raise
        return cls(paths, journal)

    @property
    def resumed(self) -> bool:
        """Whether the journal holds events (of an earlier process, or since)."""
        return bool(self.journal.events)

    def close(self) -> None:
        """Gives the folder up, so that another process can open it."""
        self.journal.close()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _refuse_foreign_folder(paths: RunPaths) -> None:
    """A run has a journal from its first moment on, so a folder with files but no journal is not ours."""
    if paths.path.exists() and not paths.path.is_dir():
        raise RunMismatch(f"a run needs a folder, but {paths.path} is a file; name another path")
    try:
        entries = sorted(entry.name for entry in paths.path.iterdir()) if paths.path.exists() else []
    except OSError as error:
        raise save_failed(paths.path, error) from error
    if entries and paths.journal_path.name not in entries:
        shown = ", ".join(entries[:5]) + (", ..." if len(entries) > 5 else "")
        raise RunMismatch(
            f"a run starts in a new or empty folder, but {paths.path} is no run and holds "
            f"{len(entries)} entries ({shown}); name another folder (nothing was changed)"
        )


def _claim(paths: RunPaths, journal: Journal, config: dict[str, Any]) -> None:
    """Writes the configuration of a new run, or checks it against the one that is there."""
    if paths.config_path.exists():
        check_same(paths.path, read_json(paths.config_path), config)
    elif journal.events:
        raise CorruptRun(
            f"a run with a journal has its configuration, but {paths.config_path} is missing; restore it "
            "from a backup, or move the folder away and run the command again"
        )
    else:
        write_json(paths.config_path, config)


def check_same(path: Path, before: Any, now: Mapping[str, Any]) -> None:
    """Refuse a configuration that is not the one that is there.

    Args:
        path: the run folder.
        before: its configuration, JSON data.
        now: what it should be.

    Raises:
        RunMismatch: they differ; the message says in what.
    """
    old, new = dict(_flatten(before)), dict(_flatten(dict(now)))
    differing = [key for key in sorted(old.keys() | new.keys()) if old.get(key, _MISSING) != new.get(key, _MISSING)]
    if not differing:
        return
    lines = [f"  {key}: {old.get(key, _MISSING)} there, {new.get(key, _MISSING)} now" for key in differing]
    hidden = len(lines) - _MAX_LISTED
    listed = "\n".join(lines[:_MAX_LISTED]) + (f"\n  and {hidden} more" if hidden > 0 else "")
    raise RunMismatch(
        f"a run folder belongs to one configuration, but {path} was started with other "
        f"settings:\n{listed}\nname another folder, or use the same settings to go on with that run; nothing "
        "was changed"
    )


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix or "(all)", value


def _record_environment(paths: RunPaths, seeds: Mapping[str, int] | None) -> None:
    entries = read_json(paths.environment_path) if paths.environment_path.exists() else []
    if not isinstance(entries, list):
        raise CorruptRun(
            f"{paths.environment_path} must hold a list of environments, but holds {type(entries).__name__}; "
            "delete the file: it only documents the run"
        )
    write_json(paths.environment_path, [*entries, describe_environment(seeds)])
