"""Weights that are computed before each forward: traced, never wrong."""

import pytest
import torch
from torch import nn

from widthwise import materialize, trace


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("wrap", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
def test_weight_norm_is_traced_and_the_copy_computes_the_same(wrap):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        wrap(nn.Conv2d(8, 6, 3, padding=1)),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3, padding=1),
        nn.Flatten(),
        nn.Linear(5 * 64, 4),
    ).eval()
    x = torch.randn(2, 3, 8, 8)
    graph = trace(model, x)
    assert [g.width for g in graph.prunable] == [5]  # behind the normalised weights; those depend on all their inputs
    widths = {graph.prunable[0]: 3}
    with torch.no_grad():
        assert materialize(model, graph, graph.subnet(widths=widths))(x).shape == (2, 4)
        assert torch.equal(materialize(model, graph, graph.subnet())(x), model(x))
