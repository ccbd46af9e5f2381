"""Every example runs as it stands, with sizes that keep it quick."""

import runpy
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from widthwise import Result, Subnet
from widthwise.subnet.resize import ATTRIBUTES
from widthwise.tracing import MODULE_RULES, RULES

EXAMPLES = Path(__file__).parents[1] / "examples"

ARGUMENTS = {
    "quickstart.py": ["4", "2"],
    "own_model.py": ["64", "1", "3"],
    "inspect_channels.py": ["resnet18"],
    "own_operation.py": [],
    "stagewise.py": ["1"],
}
"""Arguments of each example for a quick run."""


def run(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, object]:
    monkeypatch.chdir(tmp_path)  # nothing may depend on, or land in, the checkout
    monkeypatch.setattr(sys, "argv", [name, *ARGUMENTS[name]])
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_no_example_is_forgotten() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(ARGUMENTS)


def test_quickstart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("quickstart.py", monkeypatch, tmp_path)
    shown = capsys.readouterr().out
    assert "digits_net on digits" in shown
    assert "before" in shown
    assert "after" in shown
    assert list(tmp_path.iterdir()) == []


def test_own_model_meets_both_limits_and_keeps_what_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["own_model.py"])
    example = runpy.run_path(str(EXAMPLES / "own_model.py"), run_name="example")
    result = example["main"](64, 1, 3)
    assert isinstance(result, Result)
    before, after = result.metrics["before"], result.metrics["after"]
    assert after.macs <= 0.6 * before.macs
    assert after.params <= 0.7 * before.params
    widths = dict(
        zip((g.name for g in result.graph.prunable), result.graph.widths(result.subnet).tolist(), strict=True)
    )
    assert widths["stem.0"] == result.graph.group("stem.0").width, "join's outputs are tied to the stem's"
    assert all(width % 8 == 0 for width in widths.values())


def test_inspect_channels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("inspect_channels.py", monkeypatch, tmp_path)
    shown = capsys.readouterr().out
    assert "pinned: fc: reaches the model's output" in shown
    assert "uniform width 100%: 1,814 M MACs" in shown
    assert "output (1, 1000)" in shown


def test_inspect_channels_returns_the_subnet() -> None:
    example = runpy.run_path(str(EXAMPLES / "inspect_channels.py"), run_name="example")
    subnet = example["main"]("resnet18", 64)
    assert isinstance(subnet, Subnet)
    assert int((~subnet.keep).sum()) == 32


def test_stagewise_shows_stages_and_losses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("stagewise.py", monkeypatch, tmp_path)
    shown = capsys.readouterr().out
    assert "block1 (8, 8) ['stem.0', 'block1.conv1.0']" in shown
    assert "at the narrowest" in shown


def test_own_operation_is_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with patch.dict(RULES), patch.dict(MODULE_RULES), patch.dict(ATTRIBUTES):
        graph = run("own_operation.py", monkeypatch, tmp_path)["main"]()  # type: ignore[operator]
    assert [(g.name, g.width) for g in graph.prunable] == [("enter", 8)]
    assert ("spectral.gain", 0) in graph.roles
