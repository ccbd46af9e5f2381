"""Teach the trace an operation and a module that it has never seen.

A rule moves the *nodes* (one per position of each axis of each parameter) as the operation moves the data. If it is
wrong, the proof pins what it touched: it can cost prunable channels, not a wrong network.
"""

import torch
from rich.console import Console
from torch import Tensor, nn

import widthwise
from widthwise.subnet.resize import ATTRIBUTES
from widthwise.tracing import MODULE_RULES, RULES, Call, Flow, place, pointwise


@torch.library.custom_op("example::soften", mutates_args=())
def soften(x: Tensor, strength: float) -> Tensor:
    """An element-wise kernel of one's own."""
    return x / (1 + strength * x.abs())


RULES["example::soften"] = pointwise  # every channel stays where it is


class Spectral(nn.Module):
    """Scales each channel by a weight of its own, computed outside PyTorch's operations."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.gain = nn.Parameter(torch.rand(channels) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] to the same."""
        assert x.shape[1] == self.channels
        gains = self.gain.detach().numpy().copy()
        return x * torch.from_numpy(gains).reshape(-1, 1, 1)


def follow_spectral(flow: Flow, call: Call) -> None:
    """Channel and gain of one position go together; the result has the channels of the input."""
    x, module = call["x"], call["module"]
    channels = flow.axis(x, 1)
    flow.unite(flow.axis(module.gain, 0), channels)
    flow.put(call.out, place(channels, x.ndim, 1))


MODULE_RULES[Spectral] = follow_spectral
ATTRIBUTES[Spectral] = lambda module, old, new: {"channels": new["gain"][0]}


class Net(nn.Module):
    """Two layers around what is new."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.spectral, self.leave = nn.Conv2d(3, 8, 3), Spectral(8), nn.Conv2d(8, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, 4, H - 4, W - 4]."""
        return self.leave(self.spectral(soften(self.enter(x), 0.5)))


def main() -> widthwise.ChannelGraph:
    """Trace it, prune it, and show that the small network has five channels."""
    model, image = Net().eval(), torch.randn(1, 3, 16, 16)
    graph = widthwise.trace(model, image)
    small = widthwise.materialize(model, graph, graph.subnet(widths={"enter": 5}))
    Console().print(small, highlight=False)
    assert small(image).shape == (1, 4, 12, 12)
    return graph


if __name__ == "__main__":
    main()
