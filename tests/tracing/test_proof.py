"""What the proof rests on: the reference, double precision where rounding leaves a doubt, and decisions."""

import sys
from contextlib import nullcontext
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import oracle
import widthwise
from widthwise.subnet.materialize import kept_positions
from widthwise.subnet.resize import tensors_of
from widthwise.tracing.follow import Draft
from widthwise.tracing.probe import Probe, as_example, in_parts, make_probe
from widthwise.tracing.proof.compare import _silenced
from widthwise.tracing.proof.observe import observe

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, groups=2), nn.PReLU(6), nn.Conv2d(6, 4, 1)
    ).eval()


class Scaled(nn.Module):
    """A tensor of one module that another one uses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.held = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.conv(x).mean((2, 3)), self.held.weight)


class Tied(nn.Module):
    """Decides between one sum and the same sum the other way round: rounding alone makes the difference."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.score = nn.Conv2d(3, 24, 3), nn.Linear(24, 64)
        self.first, self.second = nn.Linear(1, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.conv(x).relu().mean((2, 3))
        there = self.score(h)
        back = F.linear(h.flip(1), self.score.weight.flip(1), self.score.bias)
        best = torch.stack([there, back]).max(0).indices
        return best, self.second(self.first(torch.where(best == 0, there, -back).unsqueeze(-1)).relu())


def probe_of(model: nn.Module) -> Probe:
    return make_probe(model, as_example(IMAGE), torch.device("cpu"))


def values(probe: Probe) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors_of(probe.model).items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("by_module", [True, False])
def test_double_precision_is_exact_and_leaves_nothing_behind(by_module: bool) -> None:
    model = convolutions()
    probe = probe_of(model)
    before, single = values(probe), probe.run()[0]
    with probe.in_double(by_module=by_module):
        found = probe.run()[0]
    assert_same(values(probe), before)
    assert torch.equal(probe.run()[0], single)
    model.load_state_dict(before)
    expected = model.double()(probe.example.args[0].double())
    assert found.dtype == torch.float64
    assert (found - expected).abs().max() <= 1e-14 * expected.abs().max()


def test_one_module_at_a_time_is_in_double_precision() -> None:
    probe = probe_of(convolutions())
    weights = [module.weight for module in probe.model if not isinstance(module, nn.ReLU)]
    seen: list[list[torch.dtype]] = []
    for module in probe.model:
        module.register_forward_hook(lambda *_: seen.append([w.dtype for w in weights]))
    with probe.in_double(by_module=True):
        probe.run()
    assert [types.count(torch.float64) for types in seen] == [1, 1, 0, 1, 1, 1]
    assert seen[-1][-1] == torch.float64


def test_a_weight_that_is_used_elsewhere_stays_and_is_told_by_an_error() -> None:
    probe = probe_of(Scaled())
    before = values(probe)
    with pytest.raises(RuntimeError, match="same dtype"), probe.in_double(by_module=True):
        probe.run()
    assert_same(values(probe), before)
    assert not probe.widens
    assert probe.example.args[0].dtype == torch.float32


@pytest.mark.parametrize("drawn", [True, False])
@pytest.mark.parametrize("double", [True, False])
def test_the_reference_does_not_see_removed_channels_and_is_whole_again_after(drawn: bool, double: bool) -> None:
    model = convolutions()
    graph, probe = widthwise.trace(model, IMAGE), probe_of(model)
    if not drawn:
        probe.dice.starts.clear()  # as where the weights are the model's own
    before = values(probe)
    subnet = graph.subnet(widths={group: group.width // 2 for group in graph.prunable}, importance="random")
    keep = torch.cat([subnet.keep, torch.ones(1, dtype=torch.bool)])
    wide = probe.in_double(by_module=False) if double else nullcontext()
    with wide, _silenced(probe, graph, kept_positions(graph, subnet)):
        for name, inside in values(probe).items():
            expected = before[name].clone()
            for dim in range(expected.ndim):
                if graph.roles.get((name, dim)) == "in":
                    expected.index_fill_(dim, (~keep[graph.axes[name, dim]]).nonzero()[:, 0], 0)
            assert torch.equal(inside.to(expected.dtype), expected), name
    assert_same(values(probe), before)


def test_ties_are_no_mistakes() -> None:
    graph = widthwise.trace(Tied(), IMAGE)
    assert {group.name: group.width for group in graph.prunable} == {"conv": 24, "first": 6}


def test_a_decision_is_not_taken_over_where_it_rested_on_other_numbers() -> None:
    class Chooses(nn.Module):
        def __init__(self, sign: int) -> None:
            super().__init__()
            self.sign, self.score = sign, nn.Linear(192, 5)

        def forward(self, x: Tensor) -> Tensor:
            return (self.sign * self.score(x.flatten(1))).topk(2).indices

    subnet = widthwise.Subnet(torch.ones(1, dtype=torch.bool))
    best, worst = probe_of(Chooses(1)), probe_of(Chooses(-1))
    earlier = observe(worst, worst.model, {}, subnet, small=True)
    found = observe(best, best.model, {}, subnet, earlier, small=False)
    assert torch.equal(found.outputs[0], best.run()[0])
    assert not torch.equal(found.outputs[0], earlier.outputs[0])


def test_where_the_numbers_are_the_same_the_decision_is_the_earlier_one() -> None:
    class Even(nn.Module):
        def __init__(self, last: bool) -> None:
            super().__init__()
            self.last, self.weight = last, nn.Parameter(torch.ones(2, 2))

        def forward(self, x: Tensor) -> Tensor:
            edge = torch.tensor([0.0, 1e-14], dtype=x.dtype)
            return (x.flatten()[:2] * 0 + 1 + (edge if self.last else edge.flip(0))).argmax()

    subnet = widthwise.Subnet(torch.ones(1, dtype=torch.bool))
    first, last = probe_of(Even(False)), probe_of(Even(True))
    assert (int(first.run()[0]), int(last.run()[0])) == (0, 1)
    earlier = observe(first, first.model, {}, subnet, small=True)
    assert int(observe(last, last.model, {}, subnet, earlier, small=False).outputs[0]) == 0


def test_the_graph_is_built_once_where_nothing_fails() -> None:
    with patch.object(Draft, "graph", autospec=True, side_effect=Draft.graph) as graph:
        widthwise.trace(convolutions(), IMAGE)
    assert graph.call_count == 1


def test_in_parts_leaves_the_switches_as_they_were() -> None:
    switches = (torch.backends.mkldnn, torch.backends.cudnn)
    before = [torch.backends.mha.get_fastpath_enabled(), *(s.enabled for s in switches)]
    with in_parts(nn.Sequential(nn.LSTM(3, 4))):
        assert [torch.backends.mha.get_fastpath_enabled(), *(s.enabled for s in switches)] == [False] * 3
    assert [torch.backends.mha.get_fastpath_enabled(), *(s.enabled for s in switches)] == before


CUTS = {
    "tensor_split": lambda x: x.tensor_split(2, 1),
    "chunk": lambda x: x.chunk(2, 1),
    "half": lambda x: (x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]),
    "third": lambda x: (x[:, : x.shape[1] // 3], x[:, x.shape[1] // 3 :]),
    "but four": lambda x: (x[:, : x.shape[1] - 4], x[:, x.shape[1] - 4 :]),
}


class CutsItsWidth(nn.Module):
    """Treats the channels on both sides of a place that hangs on how many there are differently."""

    def __init__(self, cut: str, width: int) -> None:
        super().__init__()
        self.first, self.last, self.cut = nn.Conv2d(3, width, 1), nn.Conv2d(width, 2, 1), CUTS[cut]

    def forward(self, x: Tensor) -> Tensor:
        front, back = self.cut(self.first(x))
        return self.last(torch.cat([back, front.sigmoid()], 1))


@pytest.mark.parametrize("width", [7, 16, 64, 256])
@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_at_a_share_of_the_width_is_found(cut: str, width: int) -> None:
    """Random halves keep as many on either side, so that such a cut looks right; the back half alone does not.

    Equal halves are tied to one another, which is exact; everything else must stay.
    """
    model = oracle.randomise(CutsItsWidth(cut, width).double(), 0)
    inputs = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    graph = widthwise.trace(model, inputs)
    if not (cut in ("tensor_split", "chunk", "half") and width % 2 == 0):
        assert not graph.prunable
    for seed in range(4 if graph.prunable else 0):
        oracle.check_subnet(model, graph, oracle.random_keep(graph, seed), inputs, 1e-9)


def test_a_mistake_of_ours_does_not_pass_for_one_of_the_models() -> None:
    def broken(*_: object, **__: object) -> None:
        raise NameError("name 'keep' is not defined")

    module = sys.modules["widthwise.subnet.shared"]
    assert widthwise.trace(convolutions(), IMAGE).prunable
    with patch.object(module, "slice_axes", broken):  # raised in a test: as if by the model
        assert not widthwise.trace(convolutions(), IMAGE).prunable
    scope: dict[str, object] = {}
    exec(compile("def broken(*_, **__):\n    return undefined\n", str(module.__file__), "exec"), scope)
    with patch.object(module, "slice_axes", scope["broken"]), pytest.raises(NameError, match="undefined"):
        widthwise.trace(convolutions(), IMAGE)


def test_a_table_that_a_layer_reads_is_no_weight_of_it() -> None:
    """Swin v2: position biases come from an MLP over coordinates in a buffer; its hidden width can be pruned."""

    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.out, self.last = nn.Linear(2, 12), nn.Linear(12, 3), nn.Conv2d(3, 2, 1)
            self.register_buffer("table", torch.rand(16, 2))

        def forward(self, x: Tensor) -> Tensor:
            bias = self.out(self.hidden(self.table).relu()).T.reshape(1, 3, 4, 4)
            return self.last(x + bias)

    model = oracle.randomise(Positions().double(), 0)
    inputs = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    graph = widthwise.trace(model, inputs)
    assert graph.group("hidden").width == 12
    for seed in range(3):
        oracle.check_subnet(model, graph, oracle.random_keep(graph, seed), inputs, 1e-9)
