"""Figures draw the data that they are given, in colours that become variables."""

import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure
from PIL import Image
from report_runs import Make

from widthwise.methods import RunRecord
from widthwise.report import figures
from widthwise.report.compared import comparison_pictures
from widthwise.report.data import Curve, Layers, Row, RunReport, run_report
from widthwise.report.figures.style import THEME, thinned
from widthwise.report.pictures import Picture, pictures_of
from widthwise.report.render import is_ours, svg_of, theme_css, write_figure

NAMES = ["fnnp", "l1", "stagewise", "joint", "exploration"]

EXPECTED = {
    "fnnp": ["order", "cost", "finalists"],
    "l1": [],
    "stagewise": ["stages", "division", "order", "cost"],
    "joint": ["rounds", "cost", "policy"],
    "exploration": ["probabilities", "samples"],
}


def contents(made: Make, name: str) -> RunReport:
    return run_report(RunRecord.read(made(name).path))


def rectangles(figure: Figure) -> Iterator[float]:
    for patch in figure.axes[0].patches:
        yield patch.get_width()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_every_method_has_its_pictures(made: Make, name: str) -> None:
    pictures: list[Picture] = pictures_of(contents(made, name))
    assert [p.name for p in pictures if p.section == "search"] == EXPECTED[name]
    assert [p.name for p in pictures if p.section == "shape"] == ["widths", "macs"]
    assert any(p.name == "training-finalist-1" for p in pictures)
    assert all(p.alt.endswith(".") and p.caption and p.title for p in pictures)
    assert len({p.name for p in pictures}) == len(pictures)


def test_bars_are_as_long_as_the_widths(made: Make) -> None:
    layers = contents(made, "fnnp").layers
    assert layers is not None
    drawn = list(rectangles(figures.widths_figure(layers)))
    assert drawn == [row.before for row in layers.groups] + [row.after for row in layers.groups]


def test_many_layers_become_a_profile() -> None:
    rows = tuple(Row(name=f"layer{i}", before=64, after=i % 64 + 1) for i in range(200))
    figure = figures.macs_figure(Layers(groups=rows, macs=rows))
    assert figure.get_size_inches()[1] < 5
    assert not figure.axes[0].containers


def test_the_front_is_drawn_where_it_is(made: Make) -> None:
    candidates = contents(made, "fnnp").candidates
    assert candidates is not None
    (panel,) = figures.cost_figure(candidates).axes
    line = next(line for line in panel.lines if line.get_label() == "front")
    front = sorted((c.params or 0, c.score) for c in candidates.items if c.front)
    assert list(zip(*line.get_data(), strict=True)) == front


def test_settings_of_matplotlib_stay_as_they_were(made: Make) -> None:
    before = dict(matplotlib.rcParams)
    for picture in pictures_of(contents(made, "l1")):
        svg_of(picture.figure, "x", "y")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", NAMES)
def test_colours_are_variables_text_is_text_and_ids_are_apart(made: Make, name: str) -> None:
    ids: list[str] = []
    for picture in pictures_of(contents(made, name)):
        text = svg_of(picture.figure, picture.name, picture.alt)
        assert not re.search(r"#[0-9a-f]{6}\b", text), picture.name
        assert set(re.findall(r"--ww-(\w+)", text)) <= set(THEME)
        assert "<text" in text
        assert "DejaVu" not in text
        assert "<style" not in text
        found = re.findall(r'\sid="([^"]*)"', text)
        assert all(value.startswith(f"{picture.name}-") for value in found)
        assert set(re.findall(r'(?:url\(#|href="#)([^)"]*)', text)) <= set(found)
        ids += found
    assert len(ids) == len(set(ids))


def test_themes_have_every_colour_twice() -> None:
    css = theme_css()
    for name, (light, dark, _) in THEME.items():
        assert re.findall(rf"--ww-{name}:(#\w+);", css) == [light, dark]
    assert len({light for light, _, _ in THEME.values()}) == len(THEME)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("name", ["ink", "muted", "blue", "orange", "green", "purple", "amber"])
def test_colours_stand_out_in_both_themes(name: str) -> None:
    """WCAG: 4.5 for text, 3 for what is drawn."""
    for which in (0, 1):
        a, b = luminance(THEME[name][which]), luminance(THEME["surface"][which])
        assert (max(a, b) + 0.05) / (min(a, b) + 0.05) >= (4.5 if name in ("ink", "muted") else 3)


def test_figures_as_files(made: Make, tmp_path: Path) -> None:
    picture = pictures_of(contents(made, "joint"))[0]
    many = picture.alt + ", layer" * 2000
    write_figure(picture.figure, svg_of(picture.figure, "f", many), tmp_path / "deep" / "a.b")
    text = (tmp_path / "deep" / "a.b.svg").read_text()
    assert "prefers-color-scheme:dark" in text
    assert is_ours(tmp_path / "deep" / "a.b.svg")
    assert is_ours(tmp_path / "deep" / "a.b.png")
    with Image.open(tmp_path / "deep" / "a.b.png") as image:
        assert image.width == 768
    (tmp_path / "other.png").write_bytes(b"something else")
    assert not is_ours(tmp_path / "other.png")
    (tmp_path / "notes.html").write_text("<p>I ran widthwise report yesterday.</p>")
    assert not is_ours(tmp_path / "notes.html")


def test_comparisons_show_what_is_known(made: Make) -> None:
    summaries = [contents(made, name).summary for name in ("fnnp", "l1")]
    assert [p.name for p in comparison_pictures(summaries)] == ["accuracies", "times"]
    assert "fnnp" in comparison_pictures(summaries)[0].alt


def test_a_dollar_sign_begins_no_formula() -> None:
    figure = figures.scatter_figure([0.1, 0.2], {"a$1_$b": [1.0, 2.0]}, {"a$1_$b": "1.00"})
    assert "a$1_$b" in svg_of(figure, "f", "two points")


def test_thinned_keeps_what_must_be_shown() -> None:
    shown = thinned(10_000, {7, 9_999}, most=100)
    assert {7, 9_999} <= set(shown)
    assert len(shown) <= 103
    assert thinned(0, set()) == []
    assert thinned(5, set()) == [0, 1, 2, 3, 4]


def test_long_trainings_and_many_parts_are_drawn() -> None:
    epochs = tuple(range(1, 101))
    falling = tuple(1 / epoch for epoch in epochs)
    curve = Curve(
        name="supernet",
        what="The super-net",
        epochs=epochs,
        loss=falling,
        train=falling,
        val=(),
        lr=falling,
        seconds=1.0,
        parts={f"stage {i}": falling for i in range(8)},
    )
    lines = figures.parts_figure(curve).axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 8
    assert [len(panel.lines) for panel in figures.training_figure(curve).axes] == [1, 1]
