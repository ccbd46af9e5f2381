"""The cost of a part of a network: the parts of a partition add up to the whole, for every widths."""

from collections.abc import Callable
from zlib import crc32

import pytest
import torch
import torchvision
from torch import Tensor, nn

from widthwise import ChannelGraph, CostModel, trace
from widthwise.zoo.resnet_cifar import resnet20

BUILD: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet18": (lambda: torchvision.models.resnet18(), 64),
    "mobilenet_v2": (lambda: torchvision.models.mobilenet_v2(), 64),
    "resnet20": (lambda: resnet20(), 32),
}


@pytest.fixture(scope="module", params=BUILD)
def graph(request: pytest.FixtureRequest) -> ChannelGraph:
    build, size = BUILD[request.param]
    return trace(build(), torch.randn(1, 3, size, size))


def population(graph: ChannelGraph, count: int) -> Tensor:
    full = graph.full_widths
    random = (torch.rand(count, len(full)) * full).long() + 1
    return torch.cat([random.minimum(full), full[None], torch.ones_like(full)[None]])


@pytest.mark.parametrize("parts", [2, 5])
def test_parts_add_up_to_the_whole(graph: ChannelGraph, parts: int) -> None:
    """Each path goes to one part at random, as no sensible person would divide it."""
    models = [CostModel(graph, lambda path, p=p: crc32(path.encode()) % parts == p) for p in range(parts)]
    whole, widths = CostModel(graph), population(graph, 200)
    for metric in ("macs", "params"):
        assert torch.equal(sum(m.measure(metric, widths) for m in models), whole.measure(metric, widths))
        assert sum(m.full[metric] for m in models) == whole.full[metric]
    assert sorted(path for m in models for path in m.modules) == sorted(whole.modules)
    subnet = graph.subnet(widths=widths[0])
    assert sorted(item for m in models for item in m.per_layer(subnet)) == sorted(whole.per_layer(subnet))


def test_a_part_counts_what_a_reader_would_count() -> None:
    model = resnet20()
    graph = trace(model, torch.randn(1, 3, 32, 32))
    stage = CostModel(graph, lambda path: path.startswith("layer1."))
    assert stage.full["params"] == sum(p.numel() for p in model.layer1.parameters())
    assert stage.full["macs"] == 6 * 16 * 16 * 9 * 32 * 32
    assert {path.split(".")[0] for path in stage.modules} == {"layer1"}


def test_a_part_depends_on_its_groups_and_on_no_other(graph: ChannelGraph) -> None:
    part = CostModel(graph, lambda path: crc32(path.encode()) % 4 == 0)
    full = graph.full_widths[None]
    for group in range(full.shape[1]):
        less = full.clone()
        less[0, group] = 1
        changed = any(int(part.measure(m, less)[0]) != part.full[m] for m in ("macs", "params"))
        assert changed == (group in part.groups)


def test_nothing_costs_nothing(graph: ChannelGraph) -> None:
    nothing = CostModel(graph, lambda path: False)
    assert nothing.full == {"macs": 0, "params": 0}
    assert nothing.modules == nothing.groups == ()
    assert nothing.macs(population(graph, 3)).tolist() == [0] * 5
