"""A budget of latency from the model to the network: times that are made up, and real ones."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import widthwise
from widthwise import Budget, CostModel, WidthSpace, measure_latency
from widthwise.cost import Latency
from widthwise.errors import ConfigError
from widthwise.evaluate import latencies
from widthwise.joint import RoundSettings
from widthwise.methods import FNNP, Exploration, Joint, Method, Stagewise
from widthwise.runs import read_json
from widthwise.search import DivisionSettings
from widthwise.train import TrainConfig

BRIEF = TrainConfig(epochs=1, batch_size=64, lr=0.02)
FEW = FNNP(candidates=8, finalists=1, calibration_images=100, validation_images=100)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Times by what there is to compute; a microsecond per parameter, and a millisecond per module."""
    seen: list[int] = []

    def times(model: nn.Module, example: Tensor, paths: tuple[str, ...]) -> dict[str, float]:
        seen.append(len(example))
        return {
            path: 1e-3 + 1e-6 * sum(p.numel() for p in model.get_submodule(path).parameters(recurse=False))
            for path in paths
        }

    monkeypatch.setattr("widthwise.methods.latency.module_times", times)
    return seen


def pruned(method: Method, budget: Budget, run: Path | None = None) -> widthwise.Result:
    torch.manual_seed(0)
    model = widthwise.build_model("digits_net")
    return widthwise.compress(model, "digits", budget=budget, method=method, finetune=BRIEF, run=run)


def predicted(result: widthwise.Result, folder: Path) -> float:
    """Share of the full network's time."""
    latency = Latency.from_json(read_json(folder / "latency.json"))
    cost = CostModel(result.graph, latency=latency)
    return int(cost.measure("latency", result.subnet)) / cost.full["latency"]


@pytest.mark.parametrize(
    "method",
    [
        FEW,
        Stagewise(chained=0, supernet=BRIEF, retrain=BRIEF, division=DivisionSettings(evaluations=40, exhaustive=0)),
        Joint(coarse=BRIEF, rounds=RoundSettings(rounds=1, network=BRIEF, weights=BRIEF, episodes=2, policy_steps=1)),
        Exploration(epochs=1, images=200, batch=100, candidates=4),
    ],
    ids=lambda method: type(method).__name__.lower(),
)
def test_every_method_meets_it(method: Method, made_up: list[int], tmp_path: Path) -> None:
    result = pruned(method, Budget(latency=0.7, latency_batch=3), tmp_path / "run")
    assert set(made_up) == {3}
    assert 0.67 < predicted(result, tmp_path / "run") <= 0.7
    assert set(result.metrics["after"].latency_ms) == {1, 3, 64}


def test_a_run_measures_once(made_up: list[int], tmp_path: Path) -> None:
    budget = Budget(latency=0.7)
    first = pruned(FEW, budget, tmp_path / "run")
    count = len(made_up)
    (tmp_path / "run" / "result.json").unlink()
    (tmp_path / "run" / "journal.jsonl").write_text(
        "".join(
            line
            for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines(keepends=True)
            if '"finished"' not in line
        )
    )
    again = pruned(FEW, budget, tmp_path / "run")
    assert len(made_up) == count
    assert again.subnet == first.subnet
    assert [t.widths.tolist() for t in again.trials] == [t.widths.tolist() for t in first.trials]


def test_known_times_are_used(made_up: list[int], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, data = widthwise.build_model("digits_net"), widthwise.load_data("digits")
    graph = widthwise.trace(model, data.example())
    latency = measure_latency(model, graph, data.example(1))
    made_up.clear()
    widthwise.compress(
        model, data, budget=Budget(latency=0.7), method=FEW, finetune=BRIEF, latency=latency, run=tmp_path / "run"
    )
    assert not made_up
    assert Latency.from_json(read_json(tmp_path / "run" / "latency.json")) == latency


def test_the_model_is_not_touched_and_times_are_near_the_real_ones() -> None:
    torch.manual_seed(0)
    model = widthwise.build_model("vgg16_bn").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    example = torch.randn(4, 3, 32, 32)
    graph = widthwise.trace(model, example[:1])
    latency = measure_latency(model, graph, example, networks=12)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    cost, space = CostModel(graph, latency=latency), WidthSpace().of(graph)
    rows = torch.stack([space.full, space.snap(space.full[None] * 0.3)[0]])
    real = latencies([widthwise.materialize(model, graph, graph.subnet(widths=row)) for row in rows], example)
    said = (torch.as_tensor(cost.measure("latency", rows)).double() / 1e9).tolist()
    # Loosely, because other tests run beside this one: the narrow network has a tenth of the multiply-adds.
    assert 0.2 < (said[1] / said[0]) / (real[1] / real[0]) < 5
    assert 0.2 < said[0] / real[0] < 5


def test_a_few_networks_are_needed(made_up: list[int]) -> None:
    model, example = widthwise.build_model("digits_net"), torch.zeros(1, 1, 8, 8)
    with pytest.raises(ConfigError, match="8 sub-networks or more"):
        measure_latency(model, widthwise.trace(model, example), example, networks=7)
