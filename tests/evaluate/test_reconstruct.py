"""Least squares after pruning: exact where what is left can make up for what went, and better where it cannot."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import widthwise
from widthwise import Subnet, accuracy, adaptive_bn, materialize
from widthwise.channels import ChannelGraph
from widthwise.errors import ConfigError, EmptyData, TrainingError
from widthwise.evaluate import reconstruct, reconstruct_weights
from widthwise.train import TrainConfig, fit


def batches(count: int = 4, shape: tuple[int, ...] = (3, 8, 8), size: int = 16) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, *shape, generator=generator) for _ in range(count)]


def doubled(make: Callable[[], nn.Module]) -> tuple[nn.Module, ChannelGraph, Subnet]:
    """A network whose first layer makes its eight channels twice over, and the sub-network without the second set."""
    torch.manual_seed(0)
    model = make().eval()
    first = model.get_submodule("0")
    assert isinstance(first, nn.Conv2d)
    with torch.no_grad():
        for tensor in (first.weight, first.bias):
            if tensor is not None:
                tensor[8:] = tensor[:8]
    graph = widthwise.trace(model, torch.randn(2, 3, 8, 8))
    keep = torch.ones(graph.num_channels, dtype=torch.bool)
    keep[graph.axes["0.weight", 0][8:]] = False
    return model, graph, graph.subnet(keep)


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 5, 3), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(20, 4)
    )


def strided() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, bias=False),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 6, (3, 2), stride=2, padding=(1, 2), dilation=2, padding_mode="reflect", bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )


class ByKeyword(nn.Sequential):
    def forward(self, input: Tensor) -> Tensor:
        for layer in self:
            input = layer(input=input)
        return input


def by_keyword() -> nn.Module:
    return ByKeyword(*plain())


class Repeated(nn.Sequential):
    """The second convolution runs twice, with the fourth layer in between."""

    def forward(self, x: Tensor) -> Tensor:
        first, act, second, pool, between, flat, head = self
        x = act(first(x))
        return head(flat(pool(second(x)) + between(pool(x)) + pool(second(x.flip(3)))))


def repeated() -> nn.Module:
    parts = nn.ReLU(), nn.Conv2d(16, 5, 3, padding=1), nn.AvgPool2d(4), nn.Conv2d(16, 5, 1)
    return Repeated(nn.Conv2d(3, 16, 3, padding=1), *parts, nn.Flatten(), nn.Linear(20, 4))


@pytest.mark.parametrize("make", [plain, strided, by_keyword, repeated])
def test_what_the_channels_that_stay_can_make_up_for_is_made_up_for(make: Callable[[], nn.Module]) -> None:
    model, graph, subnet = doubled(make)
    small = materialize(model, graph, subnet).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        wanted, lost = model(x), (small.eval()(x) - model(x)).abs().max()
        small.train()
        fitted = reconstruct_weights(model, small, graph, subnet, batches(), ridge=1e-5)
        assert small.training
        torch.testing.assert_close(small.eval()(x), wanted, rtol=1e-2, atol=1e-3)
    assert lost > 0.01
    assert fitted == (4 if make is repeated else 3)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for network in (model, small) for module in network.modules())


@pytest.mark.parametrize("make", [plain, repeated])
def test_little_memory_takes_more_passes_and_finds_the_same(make: Callable[[], nn.Module], monkeypatch) -> None:
    model, graph, subnet = doubled(make)
    found = []
    for limit in (reconstruct.TARGETS, 64 * 200, 1):
        monkeypatch.setattr(reconstruct, "TARGETS", limit)
        small, passes = materialize(model, graph, subnet), []
        with model.register_forward_pre_hook(lambda *_, passes=passes: passes.append(1)):
            reconstruct_weights(model, small, graph, subnet, batches())
        found.append((len(passes) // 4, [tensor.clone() for tensor in small.parameters()]))
    assert [count for count, _ in found] == [1, len(fitted_layers(model)) - 1, len(fitted_layers(model))]
    for _, weights in found[1:]:
        assert all(map(torch.equal, weights, found[0][1]))


def fitted_layers(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize("make", [plain, strided])
def test_nothing_changes_where_nothing_is_lacking(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = make().eval()
    graph = widthwise.trace(model, torch.randn(2, 3, 8, 8))
    small = materialize(model, graph, graph.subnet())
    assert reconstruct_weights(model, small, graph, graph.subnet(), batches()) == 3
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(model.parameters(), small.parameters(), strict=True))


@pytest.mark.parametrize("name", ["digits_net", "resnet20", "mobilenet_v1", "torchvision:shufflenet_v2_x0_5"])
def test_a_whole_network_stays_what_it_is(name: str) -> None:
    """Its own weights fit it: depthwise and grouped layers, strides, batch norms."""
    torch.manual_seed(0)
    shape = (1, 8, 8) if name == "digits_net" else (3, 32, 32)
    model, images = widthwise.build_model(name), torch.randn(64, *shape)
    adaptive_bn(model.eval(), [images])
    graph = widthwise.trace(model, images[:2])
    small = materialize(model, graph, graph.subnet())
    assert reconstruct_weights(model, small, graph, graph.subnet(), [images]) > 3
    # The sub-network divides by the variance of these images, the full one by its unbiased estimate.
    for (path, mine), theirs in zip(model.named_parameters(), small.parameters(), strict=True):
        assert mine.ndim == 1 or (mine - theirs).norm() < 0.1 * mine.norm(), path


def test_a_layer_is_the_solution_of_its_problem() -> None:
    """Against a solver of torch's, with the hold as further rows of the system."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 7, 1, bias=False), nn.Tanh(), nn.Flatten())
    model.eval()
    graph = widthwise.trace(model, torch.randn(2, 3, 6, 6))
    subnet = graph.subnet(widths=graph.full_widths // 2)
    small, images = materialize(model, graph, subnet), batches(3, (3, 6, 6))
    second, last = model.get_submodule("2"), small.get_submodule("2")
    assert isinstance(second, nn.Conv2d)
    assert isinstance(last, nn.Conv2d)
    before = last.weight.detach().flatten(1).double()
    reconstruct_weights(model, small, graph, subnet, images, ridge=0.5)
    with torch.no_grad():
        x = torch.cat([small[:2](batch) for batch in images]).permute(0, 2, 3, 1).flatten(0, 2).double()  # type: ignore[index]
        y = torch.cat([model[:3](batch) for batch in images]).permute(0, 2, 3, 1).flatten(0, 2).double()
    hold = (0.5 * x.square().mean()).sqrt() * len(x) ** 0.5 * torch.eye(x.shape[1], dtype=torch.float64)
    best = torch.linalg.lstsq(torch.cat([x, hold]), torch.cat([y, hold @ before.T])).solution.T
    torch.testing.assert_close(last.weight.detach().flatten(1).double(), best, rtol=1e-4, atol=1e-5)


class Branched(nn.Module):
    """A batch norm alone reads the first layer's result; that of the second goes around its norm as well."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 12, 3, bias=False), nn.BatchNorm2d(12)
        self.second, self.other = nn.Conv2d(12, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.third, self.last = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.norm(self.first(x)).relu())
        x = x + self.last(self.third(self.other(x).relu()))
        return self.head(x.mean((2, 3)))


def test_means_count_unless_only_a_batch_norm_reads_them() -> None:
    model, images = Branched().eval(), batches()
    uses = reconstruct._uses(model, reconstruct._layers(model), images[0])
    assert {path: (use.calls, use.normed) for path, use in uses.items()} == {
        "first": (1, 1),
        "second": (1, 0),
        "third": (1, 1),
        "head": (1, 0),
    }
    behind = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU(inplace=True), nn.BatchNorm2d(4))
    (use,) = reconstruct._uses(behind, reconstruct._layers(behind), images[0]).values()
    assert use.normed == 0, "what the norm reads is another tensor's content by then"


class Forgetful(nn.Module):
    """What its batch norm has read is gone when the convolution runs, whose output takes one of their places."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        for shifted in [x + shift for shift in range(64)]:
            self.norm(shifted)
        return self.conv(x)


def test_a_tensor_in_the_place_of_one_that_a_batch_norm_read_is_not_taken_for_it() -> None:
    model = Forgetful().eval()
    (use,) = reconstruct._uses(model, reconstruct._layers(model), batches()[0]).values()
    assert use.normed == 0


def test_it_saves_most_of_the_accuracy() -> None:
    data, model = widthwise.load_data("digits"), widthwise.build_model("digits_net")
    fit(model, data.train, TrainConfig(epochs=5))
    graph = widthwise.trace(model.eval(), data.example())
    subnet = graph.top(graph.importance("l1"), (graph.full_widths + 1) // 2)
    images = list(data.train.batches(64))[:4]
    reached = []
    for fitted in (False, True):
        small = materialize(model, graph, subnet)
        if fitted:
            reconstruct_weights(model, small, graph, subnet, images)
        adaptive_bn(small, images)
        reached.append(accuracy(small, data.val))
    assert reached[1] > reached[0] + 0.05


def test_bad_input_is_refused_and_leaves_statistics_alone() -> None:
    model = widthwise.build_model("digits_net").eval()
    graph = widthwise.trace(model, torch.randn(2, 1, 8, 8))
    subnet = graph.subnet(widths=(graph.full_widths + 1) // 2)
    small = materialize(model, graph, subnet)
    before = {name: buffer.clone() for name, buffer in small.named_buffers()}
    with pytest.raises(EmptyData):
        reconstruct_weights(model, small, graph, subnet, [])
    with pytest.raises(ConfigError, match="ridge"):
        reconstruct_weights(model, small, graph, subnet, batches(1, (1, 8, 8)), ridge=0)
    with pytest.raises(TrainingError, match="finite"):
        reconstruct_weights(model, small, graph, subnet, [torch.full((8, 1, 8, 8), float("nan"))])
    assert all(torch.equal(before[name], buffer) for name, buffer in small.named_buffers())
