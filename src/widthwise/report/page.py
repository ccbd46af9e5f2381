"""``widthwise report``: one page for one or several runs, with everything in it, and its figures as files beside it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from widthwise.errors import ConfigError, RunMismatch
from widthwise.report.compared import comparison_pictures
from widthwise.report.data import RunReport, read_runs
from widthwise.report.pictures import Picture, pictures_of
from widthwise.report.render import GENERATOR, is_ours, svg_of, theme_css, write_figure
from widthwise.report.sheets import (
    OWN,
    Sheet,
    Tile,
    comparison_sheet,
    division_sheet,
    figures_sheet,
    finalists_sheet,
    layers_sheets,
    origin_sheet,
    tiles_of,
    time_sheet,
)
from widthwise.runs import write_text

__all__ = ["report"]

NAME = "report.html"
"""Of the page."""

FIGURES = "report-figures"
"""The folder of its figures, beside it."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture in the page."""

    picture: Picture
    stem: str
    """Of its files."""
    svg: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """One run in the page."""

    run: RunReport
    anchor: str
    tiles: list[Tile]
    figures: Sheet
    time: Sheet
    tables: list[Sheet]
    """Of the search."""
    layers: list[Sheet]
    origin: Sheet
    pictures: list[Shown]

    def of(self, section: str) -> list[Shown]:
        """The pictures of one part of the page."""
        return [shown for shown in self.pictures if shown.picture.section == section]


def report(runs: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Write a report on one or several runs, finished or not: a page that needs nothing else, and its figures.

    The page holds its pictures and its style, so it may be sent as it is. The pictures also lie beside it, in
    ``report-figures``, as SVG (which follows the theme of the viewer) and PNG.

    Args:
        runs: the run folders.
        out: the folder for the page, or its path if it ends in ``.html``; the run's own folder if not given, which
            needs a single run.

    Returns:
        The path of the page.

    Raises:
        ConfigError: no run, or several of them and no ``out``.
        CorruptRun: one is no run, or a file of it is damaged.
        RunMismatch: a file that no report wrote is in the way; nothing was changed.
        SaveFailed: a file cannot be written.
    """
    contents = read_runs(runs)
    page = _path(runs, out)
    names = _names([run.summary.name for run in contents])
    sections = [
        _section(run, name, f"{name}-" if len(contents) > 1 else "") for run, name in zip(contents, names, strict=True)
    ]
    summaries = [run.summary for run in contents]
    several = len(contents) > 1
    compared = [_shown(picture, "all-") for picture in comparison_pictures(summaries)] if several else []
    pictures = [*compared, *(shown for section in sections for shown in section.pictures)]
    _check_free(page, [shown.stem for shown in pictures])
    for shown in pictures:
        write_figure(shown.picture.figure, shown.svg, page.parent / FIGURES / shown.stem)
    text = _template().render(
        generator=GENERATOR,
        own=OWN,
        theme=theme_css(),
        title=_title(contents),
        several=several,
        comparison=comparison_sheet(summaries) if several else None,
        compared=compared,
        sections=sections,
        folder=FIGURES,
    )
    write_text(page, text)
    return page


def _path(runs: Sequence[str | Path], out: str | Path | None) -> Path:
    if out is None:
        if len(runs) > 1:
            raise ConfigError(
                f"A report on several runs needs a folder of its own, but got {len(runs)} runs and no `out`; name one."
            )
        return Path(runs[0]) / NAME
    return Path(out) if Path(out).suffix == ".html" else Path(out) / NAME


def _names(names: Sequence[str]) -> list[str]:
    """As part of file names and anchors, each different from all others."""
    found: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "run"
        number = 1
        while (unique := plain if number == 1 else f"{plain}-{number}") in found:
            number += 1
        found.append(unique)
    return found


def _title(runs: Sequence[RunReport]) -> str:
    if len(runs) > 1:
        return f"{len(runs)} runs side by side"
    summary = runs[0].summary
    return f"{summary.model} on {summary.data}, by {summary.method}"


def _section(run: RunReport, anchor: str, prefix: str) -> Section:
    tables = [] if run.division is None else [division_sheet(run.division)]
    finalists = None if run.candidates is None else finalists_sheet(run.candidates)
    tables += [] if finalists is None else [finalists]
    return Section(
        run=run,
        anchor=anchor,
        tiles=tiles_of(run.summary),
        figures=figures_sheet(run.summary),
        time=time_sheet(run.summary),
        tables=tables,
        layers=[] if run.layers is None else layers_sheets(run.layers),
        origin=origin_sheet(run),
        pictures=[_shown(picture, prefix) for picture in pictures_of(run)],
    )


def _shown(picture: Picture, prefix: str) -> Shown:
    stem = f"{prefix}{picture.name}"
    return Shown(picture=picture, stem=stem, svg=svg_of(picture.figure, stem, picture.alt))


def _check_free(page: Path, stems: Sequence[str]) -> None:
    files = [page.parent / FIGURES / f"{stem}{ending}" for stem in stems for ending in (".svg", ".png")]
    foreign = [path for path in (page, *files) if path.exists() and not (path.is_file() and is_ours(path))]
    if foreign:
        raise RunMismatch(
            f"A report overwrites reports only, but {foreign[0]} is something else; move it, or name another place "
            "with `out` (nothing was changed)."
        )


def _template() -> Any:
    loader = PackageLoader("widthwise.report", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    return environment.get_template("report.html.j2")
