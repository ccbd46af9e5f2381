"""The Python of the README and the guides is executed, and what they refer to is there."""

import re
from pathlib import Path
from unittest.mock import patch

import pytest

import widthwise
from widthwise.subnet.resize import ATTRIBUTES
from widthwise.tracing import RULES

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = TEXT) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_the_python_runs_and_does_what_it_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = blocks("python")
    assert found, "the README shows Python"
    names: dict[str, object] = {}
    for block in found:
        exec(compile(block, "README.md", "exec"), names)
    result = names["result"]
    assert isinstance(result, widthwise.Result)
    assert result.metrics["after"].macs <= 0.5 * result.metrics["before"].macs
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("guide", ["compare.md", "extending.md", "latency.md", "methods.md"])
def test_the_python_of_the_guides_runs(guide: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = blocks("python", (ROOT / "docs" / guide).read_text(encoding="utf-8"))
    assert found
    names: dict[str, object] = {}
    with patch.dict(RULES), patch.dict(ATTRIBUTES):
        for block in found:
            exec(compile(block, guide, "exec"), names)


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", TEXT))
    assert named
    assert named <= targets


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_the_files_that_a_page_links_to_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []
