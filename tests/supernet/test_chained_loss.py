"""The loss of the last stage where each stage is fed by the one before."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from widthwise import WidthSpace, trace
from widthwise.stages import find_stages
from widthwise.subnet import SuperNet
from widthwise.supernet import Sampler, StageLoss, StagewiseObjective, head_loss, stored_features


class Chain(nn.Module):
    """Two stages and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=1))
        self.b = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 7, 1))
        self.hidden, self.out = nn.Linear(7, 9), nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(F.relu(self.a(x)))
        logits: Tensor = self.out(F.relu(self.hidden(F.relu(x).mean((2, 3)))))
        return logits


@pytest.fixture(params=[16, 10], ids=["one batch", "two batches"])
def losses(request: pytest.FixtureRequest) -> StageLoss:
    torch.manual_seed(0)
    model, images = Chain().eval(), torch.randn(16, 3, 8, 8)
    graph = trace(model, images[:1])
    stages = find_stages(model, graph, images)
    objective = StagewiseObjective(SuperNet(model, graph), stages, Sampler(WidthSpace().of(graph)))
    return StageLoss(objective, stored_features(objective, images.split(request.param)), adapters="learned")


def test_each_stage_is_fed_with_what_the_one_before_returned(losses: StageLoss) -> None:
    objective = losses.objective
    widths = (objective.sampler.space.full + 1) // 2
    subnet = objective.sampler.of(widths)
    found = torch.cat([batch.given[0] for batch in losses.stored])
    targets = torch.cat([batch.targets[-1] for batch in losses.stored])
    with torch.no_grad():
        for stage in range(3):
            found = objective.stage(stage, found, subnet)
    assert losses.chained(widths) == pytest.approx(float(head_loss(found, targets)), rel=1e-5)
    assert losses.chained(widths) != pytest.approx(losses(2, widths), rel=1e-2)


def test_the_full_network_has_none(losses: StageLoss) -> None:
    """Adapters start as the identity."""
    assert losses.chained(losses.objective.sampler.space.full) == pytest.approx(0, abs=1e-6)
