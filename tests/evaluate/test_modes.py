"""Evaluation mode for a moment, also for modules that do something of their own when the mode changes."""

import pytest
from torch import Tensor, nn

from widthwise.evaluate.modes import evaluating


class Listens(nn.Module):
    """Looks its bias up when it is put into evaluation mode, as LeViT does; forgets it in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Linear(1, 1)
        self.found: Tensor | None = None

    def train(self, mode: bool = True) -> "Listens":
        super().train(mode)
        self.found = None if mode else self.bias.weight.detach().clone()
        return self


class Frozen(nn.BatchNorm2d):
    """Never trains."""

    def train(self, mode: bool = True) -> "Frozen":
        super().train(False)
        return self


@pytest.mark.parametrize("mode", [True, False])
def test_modules_that_listen_are_told(mode: bool) -> None:
    listener = Listens()
    model = nn.Sequential(nn.Dropout(), listener).train(mode)
    with evaluating(model):
        assert listener.found is not None
        assert not any(module.training for module in model.modules())
    assert (listener.found is None) == mode
    assert all(module.training == mode for module in model.modules())


def test_every_module_gets_its_own_mode_back() -> None:
    model = nn.Sequential(nn.Dropout(), Frozen(3), nn.BatchNorm2d(3)).train()
    model[2].eval()
    model[1].training = True  # set by hand, against its own rule
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model] == [True, True, False]
