"""The page: all in one file, its figures beside it, and nothing overwritten that is not a report's."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_runs import Cut, Make

from widthwise.errors import ConfigError, RunMismatch
from widthwise.methods import RunRecord
from widthwise.report import report
from widthwise.report.data import run_report
from widthwise.report.pictures import pictures_of

NAMES = ["fnnp", "l1", "stagewise", "joint", "exploration"]


class Reader(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.unscoped = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))
        if values.get("id"):
            self.ids.append(str(values["id"]))
        self.links += [str(values[name]) for name in ("src", "href", "xlink:href") if values.get(name)]
        if tag == "svg":
            self.pictures.append(values)
        if tag == "th" and "scope" not in values:
            self.unscoped += 1


def check(page: Path) -> Reader:
    """A page that stands alone, with headings in order, and words for every picture."""
    reader = Reader(page.read_text())
    assert all(link.startswith(("#", "data:")) for link in reader.links)
    assert all(link[1:] in reader.ids for link in reader.links if link.startswith("#"))
    assert len(reader.ids) == len(set(reader.ids))
    assert reader.headings[0] == 1
    assert reader.headings.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(reader.headings, reader.headings[1:], strict=False))
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in reader.pictures)
    assert reader.unscoped == 0
    return reader


@pytest.mark.parametrize("name", NAMES)
def test_one_run(made: Make, name: str, tmp_path: Path) -> None:
    page = report([made(name).path], tmp_path / "out")
    assert page == tmp_path / "out" / "report.html"
    reader = check(page)
    expected = [picture.name for picture in pictures_of(run_report(RunRecord.read(made(name).path)))]
    assert len(reader.pictures) == len(expected)
    files = {path.name for path in (page.parent / "report-figures").iterdir()}
    assert files == {f"{stem}{ending}" for stem in expected for ending in (".svg", ".png")}


def test_several_runs_are_compared_first(made: Make, tmp_path: Path) -> None:
    runs = [made(name).path for name in ("fnnp", "l1")]
    twin = tmp_path / "fnnp"
    shutil.copytree(runs[0], twin)
    page = report([*runs, twin], tmp_path / "all.html")
    assert page.name == "all.html"
    reader = check(page)
    text = page.read_text()
    first, last = (f"{path.parent.name}-fnnp" for path in (runs[0], twin))
    assert text.index("All runs") < text.index(f'id="{first}"') < text.index(f'id="{last}"')
    assert {f"#{first}", "#l1", f"#{last}"} <= set(reader.links)
    assert (tmp_path / "report-figures" / f"{last}-cost.svg").exists()


def test_it_lies_in_the_run_if_nothing_else_is_said_and_may_be_made_again(made: Make, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made("l1").path, run)
    page = report([run])
    assert page == run / "report.html"
    first = page.read_bytes()
    assert report([str(run)]).read_bytes() == first
    assert RunRecord.read(run).finished


@pytest.mark.parametrize(
    ("name", "events"), [("fnnp", 3), ("stagewise", 10), ("joint", 2), ("exploration", 5), ("l1", 0)]
)
def test_unfinished_runs(cut: Cut, name: str, events: int, tmp_path: Path) -> None:
    page = report([cut(name, events)], tmp_path / "out")
    check(page)
    assert "This run is not finished" in page.read_text()


def test_what_a_run_is_called_is_text(made: Make, tmp_path: Path) -> None:
    run = tmp_path / "<b>& run"
    shutil.copytree(made("l1").path, run)
    page = report([run, made("l1").path], tmp_path / "out")
    check(page)
    assert "<b>& run" not in page.read_text()
    assert "&lt;b&gt;&amp; run" in page.read_text()


def test_nothing_else_is_overwritten(made: Make, tmp_path: Path) -> None:
    page, picture = tmp_path / "report.html", tmp_path / "report-figures" / "macs.png"
    page.write_text("<html>mine</html>")
    with pytest.raises(RunMismatch, match=r"report\.html is something else"):
        report([made("l1").path], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    page.unlink()
    picture.parent.mkdir()
    picture.write_text("mine")
    with pytest.raises(RunMismatch, match=r"macs\.png is something else"):
        report([made("l1").path], tmp_path)
    assert not page.exists()
    assert picture.read_text() == "mine"


def test_the_guide_is_right(made: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(made("fnnp").path, tmp_path / "runs" / "digits")
    monkeypatch.chdir(tmp_path)
    guide = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
    for block in re.findall(r"^```python\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL):
        exec(compile(block, "report.md", "exec"), {})
    assert (tmp_path / "runs" / "digits" / "report.html").exists()
    assert (tmp_path / "cost.pdf").exists()


def test_several_runs_need_a_place(made: Make) -> None:
    with pytest.raises(ConfigError, match="needs a folder of its own"):
        report([made("l1").path, made("l1").path])
