"""Weights drawn anew, against what the modules draw at construction."""

import copy

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from widthwise.errors import ConfigError
from widthwise.subnet import materialize
from widthwise.tracing import trace
from widthwise.train import reinitialise
from widthwise.zoo.initialise import kaiming_fan_out


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def trained(model: nn.Module) -> nn.Module:
    """Other weights and statistics than at construction."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.37)
    return model


MODULES = [
    lambda: nn.Conv2d(6, 9, 3, groups=3),
    lambda: nn.Linear(7, 5),
    lambda: nn.BatchNorm2d(5),
    lambda: nn.GroupNorm(2, 6),
    lambda: nn.PReLU(4),
    lambda: nn.Embedding(8, 3),
    lambda: nn.MultiheadAttention(8, 2),
    lambda: nn.LSTM(4, 6),
]


@pytest.mark.parametrize("make", MODULES, ids=lambda make: type(make()).__name__)
def test_one_module_is_drawn_as_at_construction(make: object) -> None:
    assert callable(make)
    torch.manual_seed(41)
    want = make()
    found = trained(make())
    assert reinitialise(found, 41) == ()
    assert equal(state(found), state(want))


def test_the_seed_alone_decides_and_the_global_random_state_is_kept() -> None:
    found = []
    for global_seed, seed in ((0, 3), (1, 3), (0, 4)):
        net = _network()
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        reinitialise(net, seed)
        assert torch.equal(torch.get_rng_state(), before)
        found.append(state(net))
    assert equal(found[0], found[1])
    assert not equal(found[0], found[2])


def _network() -> nn.Module:
    return trained(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)))


def test_a_materialised_network() -> None:
    net = torchvision.models.resnet18(num_classes=10).eval()
    graph = trace(net, torch.randn(1, 3, 32, 32))
    importance = torch.rand(graph.num_channels)
    half = graph.subnet(importance=importance, widths=(graph.full_widths + 1) // 2)
    small = trained(materialize(net, graph, half))
    assert sum(p.numel() for p in small.parameters()) < 0.3 * sum(p.numel() for p in net.parameters())
    again = copy.deepcopy(small)
    parameters = [id(p) for p in small.parameters()]
    reinitialise(small, 7)
    reinitialise(again, 7)
    assert equal(state(small), state(again))
    assert [id(p) for p in small.parameters()] == parameters
    assert not small.training
    for module in small.modules():
        if isinstance(module, nn.Conv2d):
            weight, fan_in = module.weight.detach(), module.weight[0].numel()
            assert float(weight.abs().max()) <= fan_in**-0.5
            assert float(weight.std()) == pytest.approx((3 * fan_in) ** -0.5, rel=0.1)
        if isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.running_var, torch.ones_like(module.running_var))
            assert module.num_batches_tracked == 0


class Token(nn.Module):
    """A raw parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.full((3,), 2.0))
        self.layer = nn.Linear(3, 3)


@pytest.mark.parametrize(
    ("make", "unknown"),
    [
        (Token, ("token",)),
        (lambda: torchvision.models.convnext_tiny().features[1][0], ("layer_scale",)),
        (
            lambda: parametrizations.weight_norm(nn.Linear(3, 3)),
            ("parametrizations.weight.original0", "parametrizations.weight.original1"),
        ),
        (lambda: parametrizations.spectral_norm(nn.Linear(3, 3)), ("parametrizations.weight.original",)),
    ],
    ids=["token", "layer scale", "weight norm", "spectral norm"],
)
def test_what_nothing_draws_is_refused_by_name(make: object, unknown: tuple[str, ...]) -> None:
    assert callable(make)
    net = trained(make())
    before = state(net)
    with pytest.raises(ConfigError, match=f"nothing draws {unknown[0]}"):
        reinitialise(net, 0)
    assert equal(state(net), before)
    assert reinitialise(net, 0, keep_unknown=True) == unknown
    for name, value in state(net).items():
        assert value.isfinite().all(), name
    for name in unknown:
        assert torch.equal(net.state_dict()[name], before[name])
    assert not equal(state(net), before)


def test_the_networks_own_initialiser_has_the_last_word() -> None:
    net = Token()
    assert reinitialise(net, 0, then=lambda model: nn.init.normal_(model.get_parameter("token"))) == ()
    assert (net.token != 2.0).all()
    plain, he = _network(), _network()
    reinitialise(plain, 1)
    reinitialise(he, 1, then=kaiming_fan_out)
    assert not torch.equal(he[0].weight, plain[0].weight)
    assert torch.equal(he[4].weight, plain[4].weight)


def test_an_initialiser_that_fails_leaves_the_model_as_it_was() -> None:
    def fails(model: nn.Module) -> None:
        raise ValueError("no idea")

    net = _network()
    before = state(net)
    with pytest.raises(ValueError, match="no idea"):
        reinitialise(net, 1, then=fails)
    assert equal(state(net), before)
