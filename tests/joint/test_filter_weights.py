"""Filter weights: what they multiply, that they fold away, and where a batch norm takes them back."""

import copy

import pytest
import torch
from torch import Tensor, nn

from widthwise import ChannelGraph, Subnet, build_model, materialize, trace
from widthwise.joint import FilterWeights, Placement, Weighted
from widthwise.subnet import gated

PLACEMENTS: tuple[Placement, ...] = ("consumers", "filters")


def subject(name: str = "resnet20") -> tuple[nn.Module, ChannelGraph, Tensor]:
    torch.manual_seed(0)
    model = build_model(name, num_classes=10).double().eval()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    return model, trace(model, images[:1]), images


def half(graph: ChannelGraph) -> Subnet:
    return graph.subnet(widths={group: group.width // 2 for group in graph.prunable}, importance="random")


def test_shares_are_a_softmax_over_the_kept_channels_of_each_group() -> None:
    _, graph, _ = subject()
    weights, subnet = FilterWeights(graph, seed=3), half(graph)
    shares = weights.shares(subnet.keep)
    for group in graph.prunable:
        kept = subnet.keep[group.ids]
        expected = torch.zeros(group.width)
        expected[kept] = weights.alpha.detach()[group.ids][kept].softmax(0)
        torch.testing.assert_close(shares.detach()[group.ids], expected)


def test_weights_are_drawn_as_one_row_per_group() -> None:
    _, graph, _ = subject()
    drawn = torch.stack([FilterWeights(graph, seed=seed).alpha.detach() for seed in range(400)])
    for group in graph.prunable:
        spread = drawn[:, group.ids].std().item()
        assert spread == pytest.approx((2 / group.width) ** 0.5, rel=0.05)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_equal_weights_are_the_plain_network(placement: Placement) -> None:
    model, graph, images = subject()
    weights = FilterWeights(graph, placement).double()
    weights.alpha.data.fill_(0.7)
    for subnet in (graph.subnet(), half(graph)):
        small = materialize(model, graph, subnet)
        torch.testing.assert_close(Weighted(small, graph, subnet, weights)(images), small(images))


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", ["resnet20", "torchvision:mobilenet_v2"])
def test_a_weighted_sub_network_is_the_weighted_parent_cut_out(name: str, placement: Placement) -> None:
    """Multiplying and slicing commute, and folding leaves a plain network that computes the same."""
    model, graph, images = subject(name)
    weights, subnet = FilterWeights(graph, placement, seed=1).double(), half(graph)
    small = materialize(model, graph, subnet)
    before = copy.deepcopy(small.state_dict())
    found = Weighted(small, graph, subnet, weights)(images)
    parent = copy.deepcopy(model)
    factors = weights.factors(subnet)
    own = dict(parent.named_parameters())
    role = {"consumers": "in", "filters": "out"}[placement]
    with torch.no_grad():
        for (tensor, dim), its_role in graph.roles.items():
            if its_role == role and tensor in own:
                ids = graph.axes[tensor, dim]
                along = torch.where(ids < 0, 1.0, factors[ids.clamp(min=0)])
                own[tensor].mul_(along.reshape([-1 if d == dim else 1 for d in range(own[tensor].ndim)]))
    torch.testing.assert_close(found, materialize(parent, graph, subnet)(images))
    if placement == "consumers":  # the reference of every way to run one
        torch.testing.assert_close(found, gated(model, graph, factors)(images))
    assert all(torch.equal(tensor, before[key]) for key, tensor in small.state_dict().items())
    assert (found - small(images)).abs().max() > 1e-3 * found.abs().max()
    Weighted(small, graph, subnet, weights).fold()
    torch.testing.assert_close(small(images), found)


def gradient(placement: Placement) -> float:
    """Of the first group of a chain with batch norms in training mode, relative to that of the weights it is beside."""
    model, graph, images = subject()
    weights = FilterWeights(graph, placement).double()
    whole = graph.subnet()
    loss = nn.functional.cross_entropy(Weighted(model.train(), graph, whole, weights)(images), torch.tensor([0, 1]))
    loss.backward()
    inner = next(group for group in graph.prunable if group.name == "layer1.0.conv1")
    assert weights.alpha.grad is not None
    return float(weights.alpha.grad[inner.ids].norm())


def test_a_batch_norm_takes_the_papers_placement_back() -> None:
    assert gradient("filters") < 0.02 * gradient("consumers")


def test_gradients_reach_kept_weights_only() -> None:
    model, graph, images = subject()
    weights, subnet = FilterWeights(graph).double(), half(graph)
    Weighted(materialize(model, graph, subnet), graph, subnet, weights)(images).square().sum().backward()
    assert weights.alpha.grad is not None
    assert not bool(weights.alpha.grad[~subnet.keep].any())
    assert bool(weights.alpha.grad[subnet.keep].any())
    torch.testing.assert_close(weights.penalty(), weights.alpha.square().sum().sqrt())
