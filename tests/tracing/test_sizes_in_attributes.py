"""Sizes that a module keeps in attributes follow what is kept: splits, slices, heads, group counts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.oracle import check_cost, check_subnet
from torch import Tensor, nn

import widthwise

IMAGE = torch.rand(1, 3, 6, 6)


class Attention(nn.Module):
    """Attention as timm writes it: the number of heads and the inner width are attributes."""

    def __init__(self, dim: int, heads: int, head_dim: int, fused: bool) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim, self.fused = heads, head_dim, heads * head_dim, fused
        self.scale = head_dim**-0.5
        self.qkv, self.proj = nn.Linear(dim, 3 * self.attn_dim), nn.Linear(self.attn_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            x = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        else:
            x = ((q * self.scale) @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(x.transpose(1, 2).reshape(b, n, self.attn_dim))


class Tokens(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.embed, self.attention, self.head = nn.Conv2d(3, 6, 2, 2), attention, nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        return self.head(F.layer_norm(x + self.attention(x), (6,)).mean(1))


class Around(nn.Module):
    """A convolution, what is tested, and a head."""

    def __init__(self, middle: nn.Module, out: int) -> None:
        super().__init__()
        self.enter, self.middle, self.head = nn.Conv2d(3, 12, 1), middle, nn.Conv2d(out, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.enter(x)))


class Partial(nn.Module):
    """Convolves some of the channels, as FasterNet does."""

    def __init__(self, dim: int, share: int) -> None:
        super().__init__()
        self.convolved, self.untouched = dim // share, dim - dim // share
        self.conv = nn.Conv2d(self.convolved, self.convolved, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.split([self.convolved, self.untouched], 1)
        return torch.cat([self.conv(a), b], 1)


class Wider(nn.Module):
    """A shortcut that is added to the first channels only, in place, as ReXNet does."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.in_channels = dim
        self.conv = nn.Conv2d(dim, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y[:, : self.in_channels] += x
        return y


class Branches(nn.Module):
    """Widths in a tuple, as InceptionNeXt keeps them."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.indices = widths
        self.convs = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1, groups=w) for w in widths)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([conv(part) for conv, part in zip(self.convs, x.split(self.indices, 1), strict=True)], 1)


class Tail(nn.Module):
    """The last channels, counted from the end."""

    def __init__(self, tail: int) -> None:
        super().__init__()
        self.tail = tail

    def forward(self, x: Tensor) -> Tensor:
        return x[:, -self.tail :].relu()


CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    "heads": (lambda: Tokens(Attention(6, 3, 4, False)), {"attention.qkv": 3}),
    "heads of fused attention": (lambda: Tokens(Attention(6, 3, 4, True)), {"attention.qkv": 3}),
    "as many heads as matrices and channels": (lambda: Tokens(Attention(6, 3, 3, False)), {"attention.qkv": 3}),
    "split by sizes": (lambda: Around(Partial(12, 4), 12), {"enter": 3, "enter#2": 9, "middle.conv": 3}),
    "split in halves": (lambda: Around(Partial(12, 2), 12), {"enter": 6, "middle.conv": 6}),
    "added to some in place": (lambda: Around(Wider(12, 16), 16), {"enter": 12, "middle.conv": 4}),
    "tuple of widths": (lambda: Around(Branches(2, 3, 7), 12), {"enter": 2, "enter#2": 3, "enter#3": 7}),
    "tuple of equal widths": (lambda: Around(Branches(4, 4, 4), 12), {"enter": 4}),
    "sliced from the end": (lambda: Around(Tail(5), 5), {"enter": 7, "enter#2": 5}),
    "instance norm without tensors": (lambda: Around(nn.InstanceNorm2d(12), 12), {"enter": 12}),
    "group norm": (lambda: Around(nn.GroupNorm(4, 12), 12), {"enter": 4}),
    "group norm without tensors": (lambda: Around(nn.GroupNorm(4, 12, affine=False), 12), {"enter": 4}),
    "group norm of all channels": (lambda: Around(nn.GroupNorm(1, 12), 12), {}),
    "unflattened by a tuple": (
        lambda: Around(nn.Sequential(nn.Flatten(), nn.Unflatten(1, (12, 6, 6))), 12),
        {"enter": 12},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_follows_an_attribute_is_prunable_and_exact(case: str) -> None:
    build, expected = CASES[case]
    torch.manual_seed(0)
    model = build().eval().double()
    image = IMAGE.double()
    graph = widthwise.trace(model, image)
    assert {g.name: g.width for g in graph.prunable} == expected
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        widths = {g: int(torch.randint(1, g.width + 1, (), generator=generator)) for g in graph.prunable}
        scores = torch.rand(graph.num_channels, generator=generator)
        subnet = graph.subnet(widths=widths, importance=scores)
        check_subnet(model, graph, subnet.keep, image, 1e-10)
        check_cost(model, graph, subnet.keep, image)


def test_the_attributes_of_the_small_network_and_of_the_model():
    model = Tokens(Attention(6, 3, 4, False)).eval()
    graph = widthwise.trace(model, IMAGE)
    subnet = graph.subnet(widths={"attention.qkv": 2})
    assert graph.sizes_of(subnet) == {"attention.num_heads": 2, "attention.attn_dim": 8}
    small = widthwise.materialize(model, graph, subnet)
    assert (small.attention.num_heads, small.attention.attn_dim, small.attention.head_dim) == (2, 8, 4)
    widthwise.shared(model, graph, subnet)(IMAGE)
    assert (model.attention.num_heads, model.attention.attn_dim) == (3, 12)


def test_saved_and_loaded(tmp_path):
    torch.manual_seed(0)
    model = Tokens(Attention(6, 3, 4, False)).eval()
    graph = widthwise.trace(model, IMAGE)
    subnet = graph.subnet(widths={"attention.qkv": 1})
    small = widthwise.materialize(model, graph, subnet)
    widthwise.save(tmp_path, small, graph, subnet)
    back = widthwise.load(tmp_path, builder=lambda: Tokens(Attention(6, 3, 4, False)))
    torch.testing.assert_close(back(IMAGE), small(IMAGE), rtol=0, atol=0)


class Coincidence(nn.Module):
    """Splits by its own width; an attribute of the same value means something else."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds, self.enter, self.head = 4, nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.enter(x).chunk(2, 1)
        for _ in range(self.rounds):
            a = (a + b) / 2 + 0.5
        return self.head(torch.cat([a, b], 1))


def test_an_attribute_that_only_happens_to_be_equal_is_left_alone():
    graph = widthwise.trace(Coincidence(), IMAGE)
    assert [(g.name, g.width) for g in graph.prunable] == [("enter", 4)]
    assert graph.sizes == ()


class Cached(nn.Module):
    """Derives a bias from its parameters when the mode changes, as EfficientViT does."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(12))
        self.cache = torch.zeros(12)

    def train(self, mode: bool = True) -> "Cached":
        super().train(mode)
        self.cache = self.bias.detach() * 2
        return self

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.bias * 2 if self.training else self.cache)[:, None, None]


def test_what_is_derived_at_a_change_of_mode_is_derived_again():
    model = Around(Cached(), 12).eval()
    graph = widthwise.trace(model, IMAGE)
    kept = graph.subnet(widths={"enter": 5}) if graph.prunable else graph.subnet()
    small = widthwise.materialize(model, graph, kept)
    assert small.middle.cache.shape == small.middle.bias.shape
    torch.testing.assert_close(small.middle.cache, 2 * small.middle.bias.detach())


class Lazy(nn.Module):
    """A size that the first forward sets."""

    def __init__(self, first: Callable[[Any, Tensor], int], absent: bool) -> None:
        super().__init__()
        self.a, self.b, self.first = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1), first
        if not absent:
            self.c: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        n, _, h, w = y.shape
        if getattr(self, "c", None) is None:
            self.c = self.first(self, y)
        y = y.reshape(n, self.c, h * w).relu().reshape(n, self.c, h, w)
        return self.b(y)


@pytest.mark.parametrize("run", [False, True], ids=["as built", "after a run"])
@pytest.mark.parametrize("absent", [False, True], ids=["None", "absent"])
def test_a_size_that_the_first_forward_sets(tmp_path: Path, absent: bool, run: bool) -> None:
    def build() -> Lazy:
        return Lazy(lambda s, y: y.shape[1], absent)

    model = build().eval()
    graph = widthwise.trace(model, IMAGE)
    assert [(g.name, g.width) for g in graph.prunable] == [("a", 8)]
    if run:
        model(IMAGE)
    before = vars(model).get("c", "absent")
    assert before == (8 if run else "absent" if absent else None)
    subnets = [graph.subnet(widths={"a": width}, importance="random") for width in (3, 5)]
    small = [widthwise.materialize(model, graph, subnet) for subnet in subnets]
    shared = [widthwise.shared(model, graph, subnet) for subnet in subnets]
    for one, other in zip(small, shared, strict=True):
        torch.testing.assert_close(other(IMAGE), one(IMAGE))
        assert vars(model).get("c", "absent") == before
    assert [one.c for one in small] == [3, 5]
    for subnet, one, other in zip(subnets, small, shared, strict=True):
        check_subnet(model, graph, subnet.keep, IMAGE, 1e-5)  # runs the whole network too
        torch.testing.assert_close(other(IMAGE), one(IMAGE))
    assert model(IMAGE).shape == (1, 4, 6, 6)
    widthwise.save(tmp_path, small[0], graph, subnets[0])
    loaded = widthwise.load(tmp_path, builder=build)
    torch.testing.assert_close(loaded(IMAGE), small[0](IMAGE), rtol=0, atol=0)


def test_a_size_that_the_first_forward_sets_to_a_constant_is_pinned() -> None:
    """The small network of a model that never ran would set it too."""
    model = Lazy(lambda s, y: 8, absent=False)
    assert widthwise.trace(model, IMAGE).prunable == ()
    model(IMAGE)
    graph = widthwise.trace(model, IMAGE)
    assert [g.name for g in graph.prunable] == ["a"]
