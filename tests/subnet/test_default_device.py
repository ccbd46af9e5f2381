"""The graph lives on the CPU, whatever device new tensors are made on by default."""

import torch
from torch import nn

from widthwise import CostModel, Subnet, gated, materialize, shared, trace
from widthwise.subnet import WidthSpace


def test_everything_works_where_the_default_device_holds_no_numbers():
    convolutions = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1)
    model, x = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(64, 3)).eval(), torch.randn(1, 3, 8, 8)
    labels = torch.zeros(1, dtype=torch.int64)

    def everything() -> list[object]:
        graph = trace(model, x)
        cost, space = CostModel(graph), WidthSpace(multiple_of=2).of(graph)
        subnet = graph.subnet(widths={graph.prunable[0]: 3}, importance="random")
        runs = (
            materialize(model, graph, subnet),
            shared(model, graph, subnet),
            gated(model, graph, subnet.keep.float()),
        )
        with torch.no_grad():
            outputs = [run(x) for run in runs]
        return [
            graph.fingerprint,
            cost.full,
            cost.macs(subnet),
            cost.per_layer(subnet),
            cost.params(graph.full_widths[None]).tolist(),
            (space.size, space.table().tolist(), space.snap(graph.full_widths[None].double()).tolist()),
            graph.importance("l2").tolist(),
            graph.taylor([(x, labels)]).tolist(),
            Subnet.from_json(subnet.to_json()) == subnet == graph.subnet(subnet.keep.tolist()),
            [output.tolist() for output in outputs],
        ]

    expected = everything()
    with torch.device("meta"):
        assert everything() == expected
