"""What a caller may overrule: layers that stay whole, layers that are offered in spite of a reason to pin them."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

import widthwise
from widthwise.errors import ConfigError


class Normed(nn.Module):
    """Two layers in front of a layer norm, and one behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 8, 3), nn.Sequential(nn.Conv2d(8, 6, 1), nn.Conv2d(6, 8, 1))
        self.norm, self.hidden, self.head = nn.LayerNorm(8), nn.Linear(8, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = (x + self.deep(x)).mean((2, 3))
        return self.head(self.hidden(self.norm(x)))


IMAGE = torch.randn(1, 3, 8, 8)


def names(graph: widthwise.ChannelGraph) -> list[str]:
    return [g.name for g in graph.prunable]


@pytest.mark.parametrize("pin", [["hidden"], ["hid*"], [nn.Linear]])
def test_a_pinned_layer_stays_as_it_is(pin: list[str | type[nn.Module]]) -> None:
    assert names(widthwise.trace(Normed(), IMAGE)) == ["deep.0", "hidden"]
    graph = widthwise.trace(Normed(), IMAGE, pin=pin)
    assert names(graph) == ["deep.0"]
    pinned = next(g for g in graph.pinned if g.name == "hidden")
    assert "asked to stay whole" in str(pinned.reason)


def test_a_pinned_container_stands_for_all_inside_it():
    graph = widthwise.trace(Normed(), IMAGE, pin=["deep"])
    assert names(graph) == ["hidden"]


def test_a_pinned_layer_keeps_its_inputs_too():
    graph = widthwise.trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 2, 1)), IMAGE, pin=["1"])
    assert names(graph) == []


@pytest.mark.parametrize("choice", ["pin", "unproved"])
def test_a_pattern_that_matches_nothing_is_refused(choice: str) -> None:
    with pytest.raises(ConfigError, match=r"'stage9'.*matches none"):
        widthwise.trace(Normed(), IMAGE, **{choice: ["stage9"]})


def test_unproved_layers_are_offered_and_said_so():
    model = Normed().eval()
    graph = widthwise.trace(model, IMAGE, unproved=["stem"])
    assert names(graph) == ["stem", "deep.0", "hidden"]
    assert [g.name for g in graph.prunable if not g.proved] == ["stem"]
    subnet = graph.subnet(widths={"stem": 3})
    small = widthwise.materialize(model, graph, subnet)
    assert small.norm.normalized_shape == (3,)
    assert small(IMAGE).shape == (1, 4)
    macs = widthwise.CostModel(graph).macs(subnet)
    assert macs == 36 * (3 * 27 + 2 * 6 * 3) + 5 * 3 + 4 * 5


def test_outputs_stay_whole_at_any_risk():
    graph = widthwise.trace(Normed(), IMAGE, unproved=["head", nn.Linear])
    assert "head" not in names(graph)


def test_a_layer_that_is_pinned_is_not_risked():
    assert names(widthwise.trace(Normed(), IMAGE, pin=["stem"], unproved=["stem"])) == ["deep.0", "hidden"]


def test_unproved_layers_that_cannot_even_run_are_pinned():
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).view(1, 4, 64).softmax(1).view(1, 4, 8, 8))

    graph = widthwise.trace(Fixed(), IMAGE, unproved=["a"])
    assert not graph.prunable
    assert "breaks the forward" in str(next(g for g in graph.pinned if g.name == "a").reason)


def test_the_residual_stream_of_a_convnext_at_ones_own_risk():
    model = torchvision.models.convnext_tiny(weights=None).eval()
    image = torch.randn(1, 3, 64, 64)
    graph = widthwise.trace(model, image, unproved=["features.*"])
    risked = [g for g in graph.prunable if not g.proved]
    assert [g.width for g in risked] == [96, 192, 384, 768]
    small = widthwise.materialize(model, graph, graph.subnet(widths={g: g.width // 2 for g in risked}))
    assert small(image).shape == (1, 1000)
    assert small.features[7][2].block[0].weight.shape == (384, 1, 7, 7)
