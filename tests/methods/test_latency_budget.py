"""A budget of latency from the model to the network: times that are made up, and real ones."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import widthwise
from widthwise import Budget, CostModel, WidthSpace, measure_latency
from widthwise.cost import Latency
from widthwise.cost.latency import TICKS
from widthwise.errors import ConfigError, CorruptRun, InvalidBudget, RunMismatch
from widthwise.evaluate import latencies
from widthwise.experiments import compare
from widthwise.joint import RoundSettings
from widthwise.methods import FNNP, Exploration, Joint, Method, RunRecord, Stagewise
from widthwise.report.data import run_report
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
    latency = Latency.from_json(read_json(folder / "latency.json"), folder)
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


def cut(run: Path, events: int) -> None:
    """As if the process had been killed after so many lines of the journal."""
    (run / "result.json").unlink()
    lines = (run / "journal.jsonl").read_text().splitlines(keepends=True)
    (run / "journal.jsonl").write_text("".join(lines[:events]))


@pytest.mark.parametrize("events", [1, 2, 6])
def test_a_run_that_was_cut_goes_on_with_its_times(
    events: int, made_up: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pruned(FEW, Budget(latency=0.7), tmp_path / "run")
    cut(tmp_path / "run", events)
    monkeypatch.setattr("widthwise.methods.latency.module_times", None)  # other times would be another search
    again = pruned(FEW, Budget(latency=0.7), tmp_path / "run")
    assert again.subnet == first.subnet
    assert [t.widths.tolist() for t in again.trials] == [t.widths.tolist() for t in first.trials]


def test_a_run_that_has_lost_its_times_does_not_go_on(made_up: list[int], tmp_path: Path) -> None:
    pruned(FEW, Budget(latency=0.7), tmp_path / "run")
    cut(tmp_path / "run", 6)
    (tmp_path / "run" / "latency.json").unlink()
    with pytest.raises(CorruptRun, match="missing"):
        pruned(FEW, Budget(latency=0.7), tmp_path / "run")


def test_methods_that_are_compared_have_the_same_times(made_up: list[int], tmp_path: Path) -> None:
    def row(name: str, batch: int = 1) -> None:
        torch.manual_seed(0)
        compare(
            widthwise.build_model("digits_net"),
            "digits",
            budget=Budget(latency=0.7, latency_batch=batch),
            methods={name: FEW},
            seeds=(0,),
            finetune=BRIEF,
            run=tmp_path,
        )

    row("first")
    count = len(made_up)
    row("second")
    assert len(made_up) == count
    files = [tmp_path / "latency.json", *(tmp_path / name / "seed-0" / "latency.json" for name in ("first", "second"))]
    assert len({file.read_text() for file in files}) == 1
    with pytest.raises(RunMismatch, match=r"budget\.latency_batch"):
        row("third", batch=2)
    for name in ("first", "second"):
        shutil.rmtree(tmp_path / name)
    with pytest.raises(InvalidBudget, match="latency_batch=1"):  # by the times that are left
        row("third", batch=2)


def test_what_is_said_of_it(made_up: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Measured again at its own batch; a report in which the stages' costs are times."""
    division = DivisionSettings(evaluations=40, exhaustive=0)
    stagewise = Stagewise(chained=0, supernet=BRIEF, retrain=BRIEF, division=division)
    pruned(stagewise, Budget(latency=0.7, latency_batch=3), tmp_path / "run")
    report = run_report(RunRecord.read(tmp_path / "run"))
    assert report.summary.fit_error is not None
    assert report.summary.fit_error < 0.01
    assert any("off by" in note for note in report.answer.notes)
    assert report.division is not None
    assert report.division.metric == "latency"
    latency = Latency.from_json(read_json(tmp_path / "run" / "latency.json"), "")
    torch.manual_seed(0)
    graph = widthwise.trace(widthwise.build_model("digits_net"), torch.zeros(1, 1, 8, 8))
    nanoseconds = CostModel(graph, latency=latency).full["latency"] / TICKS * 1e9
    assert sum(stage.before or 0 for stage in report.division.stages) == pytest.approx(nanoseconds, rel=1e-3)


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
    other = replace(latency, device="elsewhere")
    with pytest.raises(RunMismatch, match="those that were given"):
        widthwise.compress(
            model, data, budget=Budget(latency=0.7), method=FEW, finetune=BRIEF, latency=other, run=tmp_path / "run"
        )
    assert Latency.from_json(read_json(tmp_path / "run" / "latency.json"), "") == latency


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
    said = (torch.as_tensor(cost.measure("latency", rows)).double() / TICKS * 1000).tolist()
    # Loosely, because other tests run beside this one: the narrow network has a tenth of the multiply-adds.
    assert 0.3 < (said[1] / said[0]) / (real[1] / real[0]) < 3
    assert 0.3 < said[0] / real[0] < 3


def test_a_few_networks_are_needed(made_up: list[int]) -> None:
    model, example = widthwise.build_model("digits_net"), torch.zeros(1, 1, 8, 8)
    with pytest.raises(ConfigError, match="8 sub-networks or more"):
        measure_latency(model, widthwise.trace(model, example), example, networks=7)
