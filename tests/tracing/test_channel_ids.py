"""Hand-made networks with hand-written channel ids."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import oracle
import widthwise
from widthwise import ChannelGraph


class Net(nn.Module):
    """A forward function over named modules, parameters and buffers."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, nn.Module | nn.Parameter):
                setattr(self, name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def conv(i: int, o: int, k: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, **options)


def image(*shape: int) -> Tensor:
    return torch.randn(*(shape or (1, 3, 6, 6)), generator=torch.Generator().manual_seed(3))


def trace(model: nn.Module, inputs: Any = None) -> ChannelGraph:
    """The graph, after the sub-networks at the edges were found exact."""
    inputs = image() if inputs is None else inputs
    graph = widthwise.trace(model, inputs)
    oracle.randomise(model, 0).double()
    for _, keep in oracle.edge_keeps(graph):
        oracle.check_subnet(model, graph, keep, _double(inputs), 1e-9)
    model.float()
    return graph


def _double(inputs: Any) -> Any:
    return torch.utils._pytree.tree_map_only(Tensor, lambda t: t.double() if t.is_floating_point() else t, inputs)


def ids(graph: ChannelGraph, name: str, dim: int) -> list[int]:
    return graph.axes[name, dim].tolist()


def reason(graph: ChannelGraph, name: str) -> str:
    found = [str(g.reason) for g in graph.pinned if g.name == name]
    assert found, f"{name} is not pinned: {graph.groups}"
    return str(found[0])


def head(width: int) -> nn.Linear:
    return nn.Linear(width, 2)


def pooled(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def test_plain_chain() -> None:
    graph = trace(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 3), nn.Flatten(), head(3 * 36)))
    assert [(g.name, g.width, g.ids.tolist()) for g in graph.prunable] == [("0", 4, [0, 1, 2, 3]), ("3", 3, [4, 5, 6])]
    assert ids(graph, "0.weight", 0) == [0, 1, 2, 3]
    assert ids(graph, "0.weight", 1) == [-1, -1, -1]
    assert ids(graph, "0.weight", 2) == [-1] * 3
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert ids(graph, f"1.{name}", 0) == [0, 1, 2, 3]
    assert ids(graph, "3.weight", 1) == [0, 1, 2, 3]
    assert ids(graph, "5.weight", 1) == [i for i in (4, 5, 6) for _ in range(36)]  # flatten: H * W positions each
    assert ids(graph, "5.weight", 0) == [-1, -1]
    assert graph.channels.tolist() == [0] * 4 + [1] * 3
    assert graph.roles["0.weight", 0] == "out"
    assert graph.roles["3.weight", 1] == "in"
    assert graph.roles["1.weight", 0] == "norm"
    assert graph.roles["1.bias", 0] == "with"
    assert "output" in reason(graph, "5")


def test_every_axis_has_ids() -> None:
    model = nn.Sequential(conv(3, 4), conv(4, 4, groups=4), nn.Flatten(), nn.Linear(144, 1))
    graph = trace(model)
    for name, tensor in model.named_parameters():
        for dim, size in enumerate(tensor.shape):
            assert graph.axes[name, dim].shape == (size,)
    assert ids(graph, "1.weight", 1) == [-1]


def test_padded_shortcut_pins_the_padded_and_ties_the_copied() -> None:
    def forward(s: Net, x: Tensor) -> Tensor:
        x = F.relu(s.a(x))
        return s.h(pooled(F.relu(s.b(x) + F.pad(x, (0, 0, 0, 0, 1, 2)))))

    graph = trace(Net(forward, a=conv(3, 4), b=conv(4, 7), h=head(7)))
    assert ids(graph, "a.weight", 0) == [0, 1, 2, 3]
    assert ids(graph, "b.weight", 0) == [-1, 0, 1, 2, 3, -1, -1]
    assert ids(graph, "h.weight", 1) == [-1, 0, 1, 2, 3, -1, -1]
    assert graph.num_channels == 4
    assert ": aten::add" in reason(graph, "b")


def test_residual_ties_position_by_position() -> None:
    graph = trace(Net(lambda s, x: s.h(pooled(s.a(x) + s.b(x))), a=conv(3, 4), b=conv(3, 4, 1), h=head(4)))
    assert ids(graph, "a.weight", 0) == ids(graph, "b.weight", 0) == ids(graph, "h.weight", 1) == [0, 1, 2, 3]
    assert len(graph.prunable) == 1


def test_chunks_stay_equally_wide() -> None:
    def forward(s: Net, x: Tensor) -> Tensor:
        first, second = s.a(x).chunk(2, 1)
        return s.h(pooled(torch.cat([first, s.b(second)], 1)))

    graph = trace(Net(forward, a=conv(3, 6), b=conv(3, 2), h=head(5)))
    assert ids(graph, "a.weight", 0) == [0, 1, 2, 0, 1, 2]
    assert ids(graph, "b.weight", 1) == [0, 1, 2]
    assert ids(graph, "h.weight", 1) == [0, 1, 2, 3, 4]


def test_channel_shuffle() -> None:
    def forward(s: Net, x: Tensor) -> Tensor:
        x = s.a(x)
        n, c, h, w = x.shape
        return s.h(pooled(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)))

    graph = trace(Net(forward, a=conv(3, 6), h=head(6)))
    assert ids(graph, "a.weight", 0) == [0, 1, 2, 0, 1, 2]
    assert ids(graph, "h.weight", 1) == [0, 0, 1, 1, 2, 2]


def test_depthwise_passes_on_and_its_multiplier_repeats() -> None:
    model = nn.Sequential(conv(3, 4), conv(4, 4, groups=4), conv(4, 8, groups=4), nn.Flatten(), head(8 * 36))
    graph = trace(model)
    assert ids(graph, "1.weight", 0) == [0, 1, 2, 3]
    assert ids(graph, "2.weight", 0) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(graph.prunable) == 1
    small = widthwise.materialize(model, graph, graph.subnet([True, False, True, False]))
    assert (small[1].groups, small[1].in_channels, small[1].out_channels) == (2, 2, 2)
    assert (small[2].groups, small[2].in_channels, small[2].out_channels) == (2, 2, 4)


def test_grouped_ties_across_groups() -> None:
    graph = trace(nn.Sequential(conv(3, 6), conv(6, 4, groups=2), nn.Flatten(), head(4 * 36)))
    assert ids(graph, "0.weight", 0) == [0, 1, 2, 0, 1, 2]
    assert ids(graph, "1.weight", 1) == [0, 1, 2]
    assert ids(graph, "1.weight", 0) == [3, 4, 3, 4]


def test_transposed_and_grouped_transposed() -> None:
    up, grouped = nn.ConvTranspose2d(4, 6, 2, 2), nn.ConvTranspose2d(6, 4, 1, groups=2)
    graph = trace(nn.Sequential(conv(3, 4), up, grouped, nn.Flatten(), head(4 * 144)))
    assert ids(graph, "1.weight", 0) == [0, 1, 2, 3]
    assert ids(graph, "1.weight", 1) == ids(graph, "2.weight", 0) == [4, 5, 6, 4, 5, 6]
    assert ids(graph, "2.weight", 1) == [7, 8]
    assert ids(graph, "2.bias", 0) == [7, 8, 7, 8]


def test_concat() -> None:
    graph = trace(
        Net(lambda s, x: s.h(pooled(torch.cat([s.a(x), x, s.b(x)], 1))), a=conv(3, 2), b=conv(3, 3), h=head(8))
    )
    assert ids(graph, "h.weight", 1) == [0, 1, -1, -1, -1, 2, 3, 4]


def test_squeeze_and_excitation() -> None:
    def forward(s: Net, x: Tensor) -> Tensor:
        x = s.a(x)
        return s.h(pooled(x * torch.sigmoid(s.up(F.relu(s.down(F.adaptive_avg_pool2d(x, 1)))))))

    graph = trace(Net(forward, a=conv(3, 4), down=conv(4, 2, 1), up=conv(2, 4, 1), h=head(4)))
    assert ids(graph, "up.weight", 0) == ids(graph, "down.weight", 1) == ids(graph, "h.weight", 1) == [0, 1, 2, 3]
    assert ids(graph, "down.weight", 0) == ids(graph, "up.weight", 1) == [4, 5]


def test_module_used_twice_ties_its_input_and_output() -> None:
    graph = trace(Net(lambda s, x: s.h(pooled(s.b(F.relu(s.b(s.a(x)))))), a=conv(3, 4), b=conv(4, 4, 1), h=head(4)))
    assert ids(graph, "a.weight", 0) == ids(graph, "b.weight", 0) == ids(graph, "b.weight", 1) == [0, 1, 2, 3]
    assert len(graph.prunable) == 1


def test_module_used_on_two_tensors() -> None:
    def forward(s: Net, x: Tensor) -> Tensor:
        return s.h(pooled(s.b(F.relu(s.a(x))))) + s.h(pooled(s.b(F.max_pool2d(s.a(x), 2))))

    graph = trace(Net(forward, a=conv(3, 4), b=conv(4, 3), h=head(3)))
    assert ids(graph, "a.weight", 0) == ids(graph, "b.weight", 1) == [0, 1, 2, 3]
    assert ids(graph, "b.weight", 0) == ids(graph, "h.weight", 1) == [4, 5, 6]


def test_layer_scale_slopes_and_constants_go_with_their_channels() -> None:
    model = Net(
        lambda s, x: s.h(pooled(s.act(s.a(x) * s.gamma + s.constant))),
        a=conv(3, 4),
        gamma=nn.Parameter(torch.rand(4, 1, 1)),
        constant=torch.rand(1, 4, 1, 1),
        act=nn.PReLU(4),
        h=head(4),
    )
    graph = trace(model)
    for name, dim in (("gamma", 0), ("constant", 1), ("act.weight", 0)):
        assert ids(graph, name, dim) == [0, 1, 2, 3]


def test_in_place_operations() -> None:
    def forward(s: Net, x: Tensor) -> Tensor:
        y = s.a(x).relu_()
        y += s.b(x)
        y.mul_(2).clamp_(max=3)
        return s.h(pooled(y))

    graph = trace(Net(forward, a=conv(3, 4), b=conv(3, 4), h=head(4)))
    assert ids(graph, "a.weight", 0) == ids(graph, "b.weight", 0) == [0, 1, 2, 3]


def _softmax(s: Net, x: Tensor) -> Tensor:
    return s.h(pooled(s.mixer(s.a(x))))


PINNED: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "hard-coded view": (
        lambda: Net(lambda s, x: s.h(pooled(s.a(x).view(1, 4, 36)[..., None])), a=conv(3, 4), h=head(4)),
        "a",
        "RuntimeError: shape '[1, 4, 36]' is invalid",
    ),
    "softmax over channels": (
        lambda: Net(_softmax, a=conv(3, 4), mixer=nn.Softmax(1), h=head(4)),
        "a",
        "_softmax in mixer",
    ),
    "product of activations": (
        lambda: Net(
            lambda s, x: s.h((s.a(x).flatten(2).transpose(1, 2) @ s.b(x).flatten(2)).mean(1)[:, :4]),
            a=conv(3, 4),
            b=conv(3, 4),
            h=head(4),
        ),
        "a",
        "product of two activations",
    ),
    "layer norm over channels": (
        lambda: Net(
            lambda s, x: s.h(s.norm(s.a(x).permute(0, 2, 3, 1)).mean((1, 2))),
            a=conv(3, 4),
            norm=nn.LayerNorm(4),
            h=head(4),
        ),
        "a",
        "aten::native_layer_norm in norm",
    ),
    "group norm": (
        lambda: Net(_softmax, a=conv(3, 4), mixer=nn.GroupNorm(1, 4), h=head(4)),
        "a",
        "aten::native_group_norm in mixer",
    ),
    "output": (lambda: Net(lambda s, x: s.h(x), h=conv(3, 4)), "h", "reaches the model's output"),
    "no rule": (
        lambda: Net(lambda s, x: s.h(pooled(s.a(x)[:, s.order])), a=conv(3, 4), order=torch.randperm(4), h=head(4)),
        "a",
        "taken by a fixed index: aten::index",
    ),
    "squeezed away at width one": (
        lambda: Net(lambda s, x: s.h(pooled(s.a(x)).squeeze()), a=conv(3, 4), h=head(4)),
        "a",
        "breaks the forward when pruned",
    ),
    "looks at its width behind a threshold": (
        lambda: Net(lambda s, x: s.h(pooled(s.a(x)) / s.a.weight.shape[0]) > 0, a=conv(3, 4), h=head(4)),
        "a",
        "computes something else when pruned",
    ),
    "looks at its width": (
        lambda: Net(lambda s, x: s.h(pooled(s.a(x))) / s.a.weight.shape[0], a=conv(3, 4), h=head(4)),
        "a",
        "computes something else when pruned",
    ),
}


@pytest.mark.parametrize("case", PINNED)
def test_pinned_with_the_reason(case: str) -> None:
    build, name, why = PINNED[case]
    graph = trace(build())
    assert why in reason(graph, name)
    assert set(ids(graph, f"{name}.weight", 0)) == {-1}


def _nested(s: Net, images: dict[str, list[Tensor]], scale: Tensor, deep: bool = False) -> dict[str, Any]:
    x = F.relu(s.a(images["left"][0]) + s.a(images["left"][1]))
    for _ in range(3 if deep else 1):
        x = x + s.b(x)
    return {"scores": [s.h(pooled(x)) * scale], "nothing": None}


@pytest.mark.parametrize("deep", [False, True])
def test_nested_inputs_and_outputs_and_control_flow(deep: bool) -> None:
    model = Net(_nested, a=conv(3, 4), b=nn.Sequential(conv(4, 3), nn.ReLU(), conv(3, 4)), h=head(4))
    inputs = {"images": {"left": [image(), image()]}, "scale": torch.tensor(2.0), "deep": deep}
    graph = trace(model, inputs)
    assert [(g.name, g.width) for g in graph.prunable] == [("a", 4), ("b.0", 3)]
    positional = trace(model, ({"left": [image(), image()]}, torch.tensor(2.0), deep))
    assert positional.fingerprint == graph.fingerprint


def test_a_branch_that_is_not_taken_is_not_prunable() -> None:
    model = Net(lambda s, x, wide: s.h(pooled(s.b(s.a(x)) if wide else s.a(x))), a=conv(3, 4), b=conv(4, 4), h=head(4))
    graph = trace(model, (image(), False))
    assert [g.name for g in graph.prunable] == ["a"]
    assert reason(graph, "b.weight[0]") == "is not used in the forward pass"


def test_an_unused_buffer_is_called_unused_also_where_training_has_branches_of_its_own() -> None:
    def forward(s: Net, x: Tensor) -> tuple[Tensor, ...]:
        y = s.a(x)
        out = s.h(pooled(s.b(y)))
        return (out, s.aux(pooled(y))) if s.training else (out,)

    model = Net(forward, a=conv(3, 4), b=conv(4, 4), h=head(4), aux=head(4), left_over=torch.zeros(6))
    graph = trace(model, image())
    assert [g.name for g in graph.prunable] == ["a", "b"]
    assert reason(graph, "left_over[0]") == "is not used in the forward pass"
