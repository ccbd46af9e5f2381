"""The keep vector, its JSON, and importance computed by hand on a small network with a residual group."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import widthwise
from widthwise import ChannelGraph, Subnet
from widthwise.errors import ConfigError, SubnetMismatch


class Residual(nn.Module):
    """Groups: ``a`` (4 channels, made by a and b together) and ``inner`` (3)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm_a = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.inner, self.norm = nn.Conv2d(4, 3, 1), nn.BatchNorm2d(3)
        self.b, self.norm_b = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm_a(self.a(x)).relu()
        x = x + self.norm_b(self.b(self.norm(self.inner(x)).relu()))
        return self.head(x.mean((2, 3)))


@pytest.fixture
def model() -> Residual:
    model = Residual()
    with torch.no_grad():
        for norm in (model.norm_a, model.norm, model.norm_b):
            norm.weight.copy_(torch.randn(norm.num_features))
            norm.bias.copy_(torch.randn(norm.num_features))
    return model


@pytest.fixture
def graph(model: Residual) -> ChannelGraph:
    graph = widthwise.trace(model, torch.randn(1, 3, 4, 4))
    assert [(g.name, g.width) for g in graph.prunable] == [("a", 4), ("inner", 3)]
    return graph


def test_makers_count_the_layers_that_write_to_a_group(graph: ChannelGraph) -> None:
    assert graph.makers.tolist() == [2, 1]


def test_a_depthwise_convolution_makes_no_channels() -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 2, 1))
    graph = widthwise.trace(body, torch.randn(1, 3, 4, 4))
    assert graph.makers.tolist() == [1, 1]


def rows(layer: nn.Conv2d) -> Tensor:
    return layer.weight.detach().double().flatten(1)


def test_norms_are_summed_over_the_members(model: Residual, graph: ChannelGraph) -> None:
    for kind, p in (("l1", 1), ("l2", 2)):
        stream = rows(model.a).norm(p, dim=1) + rows(model.b).norm(p, dim=1)
        expected = torch.cat([stream, rows(model.inner).norm(p, dim=1)])
        torch.testing.assert_close(graph.importance(kind), expected)


def test_geometric_median(model: Residual, graph: ChannelGraph) -> None:
    def distances(layer: nn.Conv2d) -> Tensor:
        w = rows(layer)
        return torch.stack([sum((w[i] - w[j]).norm() for j in range(len(w))) for i in range(len(w))])

    expected = torch.cat([distances(model.a) + distances(model.b), distances(model.inner)])
    torch.testing.assert_close(graph.importance("geometric_median"), expected)


def test_scale_of_the_batch_norm(model: Residual, graph: ChannelGraph) -> None:
    expected = torch.cat([model.norm_a.weight.abs() + model.norm_b.weight.abs(), model.norm.weight.abs()])
    torch.testing.assert_close(graph.importance("bn_scale"), expected.detach().double())


def test_scale_of_the_batch_norm_needs_one() -> None:
    graph = widthwise.trace(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)), torch.randn(1, 3, 4, 4))
    with pytest.raises(ConfigError, match="batch norm"):
        graph.importance("bn_scale")


def test_random_is_seeded(graph: ChannelGraph) -> None:
    first = graph.importance("random", seed=5)
    assert torch.equal(first, graph.importance("random", seed=5))
    assert not torch.equal(first, graph.importance("random", seed=6))


def test_taylor_is_the_squared_sum_of_weight_times_gradient(model: Residual, graph: ChannelGraph) -> None:
    model.train()
    model.a.weight.requires_grad_(False)
    batches = [(torch.randn(3, 3, 4, 4), torch.tensor([0, 1, 1])) for _ in range(2)]
    statistics = model.norm.running_mean.clone()
    found = graph.taylor(batches)
    assert model.training
    assert not model.a.weight.requires_grad
    assert model.inner.weight.grad is None
    assert torch.equal(statistics, model.norm.running_mean)
    model.eval().requires_grad_(True)
    sum(nn.functional.cross_entropy(model(x), y) for x, y in batches).backward()
    score = [(layer.weight * layer.weight.grad).flatten(1).sum(1) ** 2 for layer in (model.a, model.b, model.inner)]
    torch.testing.assert_close(
        found, torch.cat([score[0] + score[1], score[2]]).detach().double(), rtol=1e-4, atol=1e-8
    )


def test_widths_keep_the_most_important(model: Residual, graph: ChannelGraph) -> None:
    scores = torch.tensor([0.1, 0.9, 0.5, 0.9, 3.0, 1.0, 2.0])
    assert graph.subnet(widths={"a": 2, "inner": 1}, importance=scores).keep.tolist() == [0, 1, 0, 1, 1, 0, 0]
    for widths in (torch.tensor([1, 2]), [1, 2], (1, 2)):
        assert graph.subnet(widths=widths, importance=scores).keep.tolist() == [0, 1, 0, 0, 1, 0, 1]
    inner = graph.prunable[1]
    assert graph.subnet(widths={inner: 2}, importance=scores).keep.tolist() == [1, 1, 1, 1, 1, 0, 1]
    top = graph.importance("l1")[:4].argmax().item()
    assert graph.subnet(widths={"a": 1}).keep[:4].nonzero().tolist() == [[top]]
    assert bool(graph.subnet().keep.all())
    assert graph.widths(graph.subnet(widths={"a": 2})).tolist() == [2, 3]


@pytest.mark.parametrize("keep", [[True] * 6, [True] * 8, [True] * 4 + [False] * 3, [], [0.5] * 7, [[True] * 7]])
def test_keep_vectors_that_do_not_fit(graph: ChannelGraph, keep: Any) -> None:
    with pytest.raises(SubnetMismatch):
        graph.subnet(torch.tensor(keep))


@pytest.mark.parametrize(
    "widths", [{"a": 0}, {"a": 5}, {"inner": -1}, {"nothing": 1}, {"head": 1}, torch.tensor([1]), torch.tensor([0, 1])]
)
def test_widths_that_do_not_fit(graph: ChannelGraph, widths: Any) -> None:
    with pytest.raises(SubnetMismatch):
        graph.subnet(widths=widths)


def test_keep_and_widths_exclude_one_another(graph: ChannelGraph) -> None:
    with pytest.raises(SubnetMismatch, match="both"):
        graph.subnet([True] * 7, widths={"a": 1})
    for scores in (torch.ones(3), torch.full((7,), float("nan"))):
        with pytest.raises(SubnetMismatch, match="score per channel"):
            graph.subnet(widths={"a": 1}, importance=scores)


def test_wrong_types_are_refused_in_words(tmp_path: Path) -> None:
    """In a process of its own, where nothing checks types before the function does."""
    code = """
import sys, torch, widthwise
from torch import nn
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1))
graph = widthwise.trace(model, torch.randn(1, 3, 8, 8))
cost, whole = widthwise.CostModel(graph), graph.subnet()
for wrong in (
    lambda: graph.subnet(widths={"0": 2.7}),
    lambda: graph.subnet(widths={"0": None}),
    lambda: graph.subnet(widths={"0": "3"}),
    lambda: graph.subnet(keep=3),
    lambda: graph.subnet(keep="abc"),
    lambda: widthwise.materialize(model, graph, {"0": 4}),
    lambda: cost.macs([4]),
    lambda: cost.measure("flops", whole),
    lambda: cost.measure("latency", whole),
    lambda: widthwise.gated(model, graph, [1.0] * 8),
    lambda: widthwise.save(sys.argv[1], model, graph, whole, builder=lambda: model),
):
    try:
        wrong()
    except widthwise.WidthwiseError as error:
        print(error)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert [line.split(",")[0] for line in said] == [
        *["Widths are whole numbers"] * 3,
        *["`keep` is a boolean vector [channels]"] * 2,
        *["A sub-network is what graph.subnet(...) makes"] * 2,
        *["This cost model knows macs"] * 2,
        "Gates are a tensor of one number per channel",
        "A builder is saved by its name",
    ]
    assert not list(tmp_path.iterdir())


def test_errors_name_the_group_and_the_reason(graph: ChannelGraph) -> None:
    with pytest.raises(SubnetMismatch, match="'inner'"):
        graph.subnet([True] * 4 + [False] * 3)
    with pytest.raises(SubnetMismatch, match="reaches the model's output"):
        graph.group("head")


def test_json_round_trip(graph: ChannelGraph) -> None:
    subnet = graph.subnet([True, False, True, True, False, True, True])
    assert json.loads(subnet.to_json()) == {"format": 1, "num_channels": 7, "kept": [0, 2, 3, 5, 6]}
    again = Subnet.from_json(subnet.to_json())
    assert again == subnet
    assert hash(again) == hash(subnet)
    assert subnet != graph.subnet()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "nonsense",
        '{"format": 2, "num_channels": 3, "kept": [0]}',
        '{"format": 1, "num_channels": 3, "kept": [3]}',
        '{"format": 1, "num_channels": 3, "kept": [-1]}',
        '{"format": 1, "num_channels": -3, "kept": []}',
        '{"format": 1, "num_channels": 3, "kept": "all"}',
        '{"format": 1, "num_channels": 3, "kept": [[0]]}',
        '{"format": 1, "num_channels": null, "kept": []}',
        '{"format": 1, "num_channels": 3, "kept": [0.7]}',
        '{"format": 1, "num_channels": 3, "kept": [true]}',
    ],
)
def test_json_that_is_no_subnet(text: str) -> None:
    with pytest.raises(SubnetMismatch):
        Subnet.from_json(text)


def test_another_model_is_refused(model: Residual, graph: ChannelGraph) -> None:
    other = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    subnet = graph.subnet(widths={"a": 2})
    with pytest.raises(SubnetMismatch):
        widthwise.materialize(other, graph, subnet)
    with pytest.raises(SubnetMismatch):
        widthwise.shared(other, graph, subnet)
    with pytest.raises(SubnetMismatch):
        widthwise.gated(other, graph, torch.ones(7))
    with pytest.raises(SubnetMismatch):
        widthwise.gated(model, graph, torch.ones(8))
    small = widthwise.materialize(model, graph, subnet)
    with pytest.raises(SubnetMismatch):
        widthwise.materialize(small, graph, subnet)


def test_a_copy_with_other_weights_is_welcome(model: Residual, graph: ChannelGraph) -> None:
    other = Residual().eval()
    subnet = graph.subnet(widths={"a": 2})
    small = widthwise.materialize(other, graph, subnet)
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(small(x), widthwise.shared(other, graph, subnet)(x))
    assert [type(m) for m in small.modules()] == [type(m) for m in other.modules()]
    assert (small.inner.in_channels, small.inner.out_channels, small.norm_a.num_features) == (2, 3, 2)
    assert all(p.is_contiguous() for p in small.parameters())
