"""The experiment on joint search-and-training from end to end with tiny sizes, and that it goes on."""

from pathlib import Path

from benchmarks.joint.__main__ import UNIFORM, main
from benchmarks.joint.arms import ARMS
from benchmarks.joint.settings import SETTINGS, tiny

from widthwise.runs import read_events


def test_every_run_is_on_the_page_and_none_is_done_twice(tmp_path: Path) -> None:
    arguments = ["--settings", "tiny", "--out", str(tmp_path / "run"), "--docs", str(tmp_path / "docs")]
    page = main(arguments).read_text(encoding="utf-8")
    events = read_events(tmp_path / "run" / "journal.jsonl")
    assert {e["key"] for e in events} == {f"{name}/{seed}" for name in (*ARMS, UNIFORM) for seed in tiny().seeds}
    for name in (*ARMS, UNIFORM):
        assert f"| {name} |" in page
    assert {p.stem for p in (tmp_path / "docs" / "figures").iterdir()} == {
        "joint_digits_net_result",
        "joint_digits_net_rounds",
    }
    macs = [e["value"]["macs"] for e in events]
    assert max(macs) - min(macs) < 0.01 * max(macs)
    before = (tmp_path / "run" / "journal.jsonl").read_bytes()
    main(arguments)
    assert (tmp_path / "run" / "journal.jsonl").read_bytes() == before


def test_the_settings_build() -> None:
    assert {SETTINGS[name]().model for name in ("cpu", "accelerator")} == {"resnet20", "resnet56"}
