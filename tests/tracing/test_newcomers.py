"""What users brought, and what went wrong with it once: each a network that the first tests did not have."""

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import widthwise
from oracle import check_cost, check_subnet
from widthwise import Subnet
from widthwise.channels import ChannelGraph, Reason
from widthwise.errors import ConfigError, UntraceableModel
from widthwise.report import explain
from widthwise.tracing import RULES
from widthwise.tracing.proof.compare import Comparison
from widthwise.tracing.trace import modules_named

IMAGE = torch.randn(2, 3, 12, 12)


class SmallestImage(nn.Module):
    """An attribute that has nothing to do with the width, but its value."""

    def __init__(self) -> None:
        super().__init__()
        self.min_size = 16
        self.conv = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] < self.min_size:
            x = F.interpolate(x, size=(self.min_size, self.min_size))
        y = self.conv(x)
        return y.flatten(2).view(*y.shape)


def assert_exact(model: nn.Module, graph: ChannelGraph, subnet: Subnet, inputs: Tensor) -> None:
    check_subnet(model, graph, subnet.keep, inputs, 1e-5)
    check_cost(model, graph, subnet.keep, inputs)


def half(graph: ChannelGraph) -> Subnet:
    return graph.subnet(widths=(graph.full_widths // 2).clamp(min=1))


def test_an_attribute_that_equals_a_width_by_chance_stays() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), SmallestImage(), nn.ReLU(), nn.Conv2d(16, 4, 3)).eval()
    graph = widthwise.trace(model, torch.randn(1, 3, 32, 32))
    assert graph.sizes == ()
    subnet = half(graph)
    small = widthwise.materialize(model, graph, subnet)
    for size in (32, 10):
        images = torch.randn(2, 3, size, size)
        torch.testing.assert_close(small(images), widthwise.gated(model, graph, subnet.keep.float())(images))


class KnowsItsWidth(nn.Module):
    """Two attributes of one value in one module: what the view needs, and what it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.classes, self.heads = 6, 4
        self.width = 12
        self.first, self.last = nn.Conv2d(3, 24, 3), nn.Conv2d(24, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        a, b = x.split(self.width, 1)
        return self.last(torch.cat([b, a], 1))


def test_an_attribute_that_is_needed_follows() -> None:
    model = KnowsItsWidth().eval()
    graph = widthwise.trace(model, IMAGE)
    assert {(size.module, size.attribute) for size in graph.sizes} == {("", "width")}
    assert_exact(model, graph, half(graph), IMAGE)


class NoiseInTraining(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.a(x))
        if self.training:
            x = x + 0.1 * torch.randn(1, 16, 1, 1)
        return self.b(x)


def test_a_width_that_only_training_knows_is_pinned() -> None:
    model = NoiseInTraining()
    before = copy.deepcopy(model.state_dict())
    graph = widthwise.trace(model, IMAGE)
    assert not graph.prunable
    assert any("breaks the forward" in str(group.reason) for group in graph.pinned)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


class OtherwiseInTraining(nn.Module):
    """Dropout, and something that only training does, with all the weights of evaluation and no others."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.a, self.norm, self.b = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 3)
        self.drop, self.c = nn.Dropout2d(0.4), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.norm(self.a(x)).relu()
        if self.training and self.kind == "by place":
            x = x * torch.arange(1.0, 9.0)[: x.shape[1], None, None]
        y: Tensor = self.c(self.drop(self.b(x)).relu())
        return (y, x) if self.training and self.kind == "more outputs" else y


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("nothing", None),
        ("by place", "computes something else in training when pruned"),
        ("more outputs", "reaches the model's output in training"),
    ],
)
def test_what_only_training_does_is_proved_too(kind: str, why: str | None) -> None:
    graph = widthwise.trace(OtherwiseInTraining(kind), IMAGE)
    assert [group.name for group in graph.prunable] == (["b"] if why else ["a", "b"])
    reasons = {group.name: group.reason.what for group in graph.pinned if group.reason}
    assert why is None or reasons["a"].startswith(why)


class ScaledByWidth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 12, 1), nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y: Tensor = self.c(self.b(x) / x.shape[1] ** 0.5)
        return y


def test_what_the_proof_pins_can_be_pruned_at_ones_own_risk() -> None:
    pinned = widthwise.trace(ScaledByWidth(), IMAGE)
    assert [group.name for group in pinned.prunable] == ["b"]
    graph = widthwise.trace(ScaledByWidth(), IMAGE, unproved=["a", "c"])
    assert [group.name for group in graph.prunable if not group.proved] == ["a"]
    (note,) = graph.notes
    assert "'c' offers nothing" in note
    assert "reaches the model's output" in note
    small = widthwise.materialize(graph.model, graph, half(graph))
    assert small(IMAGE).shape == (2, 4, 10, 10)


class OwnConv(nn.Conv2d):
    def __init__(self, *arguments: int) -> None:
        super().__init__(*arguments)
        self.n = self.out_channels

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        return F.conv2d(x, self.weight) + self.bias.view(1, self.n, 1, 1)


class PrivateWidth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._width = 6
        self.a, self.side, self.last = nn.Conv2d(3, 16, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.a(x).split([self._width, self.a.out_channels - self._width], 1)
        y: Tensor = self.last(torch.cat([self.side(one), other], 1))
        return y


class EverySecond(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 12, 3), nn.Conv2d(6, 8, 1), nn.Conv2d(14, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y: Tensor = self.c(torch.cat([self.b(x[:, ::2]), x[:, 1::2].abs()], 1))
        return y


class BlurPool(nn.Module):
    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None] / 16)
        self.a, self.b = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = F.conv2d(x, self.kernel.expand(x.shape[1], 1, 3, 3), stride=2, groups=x.shape[1])
        y: Tensor = self.b(x)
        return y


class OwnBlur(nn.Module):
    """A kernel per channel, and how many there are in an attribute, as timm's anti-aliased networks have it."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.channels = 12
        self.register_buffer("kernel", torch.rand(12, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, stride=2, groups=self.channels)


class LeftOver(nn.Module):
    """Convolves some channels; how many are left is a difference of attributes, as in SHViT."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.part = 12, 5
        self.side = nn.Conv2d(5, 5, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        one, other = torch.split(x, [self.part, self.dim - self.part], 1)
        return torch.cat([self.side(one), other], 1)


class Gates(nn.Module):
    """Splits by a list in which one width stands twice, beside an attribute of the same value, as FocalNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 6
        self.sizes = [6, 6, 2]
        self.a, self.c, self.h = nn.Conv2d(3, 14, 1), nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, context, gates = torch.split(self.a(x), self.sizes, 1)
        context = self.c(context)
        return query * self.h(context * gates[:, :1] + context.mean((2, 3), keepdim=True) * gates[:, 1:])


class HoldsTensors(nn.Module):
    """A list that has nothing to do with sizes, as long as there are pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.grids = [torch.zeros(3), torch.zeros(3)]
        self.a, self.last = nn.Conv2d(3, 12, 1), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.a(x).chunk(2, 1)
        y: Tensor = self.last(one * other.sigmoid())
        return y


class TakenByChance(nn.Module):
    """The first view has the size that an attribute holds for another purpose, and its channels cannot go."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = 8
        self.enter, self.norm = nn.Conv2d(3, 8, 1), nn.LayerNorm(8)
        self.two, self.last = nn.Conv1d(8, 16, 1), nn.Conv1d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.enter(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = x.contiguous().flatten(2)
        a, b = torch.split(self.two(x), [self.inner, self.inner], 1)
        y: Tensor = self.last(a * b.sigmoid())
        return y


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (nn.Sequential(OwnConv(3, 12, 3), OwnConv(12, 8, 3), nn.Conv2d(8, 4, 1)), ["0", "1"]),
        (PrivateWidth(), ["a", "a#2", "side"]),
        (EverySecond(), ["a", "b"]),
        (BlurPool(), ["a"]),
        (nn.Sequential(nn.Conv2d(3, 12, 3), OwnBlur(), nn.Conv2d(12, 4, 1)), ["0"]),
        (nn.Sequential(nn.Conv2d(3, 12, 1), LeftOver(), nn.Conv2d(12, 4, 1)), ["0", "0#2", "1.side"]),
        (nn.Sequential(Gates(), nn.Conv2d(6, 4, 1)), ["0.a", "0.a#2"]),
        (TakenByChance(), ["two"]),
        (HoldsTensors(), ["a"]),
    ],
    ids=[
        "subclass of a convolution",
        "private attribute",
        "every second channel",
        "blur pooling",
        "blur pooling with an attribute",
        "a difference of attributes",
        "a list of sizes",
        "an attribute that something pinned seems to need",
        "a list of tensors",
    ],
)
def test_what_used_to_be_pinned_without_need_is_prunable(model: nn.Module, names: list[str]) -> None:
    graph = widthwise.trace(model, IMAGE)
    assert [group.name for group in graph.prunable] == names
    for seed in range(4):
        widths = torch.tensor([max(1, g.width * (seed + 1) // 5) for g in graph.prunable])
        assert_exact(model, graph, graph.subnet(widths=widths, importance="random"), IMAGE)


class HeadsBySize(nn.Module):
    """The size of a head is computed from a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 16, 1))
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(x)
        y: Tensor = self.last(x.view(len(x), 2, 8, -1).softmax(1).view(len(x), 16, *x.shape[2:]))
        return y


def test_a_forward_that_breaks_says_where() -> None:
    graph = widthwise.trace(nn.Sequential(HeadsBySize(), nn.Flatten()), IMAGE)
    told = [group.reason for group in graph.pinned if group.reason and "breaks" in group.reason.what]
    if told:  # otherwise a rule saw it first
        assert {reason.module for reason in told} == {"0"}
        assert all("head_dim" in reason.remedy for reason in told)


def test_the_place_of_a_broken_forward_is_in_the_explanation() -> None:
    graph = widthwise.trace(NoiseInTraining(), IMAGE)
    (found,) = [p for p in explain(graph, widthwise.CostModel(graph)).pinned if "breaks" in p.what]
    assert "RuntimeError" in found.what


def test_an_input_axis_is_not_told_of_as_pinned() -> None:
    graph = widthwise.trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)), IMAGE)
    assert {group.reason.what for group in graph.pinned if group.reason} == {
        "reaches the model's output",
        "is made by no layer of the model (an input, a constant or a free parameter)",
    }


def test_mistakes_in_a_rule_of_ones_own_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(flow: Any, call: Any) -> None:
        raise KeyError("typo")

    monkeypatch.setitem(RULES, "aten::frac", mistaken)
    with pytest.raises(KeyError, match="typo") as caught:
        widthwise.trace(CallsFrac(), IMAGE)
    assert "aten::frac" in caught.value.__notes__[0]


class CallsFrac(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(self.a(x).frac())
        return y


@pytest.mark.parametrize("wrong", [nn.Conv2d(1, 1, 1), 3, [3]])
def test_layers_are_named_by_text_or_type(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="path, pattern or type, but got a"):
        inspect.unwrap(modules_named)(CallsFrac(), wrong)  # the tests check types before we do


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor_is_refused_in_words() -> None:
    nested = torch.nested.nested_tensor([torch.randn(3, 8, 8), torch.randn(3, 6, 6)])
    with pytest.raises(UntraceableModel, match="nested"):
        widthwise.trace(CallsFrac(), nested)


class TwoHeads(nn.Module):
    """Attention over channels whose result happens to be zero on the example."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 2
        self.qkv, self.proj = nn.Linear(8, 12), nn.Linear(4, 8)

    def forward(self, t: Tensor) -> Tensor:
        n, length, _ = t.shape
        q, k, v = self.qkv(t).reshape(n, length, self.num_heads, -1).transpose(1, 2).chunk(3, -1)
        y = F.relu(q - 1e6) @ (F.relu(k).transpose(-2, -1) @ v)
        result: Tensor = self.proj(y.transpose(1, 2).reshape(n, length, -1))
        return result


def test_an_attribute_that_shapes_what_runs_follows_even_where_the_numbers_do_not_show_it() -> None:
    model = nn.Sequential(nn.Linear(5, 8), TwoHeads(), nn.Linear(8, 3))
    graph = widthwise.trace(model, torch.randn(2, 7, 5))
    assert ("1", "num_heads") in {(size.module, size.attribute) for size in graph.sizes}


class TalkingHeads(nn.Module):
    """One attribute for two kinds of heads: those of the queries could go alone, were it not for the values."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.q, self.k, self.v = nn.Conv2d(8, 16, 1), nn.Conv2d(8, 16, 1), nn.Conv2d(8, 32, 1)
        self.talk, self.back = nn.Conv2d(4, 6, 1), nn.Conv2d(6, 4, 1)
        self.out = nn.Conv2d(32, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        size = x.shape[2] * x.shape[3]
        q, k, v = (layer(x).reshape(len(x), self.num_heads, -1, size) for layer in (self.q, self.k, self.v))
        attention = self.back(self.talk(q.transpose(2, 3) @ k).softmax(3))
        y = (attention @ v.transpose(2, 3)).transpose(2, 3)
        return self.out(y.reshape(len(x), 32, *x.shape[2:])).mean((2, 3))


@pytest.mark.parametrize("coarse", ["", "by module", "throughout"])
def test_a_crash_is_no_rounding_once_double_precision_was_needed(coarse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once double precision had been needed, a crash passed for a forward that cannot run in it."""
    failure, calls = Comparison.failure, 0

    def needing_double(self: Comparison, subnet: Subnet) -> Reason | None:
        nonlocal calls
        calls += 1
        if calls > 2:  # within the search for what was wrong with the first sub-network
            self.probe.coarse = coarse  # type: ignore[assignment]
        return failure(self, subnet)

    monkeypatch.setattr(Comparison, "failure", needing_double)
    torch.manual_seed(0)
    model, image = TalkingHeads().eval(), torch.randn(2, 3, 6, 6)
    graph = widthwise.trace(model, image)
    assert {group.name for group in graph.prunable} == {"stem", "talk"}
    for width in (1, 3):
        widths = torch.tensor([width, width])
        assert_exact(model, graph, graph.subnet(widths=widths, importance="random"), image)
