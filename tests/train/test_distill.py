"""The loss against its formulas."""

import pytest
import torch
import torch.nn.functional as F

from widthwise.errors import ConfigError
from widthwise.train import TrainConfig
from widthwise.train.distill import distillation, objective

S, T = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.randn(6, 4) * 3
LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_formula(temperature: float) -> None:
    p, q = (T / temperature).softmax(1), (S / temperature).softmax(1)
    want = temperature**2 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(distillation(S, T, temperature), want)
    assert distillation(T, T, temperature).item() == pytest.approx(0, abs=1e-6)


def test_label_smoothing_formula() -> None:
    target = F.one_hot(LABELS, 4) * 0.8 + 0.2 / 4
    want = -(target * S.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(objective(TrainConfig(label_smoothing=0.2), S, LABELS, None), want)


def test_both_together() -> None:
    config = TrainConfig(distill_weight=0.3, distill_temperature=2.0)
    want = 0.7 * F.cross_entropy(S, LABELS) + 0.3 * distillation(S, T, 2.0)
    torch.testing.assert_close(objective(config, S, LABELS, T), want)


def test_other_classes() -> None:
    with pytest.raises(ConfigError, match="same classes, but got 3 and 4"):
        objective(TrainConfig(distill_weight=0.3), S, LABELS, T[:, :3])
