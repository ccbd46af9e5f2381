"""Judgements of sub-networks against their accuracy after training."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from torch import nn

import widthwise
from widthwise import Subnet, TrainConfig
from widthwise.cli import main
from widthwise.errors import ConfigError
from widthwise.evaluate.ranking import kendall
from widthwise.experiments import CorrelateConfig, correlate
from widthwise.runs import read_events
from widthwise.train import fit

CONFIG = CorrelateConfig(
    networks=5,
    proxies=("adaptive_bn", "macs"),
    training=TrainConfig(epochs=1, lr=0.02),
    calibration_images=100,
    k=2,
)


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.manual_seed(0)
    model = widthwise.build_model("digits_net")
    fit(model, widthwise.load_data("digits").train, TrainConfig(epochs=4, lr=0.1))
    return model.eval()


def test_figures_are_those_of_the_scores(trained: nn.Module, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    found = correlate(trained, "digits", CONFIG, run=tmp_path / "run", proxies={"kept": lambda s: float(s.keep.sum())})
    assert list(found.by_proxy) == ["adaptive_bn", "macs", "kept"]
    assert len({network.widths for network in found.networks}) == 5
    full = widthwise.CostModel(widthwise.trace(trained, torch.zeros(1, 1, 8, 8))).full["macs"]
    assert all(0.15 * full < network.macs <= 0.8 * full for network in found.networks)
    for name, figures in found.by_proxy.items():
        scores = [network.scores[name] for network in found.networks]
        assert figures.kendall.value == kendall(scores, [network.accuracy for network in found.networks])
    assert [network.scores["macs"] for network in found.networks] == [network.macs for network in found.networks]
    assert all(torch.equal(before[name], tensor) for name, tensor in trained.state_dict().items())
    table = json.loads((tmp_path / "run" / "correlation.json").read_text())
    assert [row["proxy"] for row in table["rows"]] == list(found.by_proxy)
    tau = found.by_proxy["kept"].kendall
    assert table["rows"][2]["Kendall"] == {"value": tau.value, "low": tau.low, "high": tau.high}
    rows = list(csv.DictReader(io.StringIO((tmp_path / "run" / "networks.csv").read_text())))
    assert [float(row["kept"]) for row in rows] == [network.scores["kept"] for network in found.networks]
    assert [float(row["accuracy (%)"]) for row in rows] == pytest.approx(
        [100 * n.accuracy for n in found.networks], rel=1e-3
    )
    panels = [panel for panel in found.figure().axes if panel.get_visible()]
    assert [panel.get_title("left").partition(":")[0] for panel in panels] == list(found.by_proxy)
    assert len(panels[1].collections[0].get_offsets()) == 5
    assert {path.suffix for path in (tmp_path / "run").glob("correlation.*")} >= {".svg", ".png", ".csv"}


def test_a_proxy_that_says_nothing_of_a_network_is_judged_by_the_others(trained: nn.Module, tmp_path: Path) -> None:
    asked = 0

    def sometimes(subnet: Subnet) -> float:
        nonlocal asked
        asked += 1
        return float("nan") if asked == 2 else float(subnet.keep.sum())

    for _ in range(2):  # and again from the journal
        found = correlate(trained, "digits", CONFIG, run=tmp_path / "run", proxies={"sometimes": sometimes})
        assert found.by_proxy["sometimes"].models == 4
        assert found.networks[1].scores["sometimes"] is None
    assert asked == 5
    # another judgement, in the same run: only that one is made
    found = correlate(trained, "digits", CONFIG, run=tmp_path / "run", proxies={"never": lambda s: float("inf")})
    assert found.by_proxy["never"].models == 0
    assert str(found.by_proxy["never"].kendall) == "-"
    assert found.table().columns[4] == "phi(2)"
    assert not list((tmp_path / "run" / "checkpoints").glob("*")), (
        "nothing goes on from networks whose accuracy is known"
    )
    with pytest.raises(ConfigError, match="a name of its own, but got accuracy, macs"):
        correlate(
            trained, "digits", CONFIG, run=tmp_path / "run", proxies=dict.fromkeys(("macs", "accuracy"), sometimes)
        )


def test_a_cut_run_goes_on_and_ends_the_same(trained: nn.Module, tmp_path: Path) -> None:
    class Cut(Exception):
        pass

    judged: list[Subnet] = []

    def often(subnet: Subnet) -> float:
        judged.append(subnet)
        if len(judged) == 3:
            raise Cut
        return float(subnet.keep.sum())

    def run(folder: str) -> tuple[object, ...]:
        return correlate(trained, "digits", CONFIG, run=tmp_path / folder, proxies={"kept": often}).networks

    with pytest.raises(Cut):
        run("run")
    again = run("run")
    assert len(judged) == 6  # the third network twice
    assert again == run("whole")
    keys = [event["key"] for event in read_events(tmp_path / "run" / "journal.jsonl")]
    assert len(keys) == len(set(keys)) == 5 * 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"networks": 2}, "at least 3"),
        ({"smallest": 0.9}, "smallest <= largest"),
        ({"proxies": ("luck",)}, "luck"),
        ({"k": 0}, "at least 1"),
        ({"calibration_images": 1}, "at least 2"),
    ],
)
def test_settings_outside_their_range(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CorrelateConfig(**settings)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["correlate", "--run", str(tmp_path), "--train.epochs", "1", "--study.networks", "3", "--show", "csv"]
    command += ["--study.proxies", "[macs]", "--study.against", "scratch", "--study.training.epochs", "1"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert out.startswith('proxy,"Pearson, value","Pearson, low"')
    assert main(command) == 0
    assert capsys.readouterr().out == out
