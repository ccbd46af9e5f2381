"""Data: from a name, a path, a Dataset or a DataLoader to training, validation and test splits."""

from widthwise.data.config import DataConfig
from widthwise.data.joined import JoinedSplit
from widthwise.data.lazy import DatasetSplit
from widthwise.data.loader import LoaderSplit
from widthwise.data.memory import MemorySplit
from widthwise.data.pixels import IMAGENET_MEAN, IMAGENET_STD, CropFlip, Normalisation
from widthwise.data.sources import LOADERS, DataSource, load_data
from widthwise.data.splits import Batches, ImageData, Split, at_most

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "LOADERS",
    "Batches",
    "CropFlip",
    "DataConfig",
    "DataSource",
    "DatasetSplit",
    "ImageData",
    "JoinedSplit",
    "LoaderSplit",
    "MemorySplit",
    "Normalisation",
    "Split",
    "at_most",
    "load_data",
]
