"""The settings of `load_data`."""

from dataclasses import dataclass
from pathlib import Path

from widthwise.data.pixels import Normalisation
from widthwise.errors import ConfigError

DEFAULT_ROOT = "~/.cache/widthwise"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How a source becomes an ImageData. A setting that a source has no use for is ignored."""

    val_fraction: float | None = None
    """Share of the training part held out where the source has no validation; None: 0.1 (digits: 0.25). With a number,
    the validation part of a source that has no test part (ImageNet) is the test part."""
    seed: int = 0
    """Decides which images are held out. The test part never depends on it."""
    root: str | Path = DEFAULT_ROOT
    """Where downloads are kept."""
    image_size: int = 224
    """Height and width, in pixels, that big images (or images of several sizes) are cropped to."""
    workers: int = 0
    """Processes that decode big images; 0 is the main one."""
    mean: tuple[float, ...] | None = None
    """Per channel, for images in [0, 1]; None: see `load_data`."""
    std: tuple[float, ...] | None = None
    """Set together with `mean`."""
    flip: bool | None = None
    """Whether `augment` mirrors half of the images; None: colour yes, grey (digits, letters) no."""

    def __post_init__(self) -> None:
        if self.val_fraction is not None and not 0 < self.val_fraction < 1:
            raise ConfigError(f"0 < val_fraction < 1 must hold, but got {self.val_fraction}; 0.1 holds out a tenth")
        if self.image_size < 1 or self.workers < 0:
            raise ConfigError(
                f"image_size must be 1 or more and workers 0 or more, but got image_size={self.image_size}, "
                f"workers={self.workers}"
            )
        if (self.mean is None) != (self.std is None):
            raise ConfigError(f"mean and std are set together, but got mean={self.mean}, std={self.std}")
        _ = self.normalisation

    @property
    def normalisation(self) -> Normalisation | None:
        """What `mean` and `std` ask for; None where they are not set."""
        if self.mean is None or self.std is None:
            return None
        return Normalisation(mean=self.mean, std=self.std)
