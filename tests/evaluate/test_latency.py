"""Latency: turns, modes, and what is timed, by a clock that only networks move."""

import pytest
import torch
from torch import Tensor, nn

from widthwise.evaluate import latencies, module_times

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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_networks_of_other_precision_get_images_of_theirs(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(2, 2)).to(dtype)
    assert latencies([model], torch.ones(1, 2), repeats=1)[0] > 0
    assert module_times(model, torch.ones(1, 2), ["0"], repeats=1)["0"] > 0


class Chain(nn.Module):
    """Works a little by itself before, between and after what it calls; one module twice."""

    def __init__(self, clock: Clock, calls: list[Call]) -> None:
        super().__init__()
        self.first, self.second = Timed("first", clock, [3.0], calls), Timed("second", clock, [5.0], calls)
        self.clock = clock

    def forward(self, x: Tensor) -> Tensor:
        self.clock.now += 100.0
        x = self.first(x)
        self.clock.now += 10.0
        x = self.first(self.second(x))
        self.clock.now += 1.0
        return x


def test_the_times_of_modules_add_up_to_the_pass(clock: Clock) -> None:
    calls: list[Call] = []
    model = Chain(clock, calls).train()
    times = module_times(model, torch.ones(2, 1), ["second", "first"], repeats=3, warmup=1)
    assert times == pytest.approx({"first": 100 + 3 + 10 + 3 + 1, "second": 5})
    assert list(times) == ["first", "second"]
    assert len(calls) == 3 * 4 * 2
    assert not any(training or grad for _, training, grad in calls)
    assert model.training
    assert module_times(model, torch.ones(2, 1), ["second"]) == pytest.approx({"second": 122})


def test_nothing_is_left_on_a_model_that_fails(clock: Clock) -> None:
    model = Chain(clock, [])
    del model.second
    with pytest.raises(AttributeError):
        module_times(model, torch.ones(2, 1), ["first"])
    assert not model.first._forward_pre_hooks


class Lazy(nn.Module):
    """Calls a module in the first pass only, and watching it takes time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.once, self.always = Timed("once", clock, [7.0], []), Timed("always", clock, [2.0], [])
        self.known: Tensor | None = None
        self.clock = clock

    def forward(self, x: Tensor) -> Tensor:
        self.clock.now += 50.0 * len(self.always._forward_pre_hooks)
        self.known = self.once(x) if self.known is None else self.known
        return self.always(x) + self.known


def test_what_is_called_once_and_what_watching_costs_do_not_count(clock: Clock) -> None:
    assert module_times(Lazy(clock), torch.ones(2, 1), ["once", "always"]) == pytest.approx({"always": 2})
