"""Pruning without a search: the widths are those of the rule, the filters those that matter most."""

import torch
from torch import Tensor, nn

import widthwise
from widthwise import Budget, CostModel, TrainConfig, WidthSpace
from widthwise.methods import Baseline
from widthwise.search import shared_widths, uniform_widths


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
    for method, rule in ((Baseline(), uniform_widths), (Baseline(widths="shared"), shared_widths)):
        result = widthwise.compress(model, "digits", budget=budget, method=method, finetune=untrained)
        space = WidthSpace().of(result.graph)
        wanted = rule(space, budget.on(CostModel(result.graph), space))
        assert torch.equal(result.graph.widths(result.subnet), wanted)
        top = result.graph.top(result.graph.importance("l1"), wanted)
        assert torch.equal(result.subnet.keep, top.keep)
        streams.append(int(wanted[result.graph.makers > 1]))
    assert streams == [5, 7]
