"""Pruning without a search: the widths are those of the rule, the filters those that matter most."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import widthwise
from widthwise import Budget, CostModel, TrainConfig, WidthSpace
from widthwise.data import at_most
from widthwise.errors import ConfigError
from widthwise.evaluate import sensitivity
from widthwise.methods import Baseline, RunRecord
from widthwise.search import balanced_widths, shared_widths, uniform_widths
from widthwise.train import fit


class Residual(nn.Module):
    """A stream of 8 channels that three layers make, and two blocks with 12 channels inside."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 8, 3, padding=1)) for _ in range(2)
        )
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean((2, 3)))


def test_widths_are_those_of_the_rule() -> None:
    model, budget, untrained = Residual(), Budget(macs=0.5), TrainConfig(epochs=0)
    streams = []
    for name, rule in (("uniform", uniform_widths), ("shared", shared_widths)):
        method = Baseline(widths=name, importance="l1")
        result = widthwise.compress(model, "digits", budget=budget, method=method, finetune=untrained)
        space = WidthSpace().of(result.graph)
        wanted = rule(space, budget.on(CostModel(result.graph), space))
        assert torch.equal(result.graph.widths(result.subnet), wanted)
        top = result.graph.top(result.graph.importance("l1"), wanted)
        assert torch.equal(result.subnet.keep, top.keep)
        streams.append(int(wanted[result.graph.makers > 1]))
    assert streams == [5, 7]


def test_balanced_widths_come_from_sensitivities_of_training_images(tmp_path: Path) -> None:
    data, model, budget = widthwise.load_data("digits"), Residual(), Budget(macs=0.5)
    fit(model, data.train, TrainConfig(epochs=2, lr=0.05))
    method = Baseline(sensitivity_images=200, seed=3)
    settings = {"budget": budget, "method": method, "finetune": TrainConfig(epochs=0)}
    result = widthwise.compress(model, data, run=tmp_path / "run", **settings)
    space = WidthSpace().of(result.graph)
    batches = at_most(data.train, 200, 3).batches(10)
    scores = sensitivity(model, result.graph, batches, seed=3)
    kept = [event for event in RunRecord.read(tmp_path / "run").events if event["event"] == "sensitivity"]
    torch.testing.assert_close(torch.tensor(kept[0]["scores"], dtype=torch.float64), scores, rtol=1e-4, atol=0)
    widths = balanced_widths(space, budget.on(CostModel(result.graph), space), scores)
    assert torch.equal(result.graph.widths(result.subnet), widths)
    assert not torch.equal(widths, uniform_widths(space, budget.on(CostModel(result.graph), space)))
    assert torch.equal(result.subnet.keep, result.graph.top(scores, widths).keep)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ConfigError, match="sensitivity_images must be at least 1, but got 0"):
        Baseline(sensitivity_images=0)
