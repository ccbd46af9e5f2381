"""Forwards that meet a rule in an unusual way: in inference mode, through the batch dimension, from two places."""

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import oracle
from widthwise import ChannelGraph, trace


def checked(model: nn.Module, inputs: Any) -> ChannelGraph:
    """The graph of a model, after some of its sub-networks and their cost were compared with the oracle."""
    graph = trace(model.eval(), inputs)
    for seed in range(3):
        keep = oracle.random_keep(graph, seed)
        oracle.check_subnet(model, graph, keep, inputs, 1e-5)
        oracle.check_cost(model, graph, keep, inputs)
    return graph


class InInferenceMode(nn.Module):
    """A frozen backbone: operations that PyTorch makes of others arrive whole."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b, self.fc = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            x = self.b(F.dropout(self.norm(self.a(x)).relu(), training=self.training))
            x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.fc(x)


def test_operations_that_arrive_whole_in_inference_mode_are_taken_apart():
    graph = checked(InInferenceMode(), torch.randn(2, 3, 8, 8))
    assert [(g.name, g.width) for g in graph.prunable] == [("a", 6), ("b", 4)]


class InTheBatch(nn.Module):
    """One filter for every channel: channels lie in the batch for a while."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.a, self.blur, self.norm, self.b = (
            nn.Conv2d(3, 6, 3),
            nn.Conv2d(1, 1, 3, padding=1),
            norm,
            nn.Conv2d(6, 4, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        n, c, h, w = x.shape
        y = F.interpolate(self.norm(self.blur(x.reshape(n * c, 1, h, w))), size=(4, 4))
        return self.b(y.view(n, -1, 4, 4)).mean((2, 3))


@pytest.mark.parametrize("norm", [nn.Identity(), nn.BatchNorm2d(1), nn.GroupNorm(1, 1)], ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("batch", [1, 2])
def test_channels_in_the_batch_pass_through_convolutions_and_norms(norm, batch):
    graph = checked(InTheBatch(norm), torch.randn(batch, 3, 8, 8))
    assert [(g.name, g.width) for g in graph.prunable] == [("a", 6)]


class OneNormTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)
        self.norm = nn.InstanceNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.norm(self.b(self.norm(self.a(x)).relu())).relu()).mean((2, 3))


@pytest.mark.parametrize("batch", [1, 3])
def test_an_instance_norm_without_tensors_keeps_its_number_of_channels_right(batch):
    """PyTorch warns of a wrong one in every forward."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = nn.Sequential(nn.Conv2d(3, 6, 1), nn.InstanceNorm2d(6), nn.Conv2d(6, 2, 1))
        assert [g.width for g in checked(alone, torch.randn(batch, 3, 4, 4)).prunable] == [6]
        twice = checked(OneNormTwice(), torch.randn(batch, 3, 4, 4))
        assert [g.width for g in twice.prunable] == [4]  # what one number of channels serves is one group


class Recurrent(nn.Module):
    def __init__(self, layer: nn.RNNBase | nn.RNNCellBase, features: int) -> None:
        super().__init__()
        self.a, self.layer = nn.Conv2d(3, 8, 3), layer
        self.b, self.c = nn.Linear(features, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu().flatten(2).transpose(1, 2)
        y = self.layer(x if isinstance(self.layer, nn.RNNBase) else x.mean(1))
        return self.c(self.b(y[0] if isinstance(y, tuple) else y).relu())


@pytest.mark.parametrize(
    ("layer", "features"),
    [
        (nn.GRU(8, 5, batch_first=True, num_layers=2, bidirectional=True), 10),
        (nn.RNN(8, 5, batch_first=True), 5),
        (nn.LSTM(8, 5, batch_first=True), 5),
        (nn.LSTMCell(8, 5), 5),
    ],
    ids=["GRU", "RNN", "LSTM", "LSTMCell"],
)
def test_recurrent_layers_are_prunable_and_their_sizes_follow(layer, features):
    graph = checked(Recurrent(layer, features), torch.randn(2, 3, 6, 6))
    assert {g.name: g.width for g in graph.prunable} == {"a": 8, "layer": 5, "b": 4}


class Packed(nn.Module):
    """Sequences of several lengths through two recurrent layers, as for text or speech."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.rnn = nn.Conv1d(3, 8, 3, padding=1), nn.LSTM(8, 5, batch_first=True, bidirectional=True)
        self.more, self.b = nn.GRU(10, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x = self.a(x).relu().transpose(1, 2)
        packed, _ = self.more(self.rnn(pack_padded_sequence(x, lengths, batch_first=True))[0])
        return self.b(pad_packed_sequence(packed, batch_first=True)[0]).mean(1)


def test_packed_sequences_through_recurrent_layers():
    graph = checked(Packed(), (torch.randn(3, 3, 9), torch.tensor([9, 7, 4])))
    assert {g.name: g.width for g in graph.prunable} == {"a": 8, "rnn": 5, "more": 6}


class ByHand(nn.Module):
    """Pixel shuffle as a view: windows lie behind the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 24, 3), nn.Conv2d(6, 5, 3), nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        n, c, h, w = x.shape
        x = x.view(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w)
        return self.c(self.b(x).relu())


def test_the_first_of_several_dimensions_may_follow_the_width():
    graph = checked(ByHand(), torch.randn(1, 3, 6, 6))
    assert [(g.name, g.width) for g in graph.prunable] == [("a", 6), ("b", 5)]
