"""Sizes in the attributes of PyTorch's own layers follow the tensors, and those that do not fit are refused."""

import pytest
import torch
from torch import nn

from widthwise.errors import SubnetMismatch
from widthwise.subnet.resize import resized_copy, tensors_of


def cut(layer: nn.Module, shapes: dict[str, tuple[int, ...]]) -> nn.Module:
    """A copy of a layer whose tensors have lost positions at the end."""
    small = {
        name: tensor.detach()[tuple(slice(n) for n in shapes.get(name, tensor.shape))]
        for name, tensor in tensors_of(layer).items()
    }
    return resized_copy(layer, small, {})


LSTM = {"weight_ih_l0": (8, 3), "weight_hh_l0": (8, 2), "bias_ih_l0": (8,), "bias_hh_l0": (8,)}


def test_a_recurrent_layer_with_fewer_inputs_and_states_runs():
    small = cut(nn.LSTM(6, 5, batch_first=True), LSTM)
    assert (small.input_size, small.hidden_size) == (3, 2)
    assert small(torch.randn(2, 4, 3))[0].shape == (2, 4, 2)
    projected = {"weight_ih_l0": (8, 3), "weight_hh_l0": (8, 1), "weight_hr_l0": (1, 2)}
    small = cut(nn.LSTM(6, 5, proj_size=4, bias=False), projected)
    assert (small.input_size, small.hidden_size, small.proj_size) == (3, 2, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight_ih_l0": (7, 3)},
        {"weight_hh_l0": (8, 1)},
        {"weight_hh_l0": (4, 2)},
        {"bias_hh_l0": (5,)},
    ],
)
def test_weights_that_do_not_fit_one_another_are_refused_before_they_can_run(wrong):
    with pytest.raises(SubnetMismatch, match="must fit one another"):
        cut(nn.LSTM(6, 5), {**LSTM, **wrong})


def test_the_layers_of_a_deep_recurrent_layer_must_fit_too():
    first = {"weight_ih": (4, 6), "weight_hh": (4, 4), "bias_ih": (4,), "bias_hh": (4,)}
    ends = ("l0", "l0_reverse", "l1", "l1_reverse")
    shapes = {f"{name}_{end}": shape for name, shape in first.items() for end in ends}
    shapes |= {"weight_ih_l1": (4, 8), "weight_ih_l1_reverse": (4, 8)}
    layer = nn.RNN(6, 5, num_layers=2, bidirectional=True)
    assert cut(layer, shapes).hidden_size == 4
    with pytest.raises(SubnetMismatch, match="weight_ih_l1_reverse"):
        cut(layer, {**shapes, "weight_ih_l1_reverse": (4, 7)})


def test_cells_and_root_mean_square_norms_follow():
    cell = cut(nn.GRUCell(6, 5), {"weight_ih": (15, 4)})
    assert (cell.input_size, cell.hidden_size) == (4, 5)
    assert cell(torch.randn(2, 4)).shape == (2, 5)
    norm = cut(nn.RMSNorm(6), {"weight": (4,)})
    assert norm.normalized_shape == (4,)
    assert norm(torch.randn(2, 4)).shape == (2, 4)
