"""Augmentation and normalisation, against torchvision and against plain slicing."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from widthwise.data.pixels import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    CropFlip,
    Normalisation,
    channel_statistics,
    to_float,
)
from widthwise.errors import ConfigError


def _images(n: int = 64, size: int = 12) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, size, size + 2), dtype=torch.uint8)


def test_every_crop_is_the_drawn_window_of_the_padded_image() -> None:
    images = _images()
    augmentation = CropFlip(padding=3, flip=True)
    draws = augmentation.draw(len(images), None)
    result = augmentation.apply(images, draws)
    assert result.dtype == torch.uint8
    assert result.is_contiguous()
    padded = F.pad(images, (3, 3, 3, 3))
    for image, got, (row, column, mirrored) in zip(padded, result, draws.tolist(), strict=True):
        window = image[:, row : row + 12, column : column + 14]
        assert torch.equal(got, window.flip(-1) if mirrored else window)


def test_draws_cover_all_places_evenly() -> None:
    draws = CropFlip(padding=1, flip=True).draw(18000, torch.Generator().manual_seed(0))
    counts = torch.bincount(draws[:, 0] * 6 + draws[:, 1] * 2 + draws[:, 2])
    assert len(counts) == 18
    assert (counts - 1000).abs().max() < 160  # five standard deviations
    assert CropFlip(padding=1, flip=False).draw(99, None)[:, 2].sum() == 0


def test_padding_scales_with_the_image() -> None:
    assert [CropFlip.usual(height, flip=True).padding for height in (4, 8, 32, 64)] == [1, 1, 4, 8]


def test_normalisation_equals_torchvision() -> None:
    images = _images()
    oracle = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    got = to_float(images, Normalisation(mean=IMAGENET_MEAN, std=IMAGENET_STD))
    torch.testing.assert_close(got, oracle(images))


def test_floats_keep_their_scale_and_are_not_changed_in_place() -> None:
    images = torch.randn(4, 3, 5, 5)
    before = images.clone()
    assert torch.equal(to_float(images, None), before)
    to_float(images, Normalisation(mean=(1.0,), std=(2.0,)))
    assert torch.equal(images, before)


def test_channel_statistics_normalise_to_zero_and_one() -> None:
    images = _images()
    normalised = to_float(images, channel_statistics(images))
    torch.testing.assert_close(normalised.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalised.std((0, 2, 3), correction=0), torch.ones(3))


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.0,)), ((0.5,), (0.5, 0.5)), ((), ()), ((float("nan"),), (1.0,))])
def test_impossible_normalisations_are_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="mean and std"):
        Normalisation(mean=mean, std=std)


def test_wrong_number_of_channels_is_refused() -> None:
    with pytest.raises(ConfigError, match="4 channel"):
        Normalisation(mean=IMAGENET_MEAN, std=IMAGENET_STD).check_channels(4)
