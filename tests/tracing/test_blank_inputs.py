"""Examples that hide what lies behind them: bytes and masks are drawn anew where the forward takes others."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import widthwise
from widthwise.tracing.probe import as_example


class Net(nn.Module):
    """Two convolutions without biases, so that zeros stay zeros; the forward is a function of the test's."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.words = nn.Embedding(3, 8)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


def depends(s: Any, x: Tensor) -> Tensor:
    """Something else in a network of another width."""
    y = s.a(x).relu()
    z: Tensor = s.b(y / y.shape[1]).mean((2, 3))
    return z


BYTES = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
IMAGE = torch.rand(1, 3, 8, 8)
MASK = torch.ones(1, 8, 8, dtype=torch.bool)


def prunable(function: Callable[..., Any], *inputs: Tensor) -> list[str]:
    before = [x.clone() for x in inputs]
    found = [g.name for g in widthwise.trace(Net(function), inputs).prunable]
    assert all(torch.equal(a, b) for a, b in zip(before, inputs, strict=True))
    return found


def test_a_network_that_depends_on_its_width_does_not_hide_behind_a_blank_image() -> None:
    assert prunable(lambda s, x: depends(s, x.float() / 255), BYTES) == []
    assert prunable(lambda s, x: depends(s, x.float()), torch.zeros(1, 3, 8, 8, dtype=torch.bool)) == []
    assert prunable(lambda s, x, m: depends(s, x.masked_fill(m[:, None], 0)), IMAGE, MASK) == []
    assert prunable(lambda s, x: s.b(s.a(x.float() / 255).relu()).mean((2, 3)), BYTES) == ["a"]


def test_bytes_and_masks_that_the_forward_does_not_take_otherwise_stay() -> None:
    def looks_up(s: Any, x: Tensor, labels: Tensor) -> Tensor:
        z: Tensor = s.b(s.a(x).relu()) + s.words(labels.long()).movedim(-1, 1)
        return z

    assert prunable(looks_up, IMAGE, BYTES[:, 0]) == ["a"]

    def insists(s: Any, x: Tensor, mask: Tensor) -> Tensor:
        assert bool(mask.all())
        return depends(s, x)

    assert prunable(insists, IMAGE, MASK) == []


def test_masks_that_say_how_much_there_is_to_compute_stay() -> None:
    """The cost is that of the example."""

    def selects(s: Any, x: Tensor, mask: Tensor) -> Tensor:
        y: Tensor = s.b(s.a(x)).movedim(1, -1)[mask] @ s.words.weight.T
        return y.mean(0)

    graph = widthwise.trace(Net(selects), (IMAGE, MASK))
    assert widthwise.CostModel(graph).macs(graph.subnet()) == 64 * (9 * 3 * 8 + 9 * 8 * 8 + 8 * 3)


def test_what_is_drawn_lies_in_the_range_of_the_example() -> None:
    given = {
        "image": torch.randint(3, 9, (2, 3, 8, 8), dtype=torch.uint8),
        "blank": torch.full((2, 3, 8, 8), 7, dtype=torch.uint8),
        "byte": torch.tensor(7, dtype=torch.uint8),
        "mask": MASK,
        "causal": torch.ones(4, 4, dtype=torch.bool).tril(),
        "flag": torch.tensor(True),
        "indices": torch.zeros(9, dtype=torch.int64),
        "nothing": BYTES[:0],
    }
    example = as_example(given)
    assert example.kinds() == {"bytes", "masks"}
    drawn = example.noise(example.kinds()).kwargs
    same = {name for name, tensor in given.items() if torch.equal(tensor, drawn[name])}
    assert same == {"byte", "causal", "flag", "indices", "nothing"}
    assert all(drawn[name].dtype == tensor.dtype for name, tensor in given.items())
    assert sorted(drawn["image"].unique().tolist()) == [3, 4, 5, 6, 7, 8]
    assert drawn["blank"].min() < 30
    assert drawn["blank"].max() > 225
    assert 0.2 < drawn["mask"].float().mean() < 0.8


@pytest.mark.parametrize("kinds", [set(), {"numbers"}, {"bytes"}])
def test_only_what_is_named_is_drawn(kinds: set[Any]) -> None:
    drawn = as_example((IMAGE, BYTES, MASK)).noise(kinds).args
    changed = [not torch.equal(a, b) for a, b in zip((IMAGE, BYTES, MASK), drawn, strict=True)]
    assert changed == ["numbers" in kinds, "bytes" in kinds, False]
