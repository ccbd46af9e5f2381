"""Forwards that ask about their own widths, and modules that keep or return unusual things."""

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._higher_order_ops.while_loop import while_loop
from torch.nn.attention.flex_attention import flex_attention

import oracle
import widthwise
from widthwise.errors import UntraceableModel

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """A shortcut where it fits."""

    def __init__(self, before: int, after: int, by_attribute: bool) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
        self.by_attribute = by_attribute

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.c2(self.c1(x).relu())
        fits = self.c1.in_channels == self.c2.out_channels if self.by_attribute else x.shape == y.shape
        return (y + x if fits else y).relu()


@pytest.mark.parametrize("by_attribute", [False, True])
def test_no_widths_give_a_shortcut_that_the_full_network_does_not_have(by_attribute: bool) -> None:
    torch.manual_seed(0)
    blocks = [Block(4, 8, by_attribute), Block(8, 16, by_attribute)]
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *blocks, nn.Flatten(), nn.Linear(1024, 5)).eval()
    graph = widthwise.trace(model, IMAGE)
    assert len(graph.prunable) >= 3
    choices = widthwise.WidthSpace(multiple_of=2).of(graph).choices
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        widths = [int(c[torch.randint(len(c), (), generator=generator)]) for c in choices]
        keep = graph.subnet(widths=torch.tensor(widths), importance="l1").keep
        oracle.check_subnet(model, graph, keep, IMAGE, 1e-4)


class Vectors(nn.Module):
    """A scale per channel, from a vector without a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 4, 1)
        self.scale = nn.Linear(5, 8)
        self.register_buffer("task", torch.randn(5))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.c(self.b(self.a(x) * self.scale(self.task)[:, None, None]).relu())
        return y


Config = namedtuple("Config", "dim heads")


class NamedTuple(nn.Module):
    """Keeps its sizes in a tuple that cannot be made from a list."""

    def __init__(self) -> None:
        super().__init__()
        self.config, self.a, self.b = Config(8, 2), nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(F.adaptive_avg_pool2d(self.a(x), 1).flatten(1))
        return y


class ForgetsToReturn(nn.Module):
    """``train`` without ``return self``, as for norms that stay frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        self.norm.eval()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(self.norm(self.a(x)).relu())
        return y


class MixesTokens(nn.Module):
    """A layer along positions, which is one operation in inference mode; another as a convolution of size one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)
        self.linear, self.conv = nn.Linear(64, 16), nn.Conv1d(16, 12, 1)

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        tokens = self.linear(self.a(x).flatten(2)).relu().transpose(1, 2)
        y: Tensor = self.b(self.conv(tokens).relu())
        return y


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (Vectors(), ["a", "b"]),
        (NamedTuple(), ["a"]),
        (ForgetsToReturn(), ["a"]),
        (MixesTokens(), ["a", "linear"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_are_pruned_and_counted_exactly(model: nn.Module, names: list[str]) -> None:
    model.eval()
    graph = widthwise.trace(model, IMAGE)
    assert [g.name for g in graph.prunable] == names
    for count in (1, 3):
        keep = graph.subnet(widths=dict.fromkeys(names, count)).keep
        oracle.check_subnet(model, graph, keep, IMAGE, 1e-4)
        oracle.check_cost(model, graph, keep, IMAGE)


def test_widths_in_space_are_pinned_by_a_window() -> None:
    """A convolution over what are channels elsewhere: a smaller width is another picture."""

    class Over(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.window, self.out = nn.Linear(6, 8), nn.Conv2d(1, 4, 3, padding=1), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.wide(x)
            y: Tensor = self.out(h.relu()) + self.window(h.unsqueeze(1)).mean((1, 2, 3), keepdim=True)[:, 0]
            return y

    graph = widthwise.trace(Over().eval(), torch.randn(2, 5, 6))
    assert not graph.prunable
    assert "lies along space" in str(next(g for g in graph.pinned if g.name == "wide").reason)


def test_layers_that_the_first_forward_makes_must_be_there() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.head = nn.Conv2d(3, 8, 3), None

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x).mean((2, 3))
            if self.head is None:
                self.head = nn.Linear(h.shape[1], 4)
            y: Tensor = self.head(h)
            return y

    model = Late()
    with pytest.raises(UntraceableModel, match=r"head\.weight. Run model"):
        widthwise.trace(model, IMAGE)
    model(IMAGE)
    assert [g.name for g in widthwise.trace(model, IMAGE).prunable] == ["a"]


def conditional(s: Any, y: Tensor) -> Any:
    return torch.cond(torch.tensor(True), lambda t: t.sin(), lambda t: t.cos(), (y,))


def loop(s: Any, y: Tensor) -> Any:
    return while_loop(lambda i, t: i < 3, lambda i, t: (i + 1, t.sin()), (torch.tensor(0), y))[1]


def attends(s: Any, y: Tensor) -> Any:
    q = y.flatten(2).mT[:, None]
    return flex_attention(q, q, q)[:, 0].mT.reshape(y.shape)


def has_a_layer(s: Any, y: Tensor) -> Any:
    return torch.cond(torch.tensor(True), lambda t: s.inner(t), lambda t: t, (y,))


class CallsFunctions(nn.Module):
    """An operator that calls functions, behind layers that have nothing to do with it."""

    def __init__(self, operator: Callable[..., Any]) -> None:
        super().__init__()
        self.stem, self.a, self.inner = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 16, 1), nn.Conv2d(16, 16, 1)
        self.b, self.operator = nn.Conv2d(16, 4, 1), operator

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(self.operator(self, self.a(self.stem(x).relu())))
        return y


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("operator", [conditional, loop, attends, has_a_layer])
def test_operators_that_call_functions_pin_what_enters_them(operator: Callable[..., Any]) -> None:
    model = CallsFunctions(operator).eval()
    graph = widthwise.trace(model, IMAGE)
    assert [g.name for g in graph.prunable] == ["stem"]
    name = {loop: "while_loop", attends: "flex_attention"}.get(operator, "cond")
    assert f"without a rule: {name}" in str(next(g.reason for g in graph.groups if g.name == "a"))
    assert f"the functions that {name} calls is not followed" in graph.notes[0]
    subnet = graph.subnet(widths={"stem": 2}, importance="random")
    oracle.check_subnet(model, graph, subnet.keep, IMAGE, 1e-5)
