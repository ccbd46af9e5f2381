"""The results of a benchmark: tables on the console, a Markdown page, and its figures."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import fmean
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from widthwise.experiments import Table
from widthwise.runs import write_atomic

__all__ = [
    "INK",
    "Check",
    "by_seed",
    "checked",
    "drawn",
    "hardware_slug",
    "machine",
    "page",
    "page_path",
    "ratio",
    "schedules",
    "section",
    "show",
    "write_figures",
    "write_page",
]

INK = ("#1b6ca8", "#d1495b", "#66a182", "#8d6a9f", "#e2a03f")
"""Colours of the figures."""


@dataclass(frozen=True)
class Check:
    """A prediction that was written down before the run, and what came of it."""

    prediction: str
    measured: str
    held: bool


def ratio(ours: float, theirs: float) -> str:
    """How many times faster we are, from two durations: "3.1x", or "0.4x" where we are slower."""
    times = theirs / ours
    return f"{times:.0f}x" if times >= 10 else f"{times:.2g}x"


def show(console: Console, tables: Sequence[Table], checks: Sequence[Check] = ()) -> None:
    """Print what was measured."""
    for table in tables:
        console.print(table.rendered())
    for check in checks:
        console.print(
            f"{'held' if check.held else 'DID NOT HOLD'}: {check.prediction}: {check.measured}", highlight=False
        )


def hardware_slug(environment: Mapping[str, Any]) -> str:
    """The machine in a few letters, for file names: ``intel-xeon-8581c-2cpu``, or the accelerator."""
    devices = environment.get("devices") or []
    name = str(devices[0]) if devices else str(environment.get("cpu") or environment.get("machine"))
    name = re.sub(r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@.*", " ", name.lower())
    slug = re.sub(r"[^a-z0-9]+", "-", name).strip("-") or "unknown"
    return slug if devices else f"{slug}-{environment.get('cpu_count')}cpu"


def page_path(folder: Path, theme: str, environment: Mapping[str, Any], day: date) -> Path:
    """``{theme}_{hardware}_{date}.md`` in a folder."""
    return folder / f"{theme}_{hardware_slug(environment)}_{day.isoformat()}.md"


def page(
    title: str,
    command: str,
    environment: Mapping[str, Any],
    tables: Sequence[Table],
    checks: Sequence[Check] = (),
) -> str:
    """The whole page as Markdown.

    Args:
        title: its heading.
        command: how to run the benchmark again.
        environment: from ``widthwise.runs.describe_environment``.
        tables: the results.
        checks: the predictions and what came of them.
    """
    parts = [f"# {title}", f"Run again with `{command}`.", machine(environment)]
    if checks:
        parts.append(section(checked(checks)))
    parts += map(section, tables)
    return "\n\n".join(parts) + "\n"


def section(table: Table) -> str:
    """A table with its title and note, as a part of a page."""
    return table.to("markdown").rstrip()


def checked(checks: Sequence[Check], subjects: Sequence[str] = ()) -> Table:
    """The predictions and what came of them; where there are several subjects, with that of each."""
    rows = [(c.prediction, c.measured, "yes" if c.held else "**no**") for c in checks]
    columns = ("prediction", "measured", "held")
    if not subjects:
        return Table("Predicted before the run", columns, tuple(rows))
    named = tuple((subject, *row) for subject, row in zip(subjects, rows, strict=True))
    return Table("Predicted before the run", ("of", *columns), named)


def machine(environment: Mapping[str, Any]) -> str:
    """What a run ran on, as a list."""
    packages = {k: v for k, v in environment["packages"].items() if v}
    facts = {
        "Date": environment["date"],
        "CPU": f"{environment['cpu']}, {environment['cpu_count']} logical cores",
        "Accelerators": ", ".join(environment["devices"]) or "none",
        "Torch threads": environment["torch_threads"],
        "Python": environment["python"],
        "Packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def write_page(path: Path, text: str) -> Path:
    """Put the page into its file, whole."""
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def drawn(data: Any, draw: Callable[[Any, list[Axes]], None], panels: int, size: tuple[float, float]) -> Figure:
    """A figure of panels side by side.

    Args:
        data: what to show.
        draw: given the data and the panels.
        panels: how many.
        size: width and height of the whole, in inches.
    """
    figure = Figure(figsize=size, layout="constrained")
    axes = [figure.add_subplot(1, panels, place + 1) for place in range(panels)]
    draw(data, axes)
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
    return figure


def by_seed(runs: Mapping[str, Sequence[float]], axes: Sequence[Axes]) -> None:
    """Draw test accuracies in [0, 1] by the name of what was trained: a dot for each seed, a line at the mean."""
    (panel,) = axes
    for place, tests in enumerate(runs.values()):
        panel.scatter([place] * len(tests), [100 * test for test in tests], s=14, color=INK[0], alpha=0.7)
        panel.hlines(100 * fmean(tests), place - 0.25, place + 0.25, color=INK[1])
    panel.set_xticks(range(len(runs)), [fill(name, 12) for name in runs], fontsize=8)
    panel.set_ylabel("test accuracy (%)")


def schedules(images: Any, trainings: Mapping[str, Mapping[str, Any]], notes: Sequence[str] = ()) -> str:
    """What the figures hang on: the images, how everything was trained (each a ``TrainConfig`` as JSON), and notes."""
    lines = ["## Settings", "", f"Images: {images}.", ""]
    for name, training in trainings.items():
        keys = ("max_steps" if training["max_steps"] else "epochs", "batch_size", "lr", "schedule", "precision")
        lines.append(f"- {name}: " + ", ".join(f"{key} {training[key]}" for key in keys))
    return "\n".join([*lines, *(f"- {note}" for note in notes)])


def write_figures(docs: Path, stem: str, figures: Mapping[str, tuple[Figure, str]]) -> list[str]:
    """Save figures (with their captions, by name) as ``docs/figures/STEM_NAME.png``; returns the Markdown of each."""
    links = []
    for name, (figure, caption) in figures.items():
        path = docs / "figures" / f"{stem}_{name}.png"
        write_atomic(path, lambda temporary, f=figure: f.savefig(temporary, dpi=150))  # type: ignore[misc]
        links.append(f"![{caption}](figures/{stem}_{name}.png)\n\n*{caption}*")
    return links
