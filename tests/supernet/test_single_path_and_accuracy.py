"""Plain weight sharing, and the accuracy that sub-networks reach with a super-net's weights."""

from functools import partial

import pytest
import torch
from supernet_steps import step_of
from torch.nn import functional as F

from widthwise import Subnet, WidthSpace, accuracy, adaptive_bn, build_model, load_data, materialize, trace
from widthwise.errors import ConfigError
from widthwise.methods.evaluators import AdaptiveBN, inherited
from widthwise.subnet import SuperNet
from widthwise.supernet import PruningNet, Sampler, SinglePathObjective, expected_accuracy
from widthwise.train import TrainConfig, fit

SPACE = WidthSpace(ratios=(0.25, 0.5, 1.0))


def digits():  # type: ignore[no-untyped-def]
    data = load_data("digits")
    model = build_model("digits_net").eval()
    return data, model, trace(model, data.example())


def test_a_step_trains_the_drawn_sub_network_alone() -> None:
    data, model, graph = digits()
    sampler = Sampler(SPACE.of(graph))
    objective = SinglePathObjective(SuperNet(model, graph), sampler)
    images, labels = next(iter(data.train.batches(32)))
    small = materialize(model, graph, sampler.layerwise(3)).train()
    model.train()
    outcome = step_of(objective, model, images, labels, seed=3)
    logits = small(images)
    F.cross_entropy(logits, labels).backward()
    torch.testing.assert_close(outcome.logits, logits.detach())
    for (name, mine), theirs in zip(model.named_parameters(), small.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(mine.grad.norm(), theirs.grad.norm(), msg=name)


def test_a_checkpoint_is_of_shared_or_of_generated_weights() -> None:
    _, model, graph = digits()
    network, sampler = SuperNet(model, graph), Sampler(SPACE.of(graph))
    generator = PruningNet(model, graph, hidden=5)
    own = {"subnets": sampler.fingerprint}
    assert SinglePathObjective(network, sampler).describe() == {"objective": "single_path", **own}
    assert SinglePathObjective(network, sampler, generator).describe() == {"objective": "meta", "hidden": 5, **own}


def test_the_accuracy_is_that_of_the_recalibrated_small_network() -> None:
    data, model, graph = digits()
    subnet = Sampler(SPACE.of(graph)).layerwise(1)
    calibration = data.train.subset(300, seed=0)
    small = materialize(model, graph, subnet)
    adaptive_bn(small, calibration.batches(250))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert AdaptiveBN(inherited(model, graph), calibration, data.val)(subnet) == accuracy(small, data.val)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    generator = PruningNet(model, graph)
    for layer in generator.generators:
        torch.nn.init.zeros_(layer[-1].weight)  # so that it generates the model's own weights
    generated = AdaptiveBN(partial(generator.materialize, model), calibration, data.val)
    assert generated(subnet) == accuracy(small, data.val)


def test_the_expectation_is_the_mean_over_random_sub_networks() -> None:
    _, _, graph = digits()
    sampler = Sampler(SPACE.of(graph))

    def share(subnet: Subnet) -> float:
        return float(subnet.keep.double().mean())

    found = expected_accuracy(share, sampler, 5, seed=7)
    assert found.subnets == tuple(sampler.layerwise(seed) for seed in range(7, 12))
    assert found.mean == pytest.approx(sum(share(s) for s in found.subnets) / 5)
    with pytest.raises(ConfigError, match="one sub-network or more"):
        expected_accuracy(share, sampler, 0)


def test_training_raises_the_expectation() -> None:
    data, model, graph = digits()
    sampler = Sampler(SPACE.of(graph))
    judge = AdaptiveBN(inherited(model, graph), data.train.subset(300, seed=0), data.val)
    before = expected_accuracy(judge, sampler, 4).mean
    config = TrainConfig(epochs=3, batch_size=64, lr=0.1)
    fit(model, data.train, config, objective=SinglePathObjective(SuperNet(model, graph), sampler))
    assert expected_accuracy(judge, sampler, 4).mean > before + 0.2
