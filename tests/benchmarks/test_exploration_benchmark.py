"""The experiment on exploration and estimation from end to end with tiny sizes, and that it goes on."""

from pathlib import Path

from benchmarks.exploration.__main__ import main
from benchmarks.exploration.arms import ABLATIONS, ARMS
from benchmarks.exploration.parts import SWAPS
from benchmarks.exploration.settings import SETTINGS, tiny

from widthwise.runs import read_events


def test_every_result_is_on_the_page_and_none_is_computed_twice(tmp_path: Path) -> None:
    arguments = ["all", "--settings", "tiny", "--out", str(tmp_path / "run"), "--docs", str(tmp_path / "docs")]
    page = main(arguments).read_text(encoding="utf-8")
    for name in (*ARMS, *SWAPS, *ABLATIONS):
        assert f"| 50% | {name} |" in page
    figures = {p.stem for p in (tmp_path / "docs" / "figures").iterdir()}
    assert figures == {"exploration_digits_net_result", "exploration_digits_net_dynamics"}
    journal = tmp_path / "run" / "journal.jsonl"
    found = {e["key"]: e["value"] for e in read_events(journal)}
    macs = [value["macs"] for key, value in found.items() if key.startswith("found/")]
    assert len(macs) == len(tiny().seeds) * (len(ARMS) + len(SWAPS) + len(ABLATIONS))
    assert min(macs) > 0.95 * max(macs)
    assert found["cost"]["samples"] == 2 * 3 * 2 + 3 * 2
    before = journal.read_bytes()
    main(arguments)
    assert journal.read_bytes() == before


def test_the_settings_build() -> None:
    assert {SETTINGS[name]().model for name in ("cpu", "accelerator")} == {"resnet20", "resnet56"}
