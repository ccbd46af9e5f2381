"""Which widths a search may give."""

from typing import Any

import pytest
import torch
from torch import nn

import widthwise
from widthwise import ChannelGraph, WidthSpace
from widthwise.errors import ConfigError


@pytest.fixture(scope="module")
def graph() -> ChannelGraph:
    layers = [nn.Conv2d(3, 16, 3), nn.Conv2d(16, 12, 3), nn.Conv2d(12, 32, 3), nn.Flatten(), nn.Linear(128, 5)]
    return widthwise.trace(nn.Sequential(*layers), torch.randn(1, 3, 8, 8))


def choices(space: WidthSpace, graph: ChannelGraph) -> list[list[int]]:
    return [c.tolist() for c in space.of(graph).choices]


def test_every_width_is_the_default(graph: ChannelGraph) -> None:
    assert choices(WidthSpace(), graph) == [list(range(1, 17)), list(range(1, 13)), list(range(1, 33))]
    assert WidthSpace().of(graph).size == 16 * 12 * 32


def test_ratios(graph: ChannelGraph) -> None:
    assert choices(WidthSpace(ratios=(0.25, 0.5, 1.0)), graph) == [[4, 8, 16], [3, 6, 12], [8, 16, 32]]
    assert choices(WidthSpace(ratios=(0.5,)), graph) == [[8, 16], [6, 12], [16, 32]]  # the full width always is allowed


def test_multiples_and_least_widths(graph: ChannelGraph) -> None:
    assert choices(WidthSpace(multiple_of=8), graph) == [[8, 16], [8, 12], [8, 16, 24, 32]]
    assert choices(WidthSpace(multiple_of=4, min_width=8), graph) == [[8, 12, 16], [8, 12], [8, 12, 16, 20, 24, 28, 32]]
    assert [c[0] for c in choices(WidthSpace(min_ratio=0.3), graph)] == [5, 4, 10]
    assert choices(WidthSpace(multiple_of=64), graph) == [[16], [12], [32]]


def test_layers_to_leave_alone(graph: ChannelGraph) -> None:
    full = [[16], [12], [32]]
    free = choices(WidthSpace(), graph)
    assert choices(WidthSpace(keep_outputs_of=("1",)), graph) == [free[0], full[1], free[2]]
    assert choices(WidthSpace(keep_inputs_of=("1",)), graph) == [full[0], free[1], free[2]]
    assert choices(WidthSpace(keep_outputs_of=("1",), keep_inputs_of=("1",)), graph) == [full[0], full[1], free[2]]
    assert choices(WidthSpace(keep_outputs_of=("[0-2]",)), graph) == full


@pytest.mark.parametrize(
    "options",
    [
        {"ratios": ()},
        {"ratios": (0.0, 1.0)},
        {"ratios": (1.5,)},
        {"ratios": (float("nan"),)},
        {"multiple_of": 0},
        {"min_width": 0},
        {"min_ratio": -0.1},
        {"min_ratio": 1.1},
        {"min_ratio": float("nan")},
    ],
)
def test_settings_outside_their_range(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        WidthSpace(**options)


@pytest.mark.parametrize("option", ["keep_outputs_of", "keep_inputs_of"])
def test_a_pattern_that_matches_nothing(option: str, graph: ChannelGraph) -> None:
    with pytest.raises(ConfigError, match=r"layer9\.\*"):
        WidthSpace(**{option: ("layer9.*",)}).of(graph)


def test_snap_goes_to_the_nearest_allowed_width(graph: ChannelGraph) -> None:
    space = WidthSpace(multiple_of=8).of(graph)
    for value in torch.arange(0, 40):
        found = space.snap(value.expand(1, 3).double())[0].tolist()
        for width, allowed in zip(found, space.choices, strict=True):
            nearest = (allowed - value).abs().min()
            assert width == max(w for w in allowed.tolist() if abs(w - value) == nearest)
