"""Everything that is still to be measured, several networks at once; each result goes into the journal."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import metadata
from threading import Event
from typing import Any

from benchmarks.coverage.processes import run
from benchmarks.coverage.registry import Entry
from benchmarks.coverage.settings import CoverageConfig, Tool, minutes_of
from benchmarks.processes import ROOT, Limits
from widthwise.digest import digest
from widthwise.runs import Journal

__all__ = ["Task", "latest", "measure_all", "tasks_of", "versions_of"]

_HERE = "benchmarks/coverage"

_SOURCES: dict[Tool, tuple[str, ...]] = {
    "widthwise": (
        *("src/widthwise/channels", "src/widthwise/subnet", "src/widthwise/tracing", "src/widthwise/cost"),
        *(f"{_HERE}/ours.py", f"{_HERE}/compare.py", f"{_HERE}/weights.py", f"{_HERE}/memory.py"),
    ),
    "torch_pruning": (f"{_HERE}/torch_pruning_peer.py",),
    "fastnas": (f"{_HERE}/fastnas_peer.py",),
}
"""Files and folders whose change makes a result old, beside the packages."""

_COMMON = (f"{_HERE}/build.py", f"{_HERE}/child.py")

_PACKAGES: dict[Tool, tuple[str, ...]] = {
    "widthwise": (),
    "torch_pruning": ("torch-pruning",),
    "fastnas": ("nvidia-modelopt",),
}


@dataclass(frozen=True)
class Task:
    """One network with one tool."""

    tool: Tool
    entry: Entry

    @property
    def key(self) -> str:
        """Unique, for the journal."""
        return f"{self.tool} {self.entry.name}"

    @property
    def facts(self) -> dict[str, Any]:
        """How every record begins."""
        return {"tool": self.tool, "name": self.entry.name, "kind": self.entry.kind, "module": self.entry.module}


def tasks_of(entries: Sequence[Entry], tools: Iterable[Tool]) -> list[Task]:
    """What there is to measure: peers are compared on classifiers only."""
    compared = ("classification", "timm")
    return [Task(t, e) for e in entries for t in tools if t == "widthwise" or e.kind in compared]


def versions_of(tool: Tool) -> dict[str, str]:
    """What a result of this tool hangs on: packages, and a digest of our own code."""
    packages = ("torch", "torchvision", "timm", *_PACKAGES[tool])
    return {**{name: _version(name) for name in packages}, "code": _digest((*_COMMON, *_SOURCES[tool]))}


def measure_all(
    tasks: Sequence[Task], config: CoverageConfig, journal: Journal, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """The record of every task by its key; those in the journal are not measured again.

    Each of the workers has its share of the memory. What needs more is measured again at the end, alone, with all of
    it; only that result counts.

    Args:
        tasks: what to measure.
        config: limits and workers.
        journal: where records are read from and appended to.
        say: told about every record.
    """
    versions = {tool: versions_of(tool) for tool in {task.tool for task in tasks}}
    records = _remembered(journal, versions, config)
    waiting = [task for task in tasks if task.key not in records]
    say(f"{len(tasks)} to measure, {len(tasks) - len(waiting)} of them known")
    share = config.memory_gib / config.workers
    large: list[Task] = []
    for done, (task, record) in enumerate(_run_all(waiting, config, config.workers, share), start=1):
        if config.workers > 1 and _wants_memory(record):
            large.append(task)
            say(f"[{done}/{len(waiting)}] {task.key}: needs more than {share:g} GiB, again alone at the end")
            continue
        records[task.key] = _write(journal, task, versions[task.tool], record, config)
        say(f"[{done}/{len(waiting)}] {task.key}: {_in_words(record)}")
    for task, record in _run_all(large, config, 1, config.memory_gib):
        records[task.key] = _write(journal, task, versions[task.tool], record, config)
        say(f"[alone] {task.key}: {_in_words(record)}")
    return records


def _run_all(
    tasks: Sequence[Task], config: CoverageConfig, workers: int, memory_gib: float
) -> Iterator[tuple[Task, dict[str, Any]]]:
    """Each task with its record, in the order in which they end. Nothing keeps running when the caller stops."""
    stop = Event()
    limits = {
        tool: Limits(memory_gib=memory_gib, minutes=minutes_of(config, tool), threads=config.threads)
        for tool in {task.tool for task in tasks}
    }
    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(run, _command(task), limits[task.tool], stop): task for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _command(task: Task) -> list[str]:
    return ["-m", "benchmarks.coverage.child", task.tool, task.entry.text()]


def _write(
    journal: Journal, task: Task, versions: Mapping[str, str], record: dict[str, Any], config: CoverageConfig
) -> dict[str, Any]:
    """Append a record, with what it hangs on."""
    limits = {"memory_gib": config.memory_gib, "minutes": minutes_of(config, task.tool), "threads": config.threads}
    whole = {**task.facts, **record, "versions": dict(versions), "limits": limits}
    journal.append({"key": task.key, "record": whole})
    return whole


def latest(journal: Journal) -> dict[str, dict[str, Any]]:
    """The last record of every key, whatever it was measured with."""
    return {event["key"]: event["record"] for event in journal.events}


def _remembered(
    journal: Journal, versions: Mapping[Tool, Mapping[str, str]], config: CoverageConfig
) -> dict[str, dict[str, Any]]:
    """Records of the present versions and threads; what was killed counts only under limits no lower than now."""
    known: dict[str, dict[str, Any]] = {}
    for event in journal.events:
        record, limits = event["record"], event["record"]["limits"]
        tighter = limits["memory_gib"] < config.memory_gib or limits["minutes"] < minutes_of(config, record["tool"])
        same = record["versions"] == versions.get(record["tool"]) and limits["threads"] == config.threads
        if same and not (tighter and record["outcome"] == "killed"):
            known[event["key"]] = record
    return known


def _wants_memory(record: Mapping[str, Any]) -> bool:
    return record["outcome"] == "killed" and str(record["why"]).endswith("GiB")


def _in_words(record: Mapping[str, Any]) -> str:
    if record["outcome"] != "done":
        return f"{record['outcome']} at {record.get('stage', 'the start')}: {record['why']}"
    found = [f"{record['channels']:,} channels"] if "channels" in record else []
    found += [f"error {record['error']:.0e}"] if "error" in record else []
    return ", ".join([*found, f"{record['wall_s']:.0f} s"])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _digest(names: Iterable[str]) -> str:
    """Of the Python files, in this order."""
    paths = [ROOT / name for name in names]
    files = [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    return digest(*(file.read_bytes() for file in files))[:12]
