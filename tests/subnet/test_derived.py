"""Modules that keep what they derive from their parameters: attention biases in evaluation mode, masks, weight norm."""

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import widthwise


def test_shared_subnetworks_derive_attention_biases_again() -> None:
    """EfficientFormer looks its biases up once, when the mode changes; a slice of the heads needs fewer."""
    torch.manual_seed(0)
    model = timm.create_model("efficientformer_l1", pretrained=False, num_classes=4).eval()
    inputs = torch.randn(1, 3, 224, 224)
    graph = widthwise.trace(model, inputs)
    heads = [group for group in graph.prunable if "attn" in group.name or "qkv" in group.name]
    subnet = graph.subnet(widths={group: max(1, group.width // 2) for group in graph.prunable})
    with torch.no_grad():
        before = model(inputs)
        expected = widthwise.materialize(model, graph, subnet)(inputs)
        torch.testing.assert_close(widthwise.shared(model, graph, subnet)(inputs), expected)
        torch.testing.assert_close(model(inputs), before)
    assert heads


class Masked(nn.Module):
    """Its own ``weight`` is computed before each forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
        prune.random_unstructured(self.first, "weight", 0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu())


@pytest.mark.parametrize("run_before", [False, True])
def test_shared_subnetworks_of_masked_weights(run_before: bool) -> None:
    torch.manual_seed(0)
    model, inputs = Masked().eval(), torch.randn(2, 3, 9, 9)
    before = model(inputs)  # with gradients: the masked weight has a history now
    graph = widthwise.trace(model, inputs)
    subnet = graph.subnet(widths={group: group.width // 2 for group in graph.prunable})
    if run_before:
        model(inputs)
    torch.testing.assert_close(
        widthwise.shared(model, graph, subnet)(inputs), widthwise.materialize(model, graph, subnet)(inputs)
    )
    torch.testing.assert_close(model(inputs), before)
