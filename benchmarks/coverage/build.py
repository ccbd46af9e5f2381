"""A network with random weights, and one example input."""

import inspect
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import nn
from torchvision.models import get_model, get_model_builder

from benchmarks.coverage.registry import Entry

__all__ = ["Built", "build"]

_SHAPES: dict[str, tuple[int, ...]] = {
    "classification": (3, 224, 224),
    "segmentation": (3, 224, 224),
    "detection": (3, 320, 320),
    "video": (3, 16, 112, 112),
}
"""Example inputs by kind; timm's networks say themselves what they want."""

_OTHER_SHAPES: dict[str, tuple[int, ...]] = {
    "inception_v3": (3, 299, 299),
    "mvit_v1_b": (3, 16, 224, 224),
    "mvit_v2_s": (3, 16, 224, 224),
    "s3d": (3, 16, 224, 224),
}
"""Networks that run on no other size."""

_UNINITIALISED = {"googlenet", "inception_v3"}
"""Builders whose default initialisation takes a minute and warns; the layers' own is used."""


@dataclass(frozen=True, eq=False)
class Built:
    """A network in evaluation mode and its arguments."""

    model: nn.Module
    args: tuple[Any, ...]

    @property
    def shape(self) -> list[int]:
        """Of the input, for the record."""
        first = self.args[0][0] if isinstance(self.args[0], list) else self.args[0]
        return list(first.shape)


def build(entry: Entry) -> Built:
    """The network of an entry; nothing is downloaded, and the seed is fixed."""
    torch.manual_seed(0)
    if entry.kind == "timm":
        model: Any = timm.create_model(entry.model, pretrained=False)
        shape = tuple(model.default_cfg["input_size"])
    else:
        model = _torchvision(entry.model)
        shape = _OTHER_SHAPES.get(entry.model, _SHAPES[entry.kind])
    image = torch.randn(shape)
    model.eval()
    return Built(model, ([image],) if entry.kind == "detection" else (image[None],))


def _torchvision(name: str) -> nn.Module:
    accepted = inspect.signature(get_model_builder(name)).parameters
    options: dict[str, Any] = {key: None for key in ("weights", "weights_backbone") if key in accepted}
    if name in _UNINITIALISED:
        options["init_weights"] = False
    model: nn.Module = get_model(name, **options)
    return model
