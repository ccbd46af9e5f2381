"""The whole way from a model, data and a budget to a small network, on the embedded data."""

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import widthwise
from widthwise.errors import ConfigError, EmptyData, InfeasibleBudget, LabelOutOfRange, NothingToPrune, RunMismatch
from widthwise.methods import FNNP, Baseline, ranking
from widthwise.methods.evaluators import calibration_batches
from widthwise.train import TrainConfig, fit

SHORT = TrainConfig(epochs=2, lr=0.02)


def digits_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return widthwise.build_model("digits_net")


def test_the_result_meets_the_budget_is_trained_and_saved(tmp_path):
    model = digits_net()
    result = widthwise.compress(
        model,
        "digits",
        budget=widthwise.Budget(macs=0.5, params=0.6),
        method=FNNP(candidates=8),
        train=TrainConfig(epochs=6, lr=0.1),
        finetune=TrainConfig(epochs=4, lr=0.03),
        run=tmp_path / "run",
        builder="digits_net",
    )
    before, after = result.metrics["before"], result.metrics["after"]
    assert after.macs <= 0.5 * before.macs
    assert after.params <= 0.6 * before.params
    assert after.macs > 0.49 * before.macs or after.params > 0.59 * before.params
    assert after.params == sum(p.numel() for p in result.model.parameters())
    assert after.test_accuracy is not None
    assert after.test_accuracy > 0.85
    assert set(after.latency_ms) == {1, 64}
    assert len(result.trials) == 8
    scores = [t.score for t in result.trials]
    assert scores == sorted(scores, reverse=True)
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(widthwise.load(tmp_path / "run")(x), result.model(x))
    saved = json.loads((tmp_path / "run" / "result.json").read_text())
    assert saved["after"]["macs"] == after.macs
    assert sum(layer["after"] for layer in saved["layers"]) == after.macs
    assert [group["kept"] for group in saved["groups"]] == result.graph.widths(result.subnet).tolist()
    assert all(t["macs"] <= 0.5 * before.macs for t in saved["trials"])
    with pytest.raises(RunMismatch, match=r"method\.candidates"):
        widthwise.compress(
            digits_net(),
            "digits",
            budget=widthwise.Budget(macs=0.5, params=0.6),
            method=FNNP(candidates=9),
            train=TrainConfig(epochs=6, lr=0.1),
            finetune=TrainConfig(epochs=4, lr=0.03),
            run=tmp_path / "run",
        )


def test_a_builder_of_another_network_is_refused_before_the_search(tmp_path):
    other = widthwise.zoo.model_spec("digits_net", num_classes=12)
    with pytest.raises(ConfigError, match="builder must make the architecture"):
        widthwise.compress(digits_net(), "digits", budget=widthwise.Budget(macs=0.5), run=tmp_path / "r", builder=other)
    assert not (tmp_path / "r").exists()


def test_without_a_run_folder_nothing_is_kept_and_the_model_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = digits_net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    widthwise.compress(model, "digits", budget=widthwise.Budget(params=0.7), method=FNNP(candidates=3), finetune=SHORT)
    assert not list(tmp_path.iterdir())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("strategy", ["random", "evolution", "thompson"])
@pytest.mark.parametrize("evaluator", ["global_bn", "adaptive_bn", "short_training"])
def test_every_strategy_and_evaluator(strategy, evaluator):
    method = FNNP(
        candidates=3,
        strategy=strategy,
        evaluator=evaluator,
        finalists=1,
        validation_images=60,
        short_training=TrainConfig(max_steps=3, lr=0.01),
    )
    result = widthwise.compress(
        digits_net(), "digits", budget=widthwise.Budget(macs=0.5), method=method, finetune=TrainConfig(epochs=0)
    )
    assert result.metrics["after"].macs <= 0.5 * result.metrics["before"].macs


def test_a_search_that_goes_on_keeps_its_sensitivities(tmp_path, monkeypatch):
    """They are derivatives, which another run may round otherwise; the search has to ask for the same strategies."""
    model, settings = digits_net(), {"budget": widthwise.Budget(macs=0.5), "finetune": TrainConfig(epochs=0)}
    method, run = FNNP(candidates=4, finalists=1, validation_images=60), tmp_path / "run"
    whole = widthwise.compress(model, "digits", method=method, run=run, **settings)
    lines = (run / "journal.jsonl").read_text().splitlines(keepends=True)
    assert [line for line in lines[:3] if '"sensitivity"' in line]
    cut = next(place for place, line in enumerate(lines) if '"index":2' in line)
    (run / "journal.jsonl").write_text("".join(lines[:cut]))
    for name in ("result.json", "model.safetensors", "subnet.json"):
        (run / name).unlink()
    monkeypatch.setattr(ranking, "sensitivity", lambda *_, **__: pytest.fail("measured again"))
    again = widthwise.compress(model, "digits", method=method, run=run, **settings)
    assert [t.widths.tolist() for t in again.trials] == [t.widths.tolist() for t in whole.trials]
    assert torch.equal(again.subnet.keep, whole.subnet.keep)


def test_reconstructed_weights_save_accuracy_without_any_training():
    data, model = widthwise.load_data("digits"), digits_net()
    fit(model, data.train, TrainConfig(epochs=5))
    settings = {"budget": widthwise.Budget(macs=0.4), "method": Baseline(widths="uniform", importance="l1")}
    settings["finetune"] = TrainConfig(epochs=0)
    lost, kept = (widthwise.compress(model, data, reconstruct=images, **settings) for images in (0, 250))
    assert torch.equal(lost.subnet.keep, kept.subnet.keep)
    assert kept.metrics["after"].val_accuracy > lost.metrics["after"].val_accuracy + 0.05
    for images in (-1, 1):
        with pytest.raises(ConfigError, match="at least 2, or 0"):
            widthwise.compress(model, data, reconstruct=images, **settings)
    for method in (widthwise.Joint(), widthwise.Stagewise(), Baseline(scratch=TrainConfig(epochs=0))):
        with pytest.raises(ConfigError, match=f"{type(method).__name__} trains them from weights of their own"):
            widthwise.compress(model, data, reconstruct=250, **{**settings, "method": method})


def test_a_last_batch_of_one_image_is_left_out_of_the_statistics():
    data = widthwise.load_data("digits")
    split = replace(data, train=data.train.subset(251, seed=0))
    assert [len(batch) for batch in calibration_batches(split.train)] == [250]
    norms = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    method = FNNP(candidates=3, finalists=1)
    settings = {"budget": widthwise.Budget(macs=0.5), "finetune": TrainConfig(epochs=0)}
    assert widthwise.compress(norms, split, method=method, reconstruct=251, **settings).metrics["after"].macs > 0


def test_distillation_from_the_full_network():
    result = widthwise.compress(
        digits_net(),
        "digits",
        budget=widthwise.Budget(macs=0.5),
        method=FNNP(candidates=2, finalists=1),
        finetune=TrainConfig(epochs=1, lr=0.02, distill_weight=0.5),
    )
    assert result.model is not None


class Fixed(nn.Module):
    """One layer: its input is the image, its output the result."""

    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Conv2d(1, 10, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.only(x).flatten(1)


def test_bad_input_is_refused_before_any_work(tmp_path):
    budget = widthwise.Budget(macs=0.5)
    with pytest.raises(NothingToPrune, match="reaches the model's output"):
        widthwise.compress(Fixed(), "digits", budget=budget, run=tmp_path / "a")
    with pytest.raises(InfeasibleBudget, match="smallest"):
        widthwise.compress(digits_net(), "digits", budget=widthwise.Budget(macs=1e-4), run=tmp_path / "a")
    with pytest.raises(LabelOutOfRange, match=r"0\.\.2"):
        widthwise.compress(
            widthwise.build_model("digits_net", num_classes=3), "digits", budget=budget, run=tmp_path / "a"
        )
    with pytest.raises(EmptyData):
        widthwise.compress(digits_net(), TensorDataset(torch.zeros(0, 1, 8, 8), torch.zeros(0).long()), budget=budget)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"candidates": 0}, "candidates"),
        ({"max_rate": 0.0}, "max_rate"),
        ({"max_rate": 1.5}, "max_rate"),
        ({"strategy": "best"}, "strategy"),
        ({"finalists": 0}, "finalists"),
    ],
)
def test_settings_outside_their_range(settings, message):
    with pytest.raises((ConfigError, Exception), match=message) as caught:
        FNNP(**settings)
    if settings != {"strategy": "best"}:  # the run-time type checker of the tests sees that one first
        assert caught.type is ConfigError


def test_a_finished_run_is_opened_again_without_work(tmp_path, monkeypatch):
    def again() -> widthwise.Result:
        return widthwise.compress(
            digits_net(),
            "digits",
            budget=widthwise.Budget(macs=0.5),
            method=FNNP(candidates=4),
            finetune=TrainConfig(epochs=1, lr=0.03),
            run=tmp_path / "run",
        )

    first = again()
    before = (tmp_path / "run" / "journal.jsonl").read_bytes()
    monkeypatch.setattr(FNNP, "search", lambda self, task: pytest.fail("it searched again"))
    second = again()
    assert (tmp_path / "run" / "journal.jsonl").read_bytes() == before
    assert (second.metrics, second.subnet) == (first.metrics, first.subnet)
    assert [(t.index, t.widths.tolist(), t.score) for t in second.trials] == [
        (t.index, t.widths.tolist(), t.score) for t in first.trials
    ]
    states = [result.model.state_dict() for result in (first, second)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not second.model.training
