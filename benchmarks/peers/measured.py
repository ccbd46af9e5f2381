"""What run folders hold, put together by network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.experiments import results_of
from benchmarks.peers.rows import Row, row_of
from widthwise.errors import CorruptRun, RunMismatch
from widthwise.runs import RunPaths, read_events, read_json

__all__ = ["Measured", "measured"]

Value = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """All that was measured with one network and the same settings."""

    config: Value
    """What every result hangs on."""
    environments: tuple[Value, ...]
    """The last one of each folder."""
    results: Value
    """By the keys of the journals."""

    @property
    def name(self) -> str:
        """What the page calls it: the full network, and the name of the settings."""
        return f"{self.model} ({self.settings})"

    @property
    def model(self) -> str:
        """Name of the full network."""
        return str(self.config["model"])

    @property
    def weights(self) -> bool:
        """Whether it came with weights."""
        return bool(self.config["weights"])

    @property
    def settings(self) -> str:
        """Their name."""
        return str(self.config["settings"])

    @property
    def full(self) -> Value | None:
        """The result of the full network, if it was measured."""
        found = self.results.get("full")
        return found if found is not None and found["outcome"] == "done" else None

    @property
    def rows(self) -> list[Row]:
        """The networks that were made."""
        found = (row_of(value, self.model, weights=self.weights) for value in self.results.values())
        return [row for row in found if row is not None]


def measured(runs: Sequence[Path]) -> list[Measured]:
    """What lies in some folders, by network and settings; folders that have both in common are one.

    Raises:
        RunMismatch: two folders of one network and settings differ in what their results hang on, or have the same
            result.
        CorruptRun: a folder holds another kind of run.
    """
    found: dict[str, Measured] = {}
    for run in runs:
        one = _read(run)
        before = found.get(one.name)
        if before is not None and before.config != one.config:
            differing = [name for name in one.config if one.config[name] != before.config.get(name)]
            raise RunMismatch(
                f"Rows of one table are measured alike, but of the folders of {one.name} {run} has another "
                f"{', '.join(differing)}. Leave one of them out, or write a page for each."
            )
        environments, results = ((), {}) if before is None else (before.environments, before.results)
        found[one.name] = Measured(one.config, (*environments, *one.environments), _joined(results, one.results, run))
    return list(found.values())


def _joined(before: Value, more: Value, run: Path) -> Value:
    """Results of two folders; what succeeded in one of them counts."""
    done = [key for key in before.keys() & more.keys() if before[key]["outcome"] == more[key]["outcome"] == "done"]
    if twice := sorted(key for key in done if key != "full"):
        raise RunMismatch(
            f"A network is measured once, but {run} and a folder before it both have {', '.join(twice)}; leave one out."
        )
    kept = {key: value for key, value in more.items() if key not in before or value["outcome"] == "done"}
    return {**before, **kept}


def _read(run: Path) -> Measured:
    paths = RunPaths(run)
    config, environment = read_json(paths.config_path), read_json(paths.environment_path)[-1]
    if absent := [name for name in ("model", "settings", "data", "weights") if name not in config]:
        raise CorruptRun(
            f"A run of this comparison names its model, settings, data and weights, but {paths.config_path} lacks "
            f"{', '.join(absent)}. Measure it again in a new folder."
        )
    return Measured(config, (environment,), results_of(read_events(paths.journal_path)))
