"""Latency: turns, modes, and what is timed, by a clock that only networks move."""

import pytest
import torch
from torch import Tensor, nn

from widthwise.evaluate import latencies

Call = tuple[str, bool, bool]


class Clock:
    """Stands still but for what passes take."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("widthwise.evaluate.latency.perf_counter", made)
    return made


class Timed(nn.Module):
    """Each pass takes as long as is said, the last one's time from then on; writes down how it was asked."""

    def __init__(self, name: str, clock: Clock, seconds: list[float], calls: list[Call]) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.name, self.clock, self.seconds, self.calls = name, clock, list(seconds), calls

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append((self.name, self.training, torch.is_grad_enabled()))
        self.clock.now += self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]
        return x * self.scale


def test_networks_take_turns_in_evaluation_mode_and_are_left_as_they_were(clock: Clock) -> None:
    calls: list[Call] = []
    slow, fast = Timed("slow", clock, [0.02], calls), Timed("fast", clock, [0.005], calls).eval()
    assert latencies([slow, fast], torch.ones(1, 2), repeats=2, warmup=1) == pytest.approx([20, 5])
    assert calls == [("slow", False, False), ("fast", False, False)] * 3
    assert (slow.training, fast.training) == (True, False)


def test_the_median_without_the_first_passes(clock: Clock) -> None:
    model = Timed("a", clock, [9, 9, 1, 2, 7], [])
    assert latencies([model], torch.ones(1), repeats=3, warmup=2) == pytest.approx([2000])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_as_many_times_as_networks(count: int) -> None:
    assert len(latencies([nn.Linear(2, 2)] * count, torch.ones(1, 2), repeats=1)) == count
