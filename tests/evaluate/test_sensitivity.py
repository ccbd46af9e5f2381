"""Sensitivities of channels: the derivatives that they are defined by, from differences and image by image."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import widthwise
from widthwise.channels import ChannelGraph
from widthwise.errors import ConfigError
from widthwise.evaluate import sensitivity
from widthwise.subnet import gated


class Stream(nn.Module):
    """A residual stream that three layers make, batch norm, and squeeze-and-excitation over inner channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.inner = nn.Sequential(nn.Conv2d(6, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU())
        self.squeeze = nn.Linear(5, 5)
        self.outer = nn.Conv2d(5, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.inner(x)
        y = y * self.squeeze(y.mean((2, 3))).sigmoid()[:, :, None, None]
        return self.head((x + self.outer(y)).mean((2, 3)))


@pytest.fixture
def traced() -> tuple[nn.Module, ChannelGraph]:
    torch.manual_seed(0)
    model = Stream().double().eval()
    with torch.no_grad():
        model.inner[1].running_mean.uniform_(-0.2, 0.2)
    return model, widthwise.trace(model, torch.randn(1, 3, 6, 6, dtype=torch.float64))


def batches(size: int, count: int = 24) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, 6, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (count,), generator=generator)
    return zip(images.split(size), labels.split(size), strict=True)


def slopes(model: nn.Module, graph: ChannelGraph, images: Tensor, label: Tensor) -> Tensor:
    """Central differences of the margin of one image, by each gate."""

    def margin(gates: Tensor) -> Tensor:
        logits = gated(model, graph, gates)(images)[0]
        return logits[int(label)] - logits.mean()

    ones, step = torch.ones(graph.num_channels, dtype=torch.float64), 1e-4
    found = []
    for channel in range(graph.num_channels):
        change = torch.zeros_like(ones)
        change[channel] = step
        found.append((margin(ones + change) - margin(ones - change)) / (2 * step))
    return torch.stack(found)


def test_the_mean_squared_derivative_of_the_margin(traced: tuple[nn.Module, ChannelGraph]) -> None:
    model, graph = traced
    with torch.no_grad():
        expected = torch.stack([slopes(model, graph, *one).square() for one in batches(1)]).mean(0)
    assert float(expected.min()) > 0
    torch.testing.assert_close(sensitivity(model, graph, batches(1)), expected, rtol=1e-4, atol=1e-9)


def test_images_that_share_a_derivative_say_the_same_in_the_mean(traced: tuple[nn.Module, ChannelGraph]) -> None:
    model, graph = traced
    exact = sensitivity(model, graph, batches(1))
    drawn = torch.stack([sensitivity(model, graph, batches(6), seed=seed) for seed in range(200)])
    assert not torch.equal(drawn[0], drawn[1])
    torch.testing.assert_close(drawn.mean(0), exact, rtol=0.2, atol=1e-9)
    assert torch.equal(sensitivity(model, graph, batches(6), seed=3), drawn[3])


def test_what_nothing_reads_counts_for_nothing(traced: tuple[nn.Module, ChannelGraph]) -> None:
    model, graph = traced
    channel = int(graph.group("inner.0").ids[2])
    with torch.no_grad():
        model.outer.weight[:, 2] = 0
        model.squeeze.weight[:, 2] = 0
    scores = sensitivity(model, graph, batches(6))
    assert float(scores[channel]) == 0
    assert int((scores == 0).sum()) == 1


def test_nothing_of_the_model_changes(traced: tuple[nn.Module, ChannelGraph]) -> None:
    model, graph = traced
    scores = sensitivity(model, graph, batches(6))
    model.train()
    model.requires_grad_(False)
    before, state = {n: t.clone() for n, t in model.state_dict().items()}, torch.get_rng_state()
    with torch.no_grad():
        assert torch.equal(sensitivity(model, graph, batches(6)), scores)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_what_cannot_be_measured_is_said(traced: tuple[nn.Module, ChannelGraph]) -> None:
    model, graph = traced
    with pytest.raises(ConfigError, match="there was no image"):
        sensitivity(model, graph, [])
    forward = model.forward
    model.forward = torch.no_grad()(forward)
    with pytest.raises(ConfigError, match="sensitivity_images=0"):
        sensitivity(model, graph, batches(6))
    model.forward = forward
    with torch.no_grad():
        model.head.bias.fill_(float("nan"))
        model.head.weight.fill_(float("inf"))
    with pytest.raises(ConfigError, match="are not, on 24 images"):
        sensitivity(model, graph, batches(6))
