"""Exploration and estimation from a model, data and a budget to a trained network, on the embedded data."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import widthwise
from typecheck import annotations
from widthwise.cli import main
from widthwise.errors import ConfigError
from widthwise.exploration import ExplorationSettings
from widthwise.methods import Exploration
from widthwise.runs import read_events
from widthwise.train import TrainConfig

SHORT = Exploration(
    epochs=2,
    images=300,
    batch=100,
    settings=ExplorationSettings(samples=3, resamplings=2, lr=0.01),
    calibration_images=100,
    candidates=20,
)


@pytest.mark.parametrize(
    ("method", "budget"),
    [
        (SHORT, widthwise.Budget(macs=0.5)),
        (replace(SHORT, statistics="global"), widthwise.Budget(params=0.4)),
        (replace(SHORT, prior=None, settings=replace(SHORT.settings, t_alpha=2.0)), widthwise.Budget(macs=0.5)),
        (replace(SHORT, settings=replace(SHORT.settings, resamplings=0)), widthwise.Budget(macs=0.6, params=0.5)),
        (replace(SHORT, prior="sensitivity"), widthwise.Budget(macs=0.5)),
    ],
    ids=["macs", "params, global statistics", "from one", "both, no exploration", "by sensitivity"],
)
def test_the_budget_is_met(method: Exploration, budget: widthwise.Budget, tmp_path: Path) -> None:
    torch.manual_seed(0)
    result = widthwise.compress(
        widthwise.build_model("digits_net"),
        "digits",
        budget=budget,
        method=method,
        finetune=TrainConfig(epochs=1, lr=0.02),
        run=tmp_path / "run",
        builder="digits_net",
    )
    before, after = result.metrics["before"], result.metrics["after"]
    shares = [after.macs / before.macs / (budget.macs or 9), after.params / before.params / (budget.params or 9)]
    assert 0.97 < max(shares) <= 1
    events = read_events(tmp_path / "run" / "journal.jsonl")
    sets = sum(event["event"] == "samples" for event in events)
    assert sets == 2 * 3 * (method.settings.resamplings + 1)
    tried = sum(len(event["losses"]) for event in events if event["event"] == "widths")
    assert tried == (0 if method.prior is None else 20)
    assert sum(event["event"] == "sensitivity" for event in events) == (method.prior == "sensitivity")


def test_a_trained_network_loses_less_than_with_random_channels() -> None:
    torch.manual_seed(0)
    data, model = widthwise.load_data("digits"), widthwise.build_model("digits_net")
    widthwise.train.fit(model, data.train, TrainConfig(epochs=6, batch_size=64, lr=0.1))
    method = replace(SHORT, epochs=20, prior_spread=0.0, settings=replace(SHORT.settings, resamplings=5))
    with annotations(checked=False):
        result = widthwise.compress(
            model, data, budget=widthwise.Budget(macs=0.5), method=method, finetune=TrainConfig(epochs=0)
        )
    graph = result.graph
    judged = []
    for seed in range(8):
        keep = graph.top(graph.importance("random", seed=seed), graph.widths(result.subnet))
        small = widthwise.materialize(model.cpu(), graph, keep)
        widthwise.adaptive_bn(small, [x for x, _ in data.train.subset(100, seed=0).batches(100)])
        judged.append(widthwise.accuracy(small, data.val))
    assert result.trials[0].score > max(judged)


def test_the_command_line_knows_it(tmp_path: Path) -> None:
    arguments = ["prune", "--method", "exploration", "--exploration.epochs", "1", "--exploration.images", "100"]
    arguments += ["--exploration.batch", "50", "--exploration.settings.samples", "2", "--train.epochs", "1"]
    assert main([*arguments, "--finetune.epochs", "1", "--run", str(tmp_path / "run")]) == 0
    assert widthwise.load(tmp_path / "run") is not None


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"images": 1}, {"batch": 1}, {"prior_spread": -1.0}, {"candidates": -1}, {"candidate_batches": 0}],
)
def test_settings_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        replace(SHORT, **wrong)
