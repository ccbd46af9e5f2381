"""What the losses of stages are worth, measured by what they do to the network's answer."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from widthwise import WidthSpace, trace
from widthwise.stages import find_stages
from widthwise.subnet import SuperNet
from widthwise.supernet import Harm, Sampler, StageLoss, StagewiseObjective, harms, stored_features, worth
from widthwise.supernet.stagewise import Teacher, head_loss


class Loud(nn.Module):
    """Two stages and a head; what the first one returns is a hundred times as large, and read a hundredth as loudly."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.a = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=1))
        self.b = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 7, 1))
        self.hidden, self.out = nn.Linear(7, 9), nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(F.relu(self.a(x)) / self.scale)
        logits: Tensor = self.out(F.relu(self.hidden(F.relu(x).mean((2, 3)))))
        return logits


def prepared(scale: float = 1.0, teacher: bool = False) -> StageLoss:
    torch.manual_seed(0)
    model, images = Loud(scale).eval(), torch.randn(16, 3, 8, 8)
    if scale != 1.0:
        with torch.no_grad():
            last = model.a[2]
            last.weight *= scale
            last.bias *= scale
    graph = trace(model, images[:1])
    stages = find_stages(model, graph, images)
    other = Teacher(copy.deepcopy(model), stages, stages) if teacher else None
    objective = StagewiseObjective(SuperNet(model, graph), stages, Sampler(WidthSpace().of(graph)), teacher=other)
    return StageLoss(objective, stored_features(objective, [images]))


@pytest.mark.parametrize("teacher", [False, True])
def test_a_stage_that_returns_what_it_should_does_no_harm(teacher: bool) -> None:
    losses = prepared(teacher=teacher)
    objective, batch = losses.objective, losses.stored[0]
    images = batch.given[0]
    scores = objective.outputs(images)
    torch.testing.assert_close(scores, objective.network.model(images))
    for stage in range(len(objective.stages)):
        again = objective.outputs(images, stage, batch.targets[stage])
        torch.testing.assert_close(again, scores)
        assert head_loss(objective.outputs(images, stage, 2 * batch.targets[stage]), scores) > 1e-5


def test_harm_is_that_of_the_whole_network_with_one_stage_exchanged() -> None:
    losses = prepared()
    objective, images = losses.objective, losses.stored[0].given[0]
    model = objective.network.model
    found = harms(losses, seed=3)
    assert [harm.stage for harm in found] == [0] * 8 + [1] * 8 + [2] * 8
    harm = found[2]
    full = objective.sampler.space.full.clone()
    full[list(objective.stages.own[0])] = torch.tensor(harm.widths)
    with torch.no_grad():
        result = objective.stage(0, images, objective.sampler.of(full))
        expected = model.out(F.relu(model.hidden(F.relu(model.b(F.relu(result))).mean((2, 3)))))
        nats, loss = head_loss(expected, model(images)), F.mse_loss(result, model.a(images))
    assert harm.nats == pytest.approx(float(nats), rel=1e-4)
    assert harm.loss == pytest.approx(float(loss), rel=1e-4)
    assert all(harm.nats == pytest.approx(harm.loss, rel=1e-4) for harm in found if harm.stage == 2)  # the head's loss


def test_worth_makes_up_for_the_size_of_features() -> None:
    plain, loud = (worth(harms(prepared(scale), seed=0), 3) for scale in (1.0, 100.0))
    assert loud[0] * 100**2 == pytest.approx(plain[0], rel=1e-2)
    assert loud[1:] == pytest.approx(plain[1:], rel=1e-2)
    assert plain[2] == pytest.approx(1.0, rel=1e-3)


def test_worth_is_the_slope_that_fits_best() -> None:
    measured = [Harm(0, (1,), 1.0, 2.1), Harm(0, (2,), 2.0, 3.9), Harm(1, (1,), 0.0, 0.0)]
    assert worth(measured, 2) == (pytest.approx((2.1 + 2 * 3.9) / 5), 1.0)
