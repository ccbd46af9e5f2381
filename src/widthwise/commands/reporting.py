"""``widthwise report``."""

from pathlib import Path

from rich.console import Console

from widthwise.report import report

__all__ = ["report_runs"]


def report_runs(runs: list[Path], out: Path | None = None) -> None:
    """Write one page that shows what one or several runs found, and why.

    Args:
        runs: the run folders.
        out: a folder or a file that ends with .html; RUN/report.html of a single run if not given.
    """
    page = report(runs, out)
    Console(highlight=False).print(f"{page} shows it all; open it in a browser.", markup=False, soft_wrap=True)
