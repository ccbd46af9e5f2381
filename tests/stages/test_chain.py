"""Stages found in real networks, and stages that run alone."""

import copy
from itertools import pairwise

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from widthwise import ChannelGraph, Subnet, build_model, materialize, trace
from widthwise.errors import NoStages
from widthwise.stages import Stages, find_stages
from widthwise.stages.alone import run_part
from widthwise.subnet import SuperNet
from widthwise.subnet.resize import tensors_of


def staged(name: str, size: int, stages: tuple[str, ...] = ()) -> tuple[nn.Module, ChannelGraph, Stages, Tensor]:
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None) if not name.startswith("zoo:") else build_model(name[4:])
    model.eval()
    images = torch.randn(2, 3, size, size)
    graph = trace(model, images[:1])
    return model, graph, find_stages(model, graph, images, stages), images


def random_subnet(graph: ChannelGraph, seed: int) -> Subnet:
    generator = torch.Generator().manual_seed(seed)
    widths = [int(torch.randint(1, g.width + 1, (), generator=generator)) for g in graph.prunable]
    return graph.top(torch.rand(graph.num_channels, generator=generator), torch.tensor(widths))


CHAINS = {
    "zoo:resnet20": (32, ("layer1", "layer2", "layer3")),
    "resnet50": (64, ("layer1", "layer2", "layer3", "layer4")),
    "mobilenet_v2": (64, ("features.1", "features.3", "features.6", "features.13", "features")),
    "densenet121": (64, ("features.transition1.conv", "features.transition2.conv", "features")),
    "shufflenet_v2_x0_5": (64, ("stage2", "stage3", "conv5")),
    "vgg11_bn": (32, ("features.13", "features.20", "features.27", "head")),
    "mobilenet_v3_small": (64, ("features.1", "features.3", "features.8", "features", "head")),
}
"""Input size and the stages that follow from the resolutions: four of ResNet, five of MobileNet v2, as in the paper;
at 32 pixels VGG's pool enlarges its last feature map, which is no decoder."""


@pytest.mark.parametrize("name", CHAINS)
def test_stages_follow_the_resolution_and_run_alone(name: str) -> None:
    size, expected = CHAINS[name]
    model, graph, stages, images = staged(name, size)
    if name != "densenet121":  # at 64 pixels its last two stages have one position
        assert stages.names == expected
    with torch.no_grad(), stages.features(model) as found:
        whole = model(images)
    given, results = [images, *found], [*found, whole]
    subnet = random_subnet(graph, 1)
    for index in range(len(stages)):
        with torch.no_grad():
            torch.testing.assert_close(stages.run(index, SuperNet(model, graph), given[index]), results[index])
            kept = stages.run(index, SuperNet(model, graph), given[index], subnet)
        small = materialize(model, graph, stages.inside(index, subnet))
        site = stages.stages[index].enters
        fed = given[index]
        if site is not None:
            keep = torch.cat([stages.inside(index, subnet).keep, torch.ones(1, dtype=torch.bool)])
            fed = fed.index_select(site[0], keep[site[1]].nonzero()[:, 0])
        with torch.no_grad():
            torch.testing.assert_close(kept, run_part(small, stages.stages[index].part, fed))
        left = stages.left(index, subnet)
        leaves = stages.stages[index].leaves
        if left is not None and leaves is not None:
            assert kept.shape[leaves[0]] == len(left) < results[index].shape[leaves[0]]


def test_every_prunable_group_is_owned_and_what_merely_enters_is_not() -> None:
    _, graph, stages, _ = staged("resnet50", 64)
    assert set().union(*stages.own) == set(range(len(graph.prunable)))
    names = [{graph.prunable[g].name for g in own} for own in stages.own]
    assert not names[0] & names[1]  # layer1's result is read, but not made, by layer2
    assert "layer1.0.conv3" in names[0] or "layer1.0.downsample.0" in names[0]


def test_a_group_of_zero_padded_shortcuts_is_owned_by_several_stages() -> None:
    _, graph, stages, _ = staged("zoo:resnet20", 32)
    stream = next(i for i, g in enumerate(graph.prunable) if g.name == "conv1")
    assert [stream in own for own in stages.own] == [True, True, True]


def test_gradients_of_a_stage_alone_land_in_the_parent_and_nowhere_else() -> None:
    model, graph, stages, images = staged("zoo:resnet20", 32)
    with torch.no_grad(), stages.features(model) as found:
        model(images)
    stages.run(1, SuperNet(model, graph), found[0], random_subnet(graph, 2)).sum().backward()
    touched = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert touched
    assert all(name.startswith("layer2.") for name in touched)


def test_a_run_leaves_the_model_as_it_was_also_after_an_error() -> None:
    model, graph, stages, images = staged("mobilenet_v2", 64)
    before = copy.deepcopy(model.state_dict())
    model.train()
    with torch.no_grad(), stages.features(model) as found:
        model.eval()(images)
    model.train()
    with torch.no_grad():
        stages.run(2, SuperNet(model, graph), found[1], random_subnet(graph, 3))
    with pytest.raises(RuntimeError):
        stages.run(2, SuperNet(model, graph), found[1][:, :2])
    assert all(m.training for m in model.modules())
    assert not any("forward" in vars(m) for m in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(t, before[n]) for n, t in tensors_of(model).items())


def test_named_stages() -> None:
    model, graph, _, images = staged("resnet18", 64)
    stages = find_stages(model, graph, images, ("layer2", "layer4"))
    assert stages.names == ("layer2", "layer4")
    assert len(stages.own[0]) + len(stages.own[1]) == len(graph.prunable)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("layer2.0.conv1",), "there is a shortcut around it|depend on its result alone"),
        (("nothing",), "is none of the model's"),
        (("layer3", "layer2"), "in the order of the forward pass"),
    ],
)
def test_stages_that_cannot_be_are_refused(names: tuple[str, ...], why: str) -> None:
    model, graph, _, images = staged("resnet18", 64)
    with pytest.raises(NoStages, match=why):
        find_stages(model, graph, images, names)


class InPlace(nn.Module):
    """Its second part changes what the first returned, and its end asks for the shape of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=1))
        self.b = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 5, 3, padding=1))
        self.out = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-1]
        x = self.a(x)
        x.relu_()
        x = F.dropout(self.b(x), 0.5, self.training)
        return self.out(x.mean((2, 3))) * size


def test_features_are_kept_from_changes_in_place() -> None:
    torch.manual_seed(0)
    model, images = InPlace().eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model, images)
    stages = find_stages(model, graph, images)
    assert stages.names == ("a", "b")
    with torch.no_grad(), stages.features(model) as found:
        model(images)
    assert bool((found[0] < 0).any())
    before = found[0].clone()
    with torch.no_grad():
        first, second = (stages.run(1, SuperNet(model, graph), found[0]) for _ in range(2))
    assert torch.equal(found[0], before)
    assert torch.equal(first, second)


class Skips(nn.Module):
    """The second block reads the input again: no place to cut in front of it."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 8, 3, padding=1)
        self.c = nn.Conv2d(3, 8, 1)
        self.out = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x).relu())
        logits: Tensor = self.out((y + self.c(x)).relu().mean((2, 3)))
        return logits


def test_no_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = Skips().eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model, images)
    runs: list[Tensor] = []
    forward = model.a.forward
    monkeypatch.setattr(model.a, "forward", lambda x: runs.append(x) or forward(x))
    with pytest.raises(NoStages, match="one feature map alone"):
        find_stages(model, graph, images)
    assert len(runs) == 2, "one pass for the record, one for all candidates"


class Early(nn.Module):
    """Returns its first feature map beside its scores, one of which is never chosen."""

    def __init__(self, early: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.c, self.d = nn.Conv2d(8, 6, 3, 2, 1), nn.Conv2d(6, 7, 3, padding=1)
        self.out, self.early = nn.Linear(7, 4), early

    def forward(self, x: Tensor) -> object:
        first = self.a(x).relu()
        scores = self.out(self.d(self.c(self.b(first).relu()).relu()).relu().mean((2, 3)))
        scores = scores.masked_fill(torch.arange(4) == 1, -float("inf"))
        return (scores, first) if self.early else scores


def test_an_output_from_in_front_of_a_cut_is_infinitely_different_and_equal_infinite_scores_are_not() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    for early in (False, True):
        model = Early(early).eval()
        graph = trace(model, images)
        if early:
            with pytest.raises(NoStages, match="the outputs differ by inf"):
                find_stages(model, graph, images, ("b",))
        else:
            assert find_stages(model, graph, images, ("b", "d")).names == ("b", "d")


class Listens(nn.Module):
    """Looks up a bias when it is told its mode, and drops it in training, as LeViT's attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.bias, self.found = nn.Parameter(torch.randn(())), None

    def train(self, mode: bool = True) -> "Listens":
        super().train(mode)
        self.found = None if mode else self.bias.detach().clone()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.bias if self.training else self.found)


def test_modules_that_listen_for_the_mode_are_told() -> None:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Conv2d(c, 8, 3, padding=1), nn.Conv2d(8, 6, 3, 2, 1), Listens()) for c in (3, 6)]
    model, images = nn.Sequential(*blocks).eval(), torch.randn(2, 3, 8, 8)
    graph = trace(model, images)
    nn.init.ones_(blocks[0][2].bias)
    for mode in (True, False):
        model.train(mode)
        assert find_stages(model, graph, images, ("0", "1")).names == ("0", "1")
        assert all(module.training is mode for module in model.modules())
    assert float(blocks[0][2].found) == 1.0


class UNet(nn.Module):
    """An encoder whose features are joined to the decoder's."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.d1, self.d2, self.mid = self.block(3, 6, count), self.block(6, 8, count), self.block(8, 10, 2)
        self.u2, self.u1 = self.block(18, 8, count), self.block(14, 6, count)
        self.out = nn.Conv2d(6, 4, 1)

    @staticmethod
    def block(inputs: int, outputs: int, count: int) -> nn.Module:
        widths = [inputs, *[outputs] * count]
        layers = [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)]
        return nn.Sequential(*layers, nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        a = self.d1(x)
        b = self.d2(F.max_pool2d(a, 2))
        c = self.mid(F.max_pool2d(b, 2))
        d = self.u2(torch.cat([F.interpolate(c, scale_factor=2.0), b], 1))
        e = self.u1(torch.cat([F.interpolate(d, scale_factor=2.0), a], 1))
        scores: Tensor = self.out(e).mean((2, 3))
        return scores


class Upwards(nn.Module):
    """One feature map goes up again, by a module that has no channels, to a convolution that has, or to none."""

    def __init__(self, decodes: bool) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=1))
        self.two = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 5, 3, padding=1))
        self.up = nn.Upsample(scale_factor=4.0)
        self.last = nn.Conv2d(5, 6, 3, padding=1) if decodes else nn.Identity()
        self.out = nn.Linear(6 if decodes else 5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.two(self.one(x)))
        scores: Tensor = self.out((self.last(x) * x.mean()).mean((2, 3)))
        return scores


def test_a_larger_resolution_at_the_end_matters_where_something_can_be_pruned_there() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    model = Upwards(decodes=False).eval()
    assert find_stages(model, trace(model, images), images).names == ("one", "two")
    model = Upwards(decodes=True).eval()
    with pytest.raises(NoStages, match="goes on to 'last'"):
        find_stages(model, trace(model, images), images)


@pytest.mark.parametrize("convolutions", [1, 2])
def test_an_encoder_joined_to_a_decoder_is_no_chain(convolutions: int) -> None:
    model, images = UNet(convolutions).eval(), torch.randn(1, 3, 32, 32)
    with pytest.raises(NoStages, match=r"goes on to|no such place"):
        find_stages(model, trace(model, images), images)
