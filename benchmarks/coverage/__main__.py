"""``python -m benchmarks.coverage``: measure what is missing, and write ``docs/coverage.md``. Hours on two cores."""

import json
import os
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.coverage.page import coverage_page
from benchmarks.coverage.registry import entries
from benchmarks.coverage.schedule import Task, latest, measure_all, tasks_of
from benchmarks.coverage.settings import CoverageConfig
from benchmarks.report import hardware_slug, write_page
from widthwise.runs import Journal, describe_environment, write_atomic

COMMAND = "make coverage"


def main(arguments: list[str] | None = None) -> Path:
    """Measure and write; returns the path of the page, which lies in the work folder where anything is missing."""
    arguments = sys.argv[1:] if arguments is None else arguments
    config = auto_cli(CoverageConfig, args=arguments, as_positional=False)
    console = Console()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    found = entries(config.only, config.work, say)
    with Journal.open(config.work / "journal.jsonl") as journal:
        tasks = tasks_of(found, config.tools)
        records = latest(journal) if config.render else measure_all(tasks, config, journal, say)
    path = write(tasks, records, config)
    say(f"written to {path}")
    return path


def write(tasks: Sequence[Task], records: dict[str, dict[str, Any]], config: CoverageConfig) -> Path:
    """The page and the raw results; into the work folder unless every task of a whole run has its record."""
    whole = config.only == "*" and set(config.tools) == set(CoverageConfig().tools)
    whole = whole and all(task.key in records for task in tasks)
    environment = describe_environment()
    stem = f"coverage_{hardware_slug(environment)}_{date.today().isoformat()}.json"
    page, raw = (config.page, config.results / stem) if whole else (config.work / "coverage.md", config.work / stem)
    ordered = [records.get(task.key) or _missing(task) for task in tasks]
    lines = ",\n".join(json.dumps(_short(record), separators=(",", ":"), sort_keys=True) for record in ordered)
    write_atomic(raw, lambda temporary: temporary.write_text(f"[\n{lines}\n]\n", encoding="utf-8"))
    link = os.path.relpath(raw, page.parent)
    return write_page(page, coverage_page(ordered, environment, COMMAND, link, config.remark))


def _missing(task: Task) -> dict[str, Any]:
    return {**task.facts, "outcome": "missing", "why": "not measured"}


def _short(record: dict[str, Any]) -> dict[str, Any]:
    """Six digits say enough."""
    return {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in record.items()}


if __name__ == "__main__":
    main()
