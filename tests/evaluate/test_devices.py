"""Which devices there are, and what a wrong name is told."""

import pytest
import torch

from widthwise import Budget
from widthwise.errors import ConfigError
from widthwise.evaluate.devices import device_named, search_device
from widthwise.methods import FNNP
from widthwise.recipes import Recipe
from widthwise.train import TrainConfig


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch says where there are two of CUDA's."""
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)


def test_the_accelerator_judges_and_is_known_by_number_too(two_gpus: None) -> None:
    assert search_device() == torch.device("cuda")
    for name in ("cpu", "cuda", "cuda:0", "cuda:1"):
        assert device_named(name) == torch.device(name)


@pytest.mark.parametrize("name", ["cuda:2", "mps", "gpu", ""])
def test_a_name_that_is_not_there(two_gpus: None, name: str) -> None:
    with pytest.raises(ConfigError, match=r"\(cpu, cuda, cuda:0, cuda:1\), but got '" + name):
        device_named(name)


@pytest.mark.gpu
def test_a_run_on_the_accelerator_measures_latency_there() -> None:
    recipe = Recipe(
        model="digits_net",
        data="digits",
        budget=Budget(latency=0.9),
        method=FNNP(candidates=3),
        train=TrainConfig(epochs=1),
        finetune=TrainConfig(epochs=1),
        device=search_device().type,
    )
    result = recipe.run(progress=False)
    assert {tensor.device.type for tensor in result.model.state_dict().values()} == {recipe.device}
    assert result.metrics["after"].latency_ms.keys() == result.metrics["before"].latency_ms.keys() == {1, 64}
