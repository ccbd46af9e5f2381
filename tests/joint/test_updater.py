"""Writing a sub-network back into its parent."""

import copy

import torch

from widthwise import build_model, materialize, trace
from widthwise.joint.updater import put_back
from widthwise.subnet.materialize import kept_positions
from widthwise.subnet.resize import tensors_of


def test_the_part_is_the_sub_networks_and_the_rest_as_it_was() -> None:
    torch.manual_seed(0)
    model = build_model("torchvision:mobilenet_v3_small", num_classes=4).eval()
    graph = trace(model, torch.randn(1, 3, 32, 32))
    subnet = graph.subnet(widths={g: max(1, g.width // 2) for g in graph.prunable}, importance="random")
    before = copy.deepcopy(model.state_dict())
    put_back(model, graph, subnet, materialize(model, graph, subnet))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    small = materialize(model, graph, subnet)
    for tensor in small.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape) if tensor.is_floating_point() else torch.full_like(tensor, 7))
    put_back(model, graph, subnet, small)
    again = materialize(model, graph, subnet)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in small.state_dict().items())
    kept = kept_positions(graph, subnet)
    for name, tensor in tensors_of(model).items():
        mask = torch.ones(tensor.shape, dtype=torch.bool)
        for dim, size in enumerate(tensor.shape):
            along = torch.zeros(size, dtype=torch.bool)
            along[kept.get((name, dim), torch.arange(size))] = True
            mask &= along.reshape([-1 if d == dim else 1 for d in range(tensor.ndim)])
        assert torch.equal(tensor[~mask], before[name][~mask]), name
