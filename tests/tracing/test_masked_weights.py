"""Weights that a mask, a parametrisation or a sum makes in each forward: exact, ranked by what is used, or pinned."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

import oracle
from widthwise import materialize, trace


class _Scaled(nn.Module):
    def __init__(self, filters: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(filters, 1, 1, 1) + 0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.scale


def _masked(conv: nn.Module) -> None:
    prune.l1_unstructured(conv, "weight", 0.4)


def _masked_filters(conv: nn.Module) -> None:
    prune.ln_structured(conv, "weight", 0.25, n=1, dim=0)


def _masked_twice(conv: nn.Module) -> None:
    prune.l1_unstructured(conv, "weight", 0.2)
    prune.random_unstructured(conv, "weight", 0.2)
    prune.random_unstructured(conv, "bias", 0.2)


def _scaled(conv: nn.Conv2d) -> None:
    parametrize.register_parametrization(conv, "weight", _Scaled(len(conv.weight)))


def _model() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 6, 3),
        nn.BatchNorm2d(6),
        nn.Flatten(),
        nn.Linear(24, 3),
    ).eval()


@pytest.mark.parametrize("change", [_masked, _masked_filters, _masked_twice, _scaled])
def test_masked_and_scaled_weights_are_pruned_exactly_and_ranked_by_what_is_used(change):
    model, x = _model(), torch.randn(2, 3, 8, 8)
    for conv in (model[0], model[2], model[3]):
        change(conv)
    with torch.no_grad():
        model(x)
    filters = [model[i].weight.detach().double().abs().flatten(1).sum(1) for i in (0, 2, 3)]
    graph = trace(model, x)
    assert [g.width for g in graph.prunable] == [8, 6]
    for seed in range(3):
        keep = oracle.random_keep(graph, seed)
        oracle.check_subnet(model, graph, keep, x, 1e-5)
        oracle.check_cost(model, graph, keep, x)
    expected = torch.cat([filters[0] + filters[1], filters[2]])
    assert torch.allclose(graph.importance("l1"), expected)
    assert len(graph.taylor([(x, torch.tensor([0, 1]))])) == 14


def test_what_a_masked_network_becomes_has_masks_of_its_size_and_loses_them_as_usual():
    model, x = _model(), torch.randn(2, 3, 8, 8)
    for conv in (model[0], model[2], model[3]):
        _masked(conv)
    with torch.no_grad():
        model(x)
    graph = trace(model, x)
    small = materialize(model, graph, graph.subnet(widths={graph.prunable[0]: 5}))
    assert small[0].weight.shape == small[0].weight_mask.shape == (5, 3, 3, 3)
    assert (small[0].out_channels, small[2].groups, small[3].in_channels) == (5, 5, 5)
    assert int((small[0].weight_mask == 0).sum()) == int((small[0].weight == 0).sum()) > 0
    with torch.no_grad():
        before = small(x)
    for i in (0, 2, 3):
        prune.remove(small[i], "weight")
    with torch.no_grad():
        assert torch.equal(small(x), before)


@pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
@pytest.mark.parametrize("wrap", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_spectral_norm_is_pinned_with_the_remedy(wrap):
    model = _model()
    wrap(model[3])
    graph = trace(model, torch.randn(2, 3, 8, 8))
    assert graph.prunable == ()  # the convolution behind it depends on the norm of all its weights
    reasons = [g.reason for g in graph.pinned if g.reason.what == "is part of a weight that is normalised as a whole"]
    assert reasons
    assert all("remove_parametrizations" in reason.remedy for reason in reasons)


def test_the_remedy_for_spectral_norm_helps():
    model, x = _model(), torch.randn(2, 3, 8, 8)
    nn.utils.parametrizations.spectral_norm(model[3])
    with torch.no_grad():
        before = model(x)
    parametrize.remove_parametrizations(model[3], "weight")
    with torch.no_grad():
        assert torch.allclose(model(x), before, atol=1e-6)
    assert [g.width for g in trace(model, x).prunable] == [8, 6]


class Made(nn.Module):
    """A convolution between two others whose weight is made of several."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.large, self.small = nn.Parameter(torch.randn(8, 8, 3, 3)), nn.Parameter(torch.randn(8, 8, 1, 1))
        self.other, self.scale = nn.Parameter(torch.randn(8, 8, 3, 3)), nn.Parameter(torch.randn(8, 1, 1, 1))
        self.up, self.down = nn.Parameter(torch.randn(8, 2)), nn.Parameter(torch.randn(2, 72))
        self.first, self.second = nn.Parameter(torch.randn(3, 8, 3, 3)), nn.Parameter(torch.randn(5, 8, 3, 3))
        self.register_buffer("identity", nn.init.dirac_(torch.empty(8, 8, 3, 3)))
        self.register_buffer("chosen", torch.rand(8, 8, 3, 3) < 0.5)

    def weight(self) -> Tensor:
        weights = {
            "padded": lambda: self.large + F.pad(self.small, [1] * 4),  # of several branches one
            "three": lambda: self.large - (self.other + F.pad(self.small, [1] * 4)),
            "low rank": lambda: self.large + (self.up @ self.down).view(8, -1, 3, 3),
            "identity": lambda: self.large + self.scale * self.identity,
            "chosen": lambda: torch.where(self.chosen, self.large, self.other),
            "joined": lambda: torch.cat([self.first, self.second]),
        }
        return weights[self.kind]()

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight()
        y: Tensor = self.b(F.conv2d(self.a(x).relu(), weight, padding=1).relu())
        return y


@pytest.mark.parametrize("kind", ["padded", "three", "identity", "chosen", "joined"])
def test_a_channel_is_silent_in_all_weights_that_are_added_or_joined(kind):
    model, x = Made(kind).eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model, x)
    assert sorted(g.width for g in graph.prunable) == ([3, 5, 8] if kind == "joined" else [8, 8])
    for seed in range(4):
        keep = oracle.random_keep(graph, seed)
        oracle.check_subnet(model, graph, keep, x, 1e-5)
        oracle.check_cost(model, graph, keep, x)


def test_a_weight_of_low_rank_is_followed_through_its_product():
    """Its inputs are the first of the dimensions that one axis is split into; the number of filters is a constant."""
    model, x = Made("low rank").eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model, x)
    assert [g.name for g in graph.prunable] == ["a"]
    for seed in range(4):
        oracle.check_subnet(model, graph, oracle.random_keep(graph, seed), x, 1e-5)
