"""By which adapter a stage is judged, and how its positions count."""

from math import prod

import pytest
import torch
from torch import nn

from widthwise import WidthSpace, build_model, load_data, trace
from widthwise.stages import find_stages
from widthwise.subnet import SuperNet
from widthwise.supernet import Sampler, StageLoss, StagewiseObjective, StoredBatch, feature_loss, stored_features
from widthwise.supernet.refit import refitted
from widthwise.train import TrainConfig, fit


@pytest.fixture(scope="module")
def trained() -> tuple[StagewiseObjective, list[StoredBatch]]:
    """A super-net on the digits, trained for four epochs."""
    data = load_data("digits")
    torch.manual_seed(0)
    model = build_model("digits_net")
    graph = trace(model, data.example())
    stages = find_stages(model, graph, data.example())
    objective = StagewiseObjective(SuperNet(model, graph), stages, Sampler(WidthSpace().of(graph)))
    fit(model, data.train, TrainConfig(epochs=4, batch_size=64, lr=0.1), objective=objective)
    images = torch.cat([images for images, _ in data.val.batches(256)])
    return objective, stored_features(objective, images.split(180))


def test_an_untouched_stage_loses_next_to_nothing_after_training(
    trained: tuple[StagewiseObjective, list[StoredBatch]],
) -> None:
    """Training shows the adapters narrow sub-networks only; by what they learn, the full stage is far from itself."""
    objective, stored = trained
    space = objective.sampler.space
    loss, learned = StageLoss(objective, stored), StageLoss(objective, stored, adapters="learned")
    half = space.snap(space.full[None] / 2)[0]
    for stage in range(len(objective.stages)):
        assert loss(stage, space.full) < 0.05 * loss(stage, half)
        assert loss(stage, space.full) < 0.1 * learned(stage, space.full)
        assert loss(stage, half) < learned(stage, half)
    assert loss.chained(space.full) < 0.05 * loss.chained(half)
    assert learned.chained(space.full) > 0.1 * learned.chained(half)  # the fault that this mends


def test_the_images_that_an_adapter_is_fitted_to_are_not_scored() -> None:
    """Targets without any relation to the stage: what was fitted would look better than it is."""
    torch.manual_seed(0)
    found, target = torch.randn(40, 12, 1, 1), torch.randn(40, 12, 1, 1)
    (result,) = refitted([found], [torch.zeros_like(found)], [target], 1)
    assert feature_loss(result[:20], target[:20]) < 0.6
    assert feature_loss(result[20:], target[20:]) > 1.2


def test_a_stage_is_scored_on_the_other_half_of_each_batch(
    trained: tuple[StagewiseObjective, list[StoredBatch]],
) -> None:
    objective, stored = trained
    loss, narrow = StageLoss(objective, stored), objective.sampler.space.smallest
    results = loss.results(0, [batch.given[0] for batch in stored], narrow)
    pairs = [(r[len(r) // 2 :], b.targets[0][len(r) // 2 :]) for r, b in zip(results, stored, strict=True)]
    found, target = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    assert loss(0, narrow) == pytest.approx(float(feature_loss(found, target)), rel=1e-5)


def test_a_linear_relation_is_found_whatever_the_adapter_says() -> None:
    torch.manual_seed(0)
    batches = [torch.randn(20, 5, 5, 8), torch.randn(12, 5, 5, 8)]  # channels last
    layer = nn.Linear(8, 6)
    with torch.no_grad():
        targets = [layer(batch) for batch in batches]
    results = refitted(batches, [torch.full_like(t, 3.0) for t in targets], targets, 3)
    for result, target in zip(results, targets, strict=True):
        assert result.shape == target.shape
        assert float(feature_loss(result, target)) < 1e-5


@pytest.mark.parametrize("images", [1, 2, 3])
def test_the_learned_adapter_is_left_as_it_is_where_there_is_little_to_fit(images: int) -> None:
    found = torch.zeros(images, 5, 2, 2)  # a dead stage
    adapted, targets = torch.ones(images, 4, 2, 2), torch.ones(images, 4, 2, 2)
    (result,) = refitted([found], [adapted], [targets], 1)
    assert torch.equal(result, adapted)


def test_positions_are_averaged_or_summed(trained: tuple[StagewiseObjective, list[StoredBatch]]) -> None:
    """Equation 7 divides by the channels alone."""
    objective, stored = trained
    narrow = objective.sampler.space.smallest
    mean, literal = (StageLoss(objective, stored, adapters="learned", positions=p) for p in ("mean", "sum"))
    for index, stage in enumerate(objective.stages.stages):
        apart = 0.0
        for batch in stored:
            with torch.no_grad():
                (found,) = StageLoss(objective, [batch], adapters="learned").results(
                    index, [batch.given[index]], narrow
                )
            apart += float((found - batch.targets[index]).square().sum()) / stage.channels
        assert literal(index, narrow) == pytest.approx(apart / sum(len(b.given[0]) for b in stored), rel=1e-4)
        assert literal(index, narrow) == pytest.approx(mean(index, narrow) * prod(stage.resolution), rel=1e-6)
    assert literal.chained(narrow) == pytest.approx(mean.chained(narrow) * 16, rel=1e-6)
