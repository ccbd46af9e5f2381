"""``python -m benchmarks``: measure, print, and write the dated page. About five minutes on two idle cores."""

import sys
from datetime import date
from pathlib import Path

from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.report import page, page_path, show, write_page
from benchmarks.speed import measure_all
from benchmarks.subjects import SpeedConfig
from widthwise.runs import describe_environment


def main(arguments: list[str] | None = None) -> Path:
    """Run the speed benchmark; returns the path of the page."""
    arguments = sys.argv[1:] if arguments is None else arguments
    config = auto_cli(SpeedConfig, args=arguments, as_positional=False)
    console = Console()
    tables, checks = measure_all(config, console)
    environment = describe_environment()
    command = " ".join(["python -m benchmarks", *arguments])
    text = page("Speed, beside Torch-Pruning", command, environment, tables, checks)
    path = write_page(page_path(config.results, "speed", environment, date.today()), text)
    show(console, tables, checks)
    console.print(f"written to {path}", highlight=False)
    return path


if __name__ == "__main__":
    main()
