"""Three ways to run a sub-network, one meaning: real networks against an independent reference."""

import functools

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import oracle
import widthwise
from widthwise import ChannelGraph
from widthwise.zoo import build_model

QUICK = {
    "resnet18": 64,
    "resnext50_32x4d": 64,
    "mobilenet_v3_small": 64,
    "densenet121": 64,
    "squeezenet1_1": 64,
    "shufflenet_v2_x1_0": 64,
    "googlenet": 64,
    "efficientnet_b0": 64,
}
SLOW = {
    "vgg16_bn": 32,
    "convnext_tiny": 64,
    "resnet50": 96,
    "regnet_y_400mf": 96,
    "mobilenet_v2": 96,
    "inception_v3": 96,
    "mnasnet1_0": 96,
}
ZOO = {"resnet20": (3, 32, 32), "vgg16_bn": (3, 32, 32), "mobilenet_v1": (3, 32, 32), "digits_net": (1, 8, 8)}
SLOW_ZOO = {"resnet56": (3, 32, 32), "preact_resnet164": (3, 32, 32)}


@functools.cache
def traced(name: str, size: int) -> tuple[nn.Module, ChannelGraph, Tensor]:
    heads = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, num_classes=10, **heads)
    inputs = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(2)) * 2 - 1
    return model, widthwise.trace(model, inputs), inputs


@functools.cache
def traced_zoo(name: str, shape: tuple[int, int, int]) -> tuple[nn.Module, ChannelGraph, Tensor]:
    model = build_model(name, num_classes=10)
    inputs = torch.randn(1, *shape, generator=torch.Generator().manual_seed(2))
    return model, widthwise.trace(model, inputs), inputs


def check(model: nn.Module, graph: ChannelGraph, inputs: Tensor, seeds: range) -> None:
    cost = widthwise.CostModel(graph)
    for seed in seeds:
        oracle.randomise(model, seed)
        keep = oracle.random_keep(graph, seed)
        oracle.check_subnet(model, graph, keep, inputs, 1e-5)
        subnet = graph.subnet(keep)
        small = widthwise.materialize(model, graph, subnet).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            small(inputs)
        assert cost.macs(subnet) == counter.get_total_flops() // 2
        assert cost.params(subnet) == sum(p.numel() for p in small.parameters())


@pytest.mark.parametrize("name", QUICK)
def test_torchvision_families(name: str) -> None:
    check(*traced(name, QUICK[name]), range(2))


@pytest.mark.slow
@pytest.mark.parametrize("name", {**QUICK, **SLOW})
def test_torchvision_families_with_more_seeds_and_the_edges(name: str) -> None:
    model, graph, inputs = traced(name, {**QUICK, **SLOW}[name])
    check(model, graph, inputs, range(3))
    for _, keep in list(oracle.edge_keeps(graph))[:5]:
        oracle.check_subnet(model, graph, keep, inputs, 1e-5)


@pytest.mark.parametrize("name", ZOO)
def test_zoo(name: str) -> None:
    check(*traced_zoo(name, ZOO[name]), range(2))


@pytest.mark.slow
@pytest.mark.parametrize("name", {**ZOO, **SLOW_ZOO})
def test_zoo_with_more_seeds(name: str) -> None:
    check(*traced_zoo(name, {**ZOO, **SLOW_ZOO}[name]), range(3))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x1_0"])
def test_nearly_everything_is_prunable(name: str) -> None:
    _, graph, _ = traced(name, QUICK[name])
    assert len(graph.prunable) >= 10
    assert {g.reason for g in graph.pinned if g.name in ("conv1", "features.0.0")} == set()


def test_googlenet_with_auxiliary_heads_still_trains() -> None:
    model = torchvision.models.get_model("googlenet", weights=None, num_classes=10, init_weights=False, aux_logits=True)
    oracle.randomise(model, 0)
    inputs = torch.rand(1, 3, 64, 64)
    graph = widthwise.trace(model, inputs)
    assert any(g.name.startswith("aux1") for g in graph.prunable)
    keep = oracle.random_keep(graph, 0)
    oracle.check_subnet(model, graph, keep, inputs, 1e-5)
    small = widthwise.materialize(model, graph, graph.subnet(keep)).train()
    assert [t.shape for t in small(torch.cat([inputs, inputs]))] == [(2, 10)] * 3


@pytest.mark.slow
def test_inception_with_auxiliary_head_still_trains() -> None:
    model = torchvision.models.get_model("inception_v3", weights=None, num_classes=10, init_weights=False)
    oracle.randomise(model, 0)
    inputs = torch.rand(1, 3, 299, 299)
    graph = widthwise.trace(model, inputs)
    keep = oracle.random_keep(graph, 0)
    oracle.check_subnet(model, graph, keep, inputs, 1e-5)
    small = widthwise.materialize(model, graph, graph.subnet(keep)).train()
    assert [t.shape for t in small(torch.cat([inputs, inputs]))] == [(2, 10)] * 2


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_gradients_of_shared_are_those_of_the_copy_scattered_into_the_parent(name: str) -> None:
    model, graph, inputs = traced(name, QUICK[name])
    oracle.randomise(model, 0).double().eval()
    try:
        keep = oracle.random_keep(graph, 0)
        subnet = graph.subnet(keep)
        small = widthwise.materialize(model, graph, subnet)
        small(inputs.double()).square().sum().backward()
        model.zero_grad()
        widthwise.shared(model, graph, subnet)(inputs.double()).square().sum().backward()
        expected = {}
        for tensor, parameter in small.named_parameters():
            full = dict(model.named_parameters())[tensor]
            positions = [
                torch.arange(n)[(ids < 0) | keep[ids.clamp(min=0)]]
                for n, ids in ((n, graph.axes[tensor, d]) for d, n in enumerate(full.shape))
            ]
            scattered = torch.zeros_like(full)
            scattered[torch.meshgrid(*positions, indexing="ij")] = parameter.grad
            expected[tensor] = scattered
        for tensor, parameter in model.named_parameters():
            assert parameter.grad is not None, tensor
            torch.testing.assert_close(parameter.grad, expected[tensor], rtol=1e-7, atol=1e-9)
    finally:
        model.float().zero_grad()


def test_gates_have_gradients_equal_to_finite_differences() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sigmoid(), nn.Flatten(), nn.Linear(64, 2)).double()
    oracle.randomise(model, 0).eval()
    inputs = torch.randn(1, 3, 6, 6, dtype=torch.float64)
    graph = widthwise.trace(model, inputs)
    gates = (torch.rand(graph.num_channels, dtype=torch.float64) + 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda g: widthwise.gated(model, graph, g)(inputs), (gates,))
