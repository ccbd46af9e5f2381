"""Each setting out of range is refused with its name and value."""

import pytest

from widthwise.errors import ConfigError
from widthwise.train import TrainConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": -1}, "epochs must be at least 0"),
        ({"max_steps": -1}, "max_steps must be at least 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"seed": -1}, "seed"),
        ({"lr": 0.0}, "lr must be above 0 and finite, but got 0.0"),
        ({"lr": float("nan")}, "lr must be above 0 and finite, but got nan"),
        ({"lr": float("inf")}, "lr must be above 0"),
        ({"weight_decay": float("nan")}, "weight_decay"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\)"),
        ({"momentum": 0.0}, "nesterov needs momentum"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"distill_weight": 1.1}, r"distill_weight must lie in \[0, 1\], but got 1.1"),
        ({"distill_temperature": 0.0}, "distill_temperature"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"warmup_epochs": -0.1}, "warmup_epochs"),
        ({"schedule": "one_cycle", "warmup_epochs": 1.0}, "brings its own warm-up"),
        ({"step_milestones": (0.5, 0.5)}, "increasing fractions"),
        ({"step_milestones": (30.0, 60.0)}, "increasing fractions"),
        ({"step_gamma": 0.0}, "step_gamma"),
    ],
)
def test_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**settings)


def test_accepted() -> None:
    TrainConfig()
    TrainConfig(epochs=0, distill_weight=1.0, momentum=0.0, nesterov=False, step_milestones=())
