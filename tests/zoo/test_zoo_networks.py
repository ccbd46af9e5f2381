"""The zoo's networks against the published sizes, and their behaviour when channels are missing."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from widthwise.errors import ConfigError
from widthwise.zoo import MODELS, build_model
from widthwise.zoo.resnet_cifar import BasicBlock

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])

# name, arguments, input, parameters and MACs in millions as published (or exact where nobody rounds).
PUBLISHED: list[tuple[str, dict[str, Any], tuple[int, ...], float, float]] = [
    ("resnet20", {}, (3, 32, 32), 0.27, 41),
    ("resnet32", {}, (3, 32, 32), 0.46, 69),
    ("resnet56", {}, (3, 32, 32), 0.85, 125.5),
    ("resnet110", {}, (3, 32, 32), 1.73, 253),
    ("preact_resnet164", {}, (3, 32, 32), 1.70, 248),
    ("vgg16_bn", {}, (3, 32, 32), 14.72, 313),
    ("mobilenet_v1", {}, (3, 224, 224), 4.23, 569),
    ("mobilenet_v1", {"width": 0.75}, (3, 224, 224), 2.59, 325),
    ("mobilenet_v1", {"width": 0.5}, (3, 224, 224), 1.33, 149),
    ("mobilenet_v1", {"width": 0.25}, (3, 224, 224), 0.47, 41),
    ("mobilenet_v1", {"small_input": True, "num_classes": 10}, (3, 32, 32), 3.22, 46.4),
    ("digits_net", {}, (1, 8, 8), 0.044, 1.19),
]


def _macs(model: nn.Module, shape: tuple[int, ...]) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, *shape))
    return counter.get_total_flops() / 2


@pytest.mark.parametrize(("name", "options", "shape", "params", "macs"), PUBLISHED)
def test_size_is_the_published_one(
    name: str, options: dict[str, Any], shape: tuple[int, ...], params: float, macs: float
) -> None:
    model = build_model(name, **options)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(params, rel=0.015)
    assert _macs(model, shape) / 1e6 == pytest.approx(macs, rel=0.012)


def test_preact_macs_by_hand() -> None:
    """Stage by stage: pixels * (projection + 18 * (3x3 + expanding) + first and 17 reducing 1x1) and the ends."""
    total = 32 * 32 * 27 * 16 + 256 * 10
    for pixels, entry, width, before in ((1024, 16, 16, 1024), (256, 64, 32, 1024), (64, 128, 64, 256)):
        total += pixels * (entry * 4 * width + 18 * (9 * width * width + width * 4 * width) + 17 * 4 * width * width)
        total += before * entry * width
    assert _macs(build_model("preact_resnet164"), (3, 32, 32)) == total


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize(("num_classes", "in_channels"), [(7, 1), (10, 4)])
def test_every_network_takes_classes_and_image_channels(name: str, num_classes: int, in_channels: int) -> None:
    model = build_model(name, num_classes=num_classes, in_channels=in_channels)
    logits = model(torch.randn(2, in_channels, 32, 32))
    assert logits.shape == (2, num_classes)
    assert logits.isfinite().all()
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan")])
def test_mobilenet_width_must_be_positive(width: float) -> None:
    with pytest.raises(ConfigError, match="width > 0 must hold"):
        MODELS["mobilenet_v1"](width=width)


def test_cifar_resnet_keys_are_those_of_the_weight_files() -> None:
    allowed = r"(conv1\.weight|(bn1|linear)\.\w+|layer[123]\.[0-8]\.(conv[12]\.weight|bn[12]\.\w+))"
    keys = build_model("resnet56").state_dict().keys()
    assert all(re.fullmatch(allowed, key) for key in keys)
    assert len([key for key in keys if "conv" in key]) == 55


def test_option_a_shortcut_has_no_parameters_and_copies_every_second_pixel() -> None:
    block = BasicBlock(16, 32, 2).eval()
    nn.init.zeros_(block.bn2.weight)  # leaves the shortcut alone
    x = torch.rand(2, 16, 8, 8)
    expected = torch.zeros(2, 32, 4, 4)
    expected[:, 8:24] = x[:, :, ::2, ::2]
    assert torch.equal(block(x), expected)


def test_a_block_with_fewer_channels_equals_the_full_one_with_zeros() -> None:
    """Removing copied channels moves no other channel: the padding does not follow the channel count."""
    full = BasicBlock(16, 32, 2).eval()
    keep_in = torch.arange(16) % 3 != 0
    keep_out = torch.cat([torch.ones(8), keep_in, torch.ones(8)]).bool()
    small = BasicBlock(16, 32, 2).eval()
    small.conv1.weight = nn.Parameter(full.conv1.weight[:, keep_in].detach())
    small.conv2.weight = nn.Parameter(full.conv2.weight[keep_out].detach())
    small.bn2 = nn.BatchNorm2d(int(keep_out.sum())).eval()
    x = torch.rand(2, 16, 8, 8) * keep_in[:, None, None]
    torch.testing.assert_close(small(x[:, keep_in]), full(x)[:, keep_out])


def test_digits_net_learns() -> None:
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target)
    model, order = build_model("digits_net"), torch.randperm(len(labels))
    train, test = order[:1400], order[1400:]
    _train(model, images[train], labels[train], epochs=8)
    with torch.no_grad():
        accuracy = (model.eval()(images[test]).argmax(1) == labels[test]).float().mean()
    assert accuracy > 0.97


def _train(model: nn.Module, images: Tensor, labels: Tensor, *, epochs: int) -> None:
    steps = epochs * -(-len(labels) // 64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()


def _cifar10_jpeg_test(shared: Path, count: int) -> tuple[Tensor, Tensor]:
    path = shared / "data" / "cifar10-jpeg" / "test.parquet"
    rows = next(pq.ParquetFile(path).iter_batches(batch_size=count)).to_pylist()
    images = [np.array(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")) for row in rows]
    pixels = torch.from_numpy(np.stack(images)).float() / 255
    return ((pixels - MEAN) / STD).permute(0, 3, 1, 2), torch.tensor([row["label"] for row in rows])


@pytest.mark.parametrize(("name", "published"), [("resnet20", 0.883), ("resnet56", 0.899)])
def test_the_trained_files_load_and_classify(shared: Path, name: str, published: float) -> None:
    """1000 images of CIFAR-10 (JPEG): the standard error of the accuracy is about 0.01."""
    weights = shared / "models" / f"{name}-cifar10-jpeg.safetensors"
    model = build_model(name, weights=weights).eval()
    images, labels = _cifar10_jpeg_test(shared, 1000)
    with torch.no_grad():
        correct = [model(x).argmax(1) == y for x, y in zip(images.split(250), labels.split(250), strict=True)]
    assert torch.cat(correct).float().mean().item() == pytest.approx(published, abs=0.03)
