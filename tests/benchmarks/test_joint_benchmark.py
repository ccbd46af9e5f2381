"""The experiment on joint search-and-training from end to end with tiny sizes, and that it goes on."""

from pathlib import Path

import pytest
import torch
from benchmarks.clock import PassClock
from benchmarks.joint.__main__ import main
from benchmarks.joint.arms import ARMS, LITERAL
from benchmarks.joint.parts import UNIFORM
from benchmarks.joint.settings import SETTINGS, tiny
from torch import nn

from typecheck import annotations
from widthwise.runs import read_events, read_json


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every part, once."""
    folder = tmp_path_factory.mktemp("joint")
    with annotations(checked=False):  # the tests of the method check them
        main(["all", "--settings", "tiny", "--out", str(folder / "run"), "--docs", str(folder / "docs")])
    return folder


def test_every_result_is_on_the_page_and_none_is_computed_twice(run: Path) -> None:
    page = (run / "docs" / "joint_digits_net.md").read_text(encoding="utf-8")
    for name in (*ARMS, *LITERAL, UNIFORM):
        assert f"| {name} |" in page
    for title in (
        "Trained on",
        "Filter weights by placement",
        "What noise leaves",
        "Time outside",
        "Predicted before the run",
    ):
        assert title in page
    figures = {p.stem for p in (run / "docs" / "figures").iterdir()}
    assert figures == {f"joint_digits_net_{name}" for name in ("result", "rounds", "weights")}
    before = (run / "run" / "journal.jsonl").read_bytes()
    main(["all", "--settings", "tiny", "--out", str(run / "run"), "--docs", str(run / "docs")])
    assert (run / "run" / "journal.jsonl").read_bytes() == before


def test_every_network_meets_the_budget_and_little_is_left_of_it(run: Path) -> None:
    events = read_events(run / "run" / "journal.jsonl")
    networks = {e["key"]: e["value"]["macs"] for e in events if "test" in e["value"]}
    expected = {f"{name}/{seed}" for name in (*ARMS, UNIFORM) for seed in tiny().seeds}
    assert set(networks) == expected | {f"{name}/{seed}" for name in LITERAL for seed in tiny().literal_seeds}
    result = read_json(run / "run" / "runs" / "joint-0" / "result.json")
    limit = tiny().budget * result["before"]["macs"]
    assert all(0.95 * limit <= macs <= limit for macs in networks.values()), networks


def test_noise_shrinks_what_is_kept(run: Path) -> None:
    found = {e["key"]: e["value"] for e in read_events(run / "run" / "journal.jsonl")}
    assert found["noise/digits_net/1.0"]["mean"] < 0.5 * found["noise/digits_net/0.0"]["mean"]


def test_the_clock_sees_forward_and_backward_passes_once() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(512, 512), nn.ReLU()), nn.Linear(512, 512))
    images = torch.randn(256, 512)
    with PassClock() as clock:
        model(images).sum().backward()
        forward, backward = clock.forward, clock.backward
        (images @ images.T).sum()
    assert forward > 0
    assert backward > 0
    assert forward + backward < clock.whole
    assert clock.outside == pytest.approx(1 - (forward + backward) / clock.whole)
    with torch.no_grad():
        model(images)
    assert clock.forward == forward  # no longer looking


def test_the_settings_build() -> None:
    assert {SETTINGS[name]().model for name in ("cpu", "accelerator")} == {"resnet20", "resnet56"}
