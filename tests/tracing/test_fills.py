"""Tensors that a forward makes of nothing: states, padding, results put together piece by piece."""

import pytest
import torch
from torch import Tensor, nn

import oracle
import widthwise

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
OTHER = torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(1))


def conv(before: int, after: int, padding_mode: str = "zeros") -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1, padding_mode=padding_mode)


class Two(nn.Module):
    """Two layers and a head, with something in between."""

    def __init__(self, head: int = 8) -> None:
        super().__init__()
        self.width = 8
        self.a, self.b, self.head = conv(3, 8), conv(8, 8), nn.Conv2d(head, 4, 1)

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        a: Tensor = self.a(x).relu()
        out: Tensor = self.head(self.between(a, self.b(a)).relu())
        return out


class Circular(Two):
    """PyTorch pads by writing into memory that it did not fill."""

    def __init__(self) -> None:
        super().__init__()
        self.b = conv(8, 8, "circular")

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        return b


class Sum(Two):
    def between(self, a: Tensor, b: Tensor) -> Tensor:
        out = torch.zeros(a.shape[0], self.width, *a.shape[2:])
        out += a
        return out + b


class Constants(Two):
    def between(self, a: Tensor, b: Tensor) -> Tensor:
        floor = torch.full((b.shape[1],), 0.1).view(1, -1, 1, 1)
        return torch.where(b > 0.5, b, floor.expand_as(b)) * b.new_ones(b.shape)


class Interleaved(Two):
    def between(self, a: Tensor, b: Tensor) -> Tensor:
        out = a.new_empty(*a.shape[:3], 2 * a.shape[3])
        out[..., 0::2], out[..., 1::2] = a, b
        return out


class Halves(Two):
    """Both views are made before either is written to."""

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        out = torch.empty(*a.shape[:2], 2 * a.shape[2], a.shape[3])
        first, second = out.chunk(2, 2)
        first.copy_(a)
        second.copy_(b)
        return out


class Above(Two):
    def between(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([b.new_zeros(*b.shape[:2], 2, b.shape[3]), b], 2)


class Steps(Two):
    def between(self, a: Tensor, b: Tensor) -> Tensor:
        out = torch.zeros(2, *a.shape)
        out[0] = a
        out[1] = b
        return torch.stack([out[0], torch.zeros(a.shape), out[1]]).mean(0)


class Shortcut(Two):
    """Zeros beside the channels make up for those that the block adds."""

    def __init__(self) -> None:
        super().__init__(head=16)
        self.b = conv(8, 16)

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        more = torch.zeros(a.shape[0], b.shape[1] - a.shape[1], *a.shape[2:])
        return b + torch.cat([a, more], 1)


class ConvGRU(nn.Module):
    """A state that starts as zeros, read by a convolution and beside what comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.hidden = 8, 8  # equal by chance
        self.stem = conv(3, 8)
        self.gates, self.new, self.state = conv(16, 16), conv(8, 8), conv(8, 8)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, h = self.stem(x).relu(), x.new_zeros(x.shape[0], self.hidden, *x.shape[2:])
        for _ in range(2):
            r, z = self.gates(torch.cat([x, h], 1)).sigmoid().chunk(2, 1)
            h = (1 - z) * (self.new(x) + r * self.state(h)).tanh() + z * h
        out: Tensor = self.head(h)
        return out


class Recurrent(nn.Module):
    """PyTorch's own cells and layers, with states that the caller makes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.cell, self.rnn = conv(3, 6), nn.GRUCell(6, 8), nn.LSTM(8, 8, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        rows, h = self.conv(x).relu().mean(3), torch.zeros(x.shape[0], self.cell.hidden_size)
        states = []
        for place in range(rows.shape[2]):
            h = self.cell(rows[:, :, place], h)
            states.append(h)
        start = torch.zeros(1, x.shape[0], self.rnn.hidden_size)
        y, _ = self.rnn(torch.stack(states, 1), (start, torch.zeros_like(start)))
        out: Tensor = self.head(y[:, -1])
        return out


@pytest.mark.parametrize(
    ("kind", "widths"),
    [
        (Circular, {"a": 8, "b": 8}),
        (Sum, {"a": 8}),
        (Constants, {"a": 8, "b": 8}),
        (Interleaved, {"a": 8}),
        (Halves, {"a": 8}),
        (Above, {"a": 8, "b": 8}),
        (Steps, {"a": 8}),
        (Shortcut, {"a": 8, "b": 8}),
        (ConvGRU, {"stem": 8, "gates": 8}),
        (Recurrent, {"cell": 8, "rnn": 8, "conv": 6}),
    ],
)
def test_channels_that_meet_a_fill_can_go(kind: type[nn.Module], widths: dict[str, int]) -> None:
    torch.manual_seed(0)
    model = oracle.randomise(kind().eval(), 0)
    graph = widthwise.trace(model, IMAGE)
    assert {group.name: group.width for group in graph.prunable} == widths
    for seed in range(4):
        keep = oracle.random_keep(graph, seed)
        oracle.check_subnet(model, graph, keep, IMAGE, 1e-4)
        oracle.check_subnet(model, graph, keep, OTHER, 1e-4)


class Fixed(Two):
    """The forward says a number that nothing can change."""

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        return b + torch.zeros(1, 8, 1, 1)


class Marked(Two):
    """One channel is not like the others."""

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        mark = b.new_zeros(1, self.width, 1, 1)
        mark[:, 0] = 1
        return b + mark


class Counted(Two):
    def between(self, a: Tensor, b: Tensor) -> Tensor:
        return b + torch.arange(b.shape[1])[:, None, None]


class Filled(Two):
    """Random numbers, where zeros have been."""

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        noise = torch.zeros(b.shape[1]).uniform_(generator=torch.Generator().manual_seed(0))
        return b + noise[:, None, None]


class Pieces(Two):
    """Beside one another by hand: pieces of a fixed place."""

    def __init__(self) -> None:
        super().__init__(head=16)

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        out = torch.empty(a.shape[0], 16, *a.shape[2:])
        out[:, :8], out[:, 8:] = a, b
        return out


@pytest.mark.parametrize("kind", [Fixed, Marked, Counted, Filled, Pieces])
def test_what_a_fill_cannot_follow_stays(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = oracle.randomise(kind().eval(), 0)
    graph = widthwise.trace(model, IMAGE)
    assert all(group.name == "a" for group in graph.prunable)
    assert len(graph.prunable) == (kind is not Pieces)
    for seed in range(4 if graph.prunable else 0):
        oracle.check_subnet(model, graph, oracle.random_keep(graph, seed), IMAGE, 1e-4)
