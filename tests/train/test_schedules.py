"""Learning rates against hand-computed values and torch's own scheduler."""

import warnings

import pytest
import torch

from widthwise.train import TrainConfig
from widthwise.train.schedules import learning_rate


def rates(config: TrainConfig, total: int, per_epoch: int = 10) -> list[float]:
    return [learning_rate(config, step, total, per_epoch) for step in range(total)]


def test_cosine_by_hand() -> None:
    found = rates(TrainConfig(schedule="cosine", lr=0.4), 4)
    assert found == pytest.approx([0.4, 0.4 * (1 + 0.5**0.5) / 2, 0.2, 0.4 * (1 - 0.5**0.5) / 2])


def test_warmup_then_cosine_over_the_rest() -> None:
    found = rates(TrainConfig(schedule="cosine", lr=1.0, warmup_epochs=0.4), 8)
    assert found == pytest.approx([0.25, 0.5, 0.75, 1, 1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2])


def test_constant() -> None:
    assert rates(TrainConfig(schedule="constant", lr=0.3, warmup_epochs=0.2), 4) == [0.15, 0.3, 0.3, 0.3]


def test_step() -> None:
    config = TrainConfig(schedule="step", lr=1.0, step_milestones=(0.5, 0.8), step_gamma=0.1)
    assert rates(config, 10) == pytest.approx([1] * 5 + [0.1] * 3 + [0.01] * 2)


@pytest.mark.parametrize("total", [20, 133])
def test_one_cycle_is_torch_s(total: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=total)
        want = []
        for step in range(total):
            want.append(scheduler.get_last_lr()[0])
            if step + 1 < total:
                scheduler.step()
    assert rates(TrainConfig(schedule="one_cycle", lr=0.5), total) == pytest.approx(want)


@pytest.mark.parametrize("schedule", ["cosine", "step", "one_cycle", "constant"])
@pytest.mark.parametrize("total", [1, 2, 3, 7])
def test_short_trainings_have_rates_above_zero(schedule: str, total: int) -> None:
    warmup = 0.0 if schedule == "one_cycle" else 5.0
    for rate in rates(TrainConfig(schedule=schedule, lr=0.2, warmup_epochs=warmup), total):
        assert 0 < rate <= 0.2
