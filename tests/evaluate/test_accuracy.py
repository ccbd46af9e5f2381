"""Accuracy and loss against direct computation."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from widthwise.errors import ConfigError, EmptyData, LabelOutOfRange
from widthwise.evaluate import accuracy, score
from widthwise.evaluate.modes import check_precision


class Examples:
    """A minimal split in memory."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> str:
        return str(self.images.double().sum().item())

    def batches(
        self,
        batch_size: int,
        *,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        augment: bool = False,
        shard: tuple[int, int] = (0, 1),
    ) -> list[tuple[Tensor, Tensor]]:
        assert seed is None
        assert not augment
        return list(zip(self.images.split(batch_size), self.labels.split(batch_size), strict=True))

    def subset(self, n: int, *, seed: int) -> "Examples":
        raise NotImplementedError


@pytest.fixture
def split() -> Examples:
    return Examples(torch.randn(53, 3, 8, 8), torch.randint(0, 4, (53,)))


@pytest.fixture
def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(216, 4)
    )


@pytest.mark.parametrize("batch_size", [1, 10, 53, 500])
def test_equals_direct_computation_and_restores_the_modes(split: Examples, net: nn.Module, batch_size: int) -> None:
    net.train()
    net[1].eval()
    flags = [m.training for m in net.modules()]
    found = score(net, split, batch_size=batch_size)
    assert [m.training for m in net.modules()] == flags
    logits = net.eval()(split.images)
    assert found.images == 53
    assert found.accuracy == int((logits.argmax(1) == split.labels).sum()) / 53
    assert found.loss == pytest.approx(F.cross_entropy(logits, split.labels).item(), rel=1e-5)
    assert accuracy(net, split) == found.accuracy


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_and_channels_last(split: Examples, net: nn.Module, precision: str) -> None:
    full, mixed = score(net, split), score(net, split, precision=precision, channels_last=True)
    assert mixed.loss == pytest.approx(full.loss, rel=0.02)
    assert mixed.loss != full.loss
    assert abs(mixed.accuracy - full.accuracy) < 0.1


def test_half_precision_model(split: Examples, net: nn.Module) -> None:
    full = score(net, split)
    assert score(net.bfloat16(), split).loss == pytest.approx(full.loss, rel=0.02)


def test_the_main_head_of_a_tuple_counts(split: Examples, net: nn.Module) -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.net(x), x

    assert accuracy(Heads(), split) == accuracy(net, split)


def test_bad_input(split: Examples, net: nn.Module) -> None:
    net.train()
    with pytest.raises(LabelOutOfRange, match=r"labels must lie in 0\.\.2"):
        accuracy(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), Examples(split.images, split.labels.clamp(min=1)))
    with pytest.raises(ConfigError, match="class scores of shape"):
        accuracy(nn.Conv2d(3, 4, 3), split)
    with pytest.raises(EmptyData, match="the split is empty"):
        accuracy(net, Examples(split.images[:0], split.labels[:0]))
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        accuracy(net, split, batch_size=0)
    with pytest.raises(ConfigError, match="precision must be one of fp32, bf16, fp16, but got 'int8'"):
        check_precision("int8")
    assert net.training
