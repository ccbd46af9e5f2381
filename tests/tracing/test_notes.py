"""What a trace could not look at is said."""

import torch
from torch import Tensor, nn

from widthwise import trace


class WithHead(nn.Module):
    """A head that only training uses, and that needs more than one value per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 6, 3)
        self.main = nn.Linear(6, 4)
        self.head = nn.Sequential(nn.Conv2d(6, 5, 7), nn.Flatten(), nn.Linear(5, 4))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.body(x)
        y = self.main(x.mean((2, 3)))
        return (y, self.head(x)) if self.training else (y,)


def test_heads_that_the_example_can_train_are_followed():
    graph = trace(WithHead(), torch.randn(1, 3, 9, 9))
    assert graph.notes == ()
    assert [g.name for g in graph.prunable] == ["body", "head.0"]
    readers = {m.tensor for m in graph.prunable[0].members if m.role == "in"}
    assert readers == {"main.weight", "head.0.weight"}


def test_heads_that_it_cannot_are_named_in_a_note():
    graph = trace(WithHead(), torch.randn(1, 3, 6, 6))
    assert len(graph.notes) == 1
    assert "auxiliary heads" in graph.notes[0]
    assert "Kernel size can't be greater" in graph.notes[0]
