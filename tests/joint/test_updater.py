"""Writing a sub-network back into its parent."""

import copy

import torch

from widthwise import build_model, materialize, trace
from widthwise.joint.updater import put_back


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
    rest = graph.subnet(~subnet.keep)
    other = {name: tensor for name, tensor in materialize(model, graph, rest).named_parameters() if tensor.ndim == 1}
    parent = copy.deepcopy(model)
    parent.load_state_dict(before)
    expected = dict(materialize(parent, graph, rest).named_parameters())
    for name, tensor in other.items():
        if (name, 0) in graph.roles and bool((graph.axes[name, 0] >= 0).all()):
            assert torch.equal(tensor, expected[name])
