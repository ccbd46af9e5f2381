"""The networks, found through the registries of torchvision and timm; no list of ours."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Literal

import timm
import torch
import torchvision

from widthwise.runs import read_json, write_json

__all__ = ["Entry", "Kind", "entries", "smallest_of_timm"]

Kind = Literal["classification", "segmentation", "detection", "video", "timm"]

_TORCHVISION: dict[Kind, ModuleType] = {
    "classification": torchvision.models,
    "segmentation": torchvision.models.segmentation,
    "detection": torchvision.models.detection,
    "video": torchvision.models.video,
}


@dataclass(frozen=True)
class Entry:
    """One network to measure."""

    kind: Kind
    model: str
    """Its name in the registry; for a timm module of which nothing can be built, the module's."""
    module: str = ""
    """The timm module that it stands for."""

    @property
    def name(self) -> str:
        """``library/model``, unique."""
        return f"{'timm' if self.kind == 'timm' else 'torchvision'}/{self.model}"

    def text(self) -> str:
        """As JSON, for the process that measures it."""
        return json.dumps(asdict(self))


def entries(only: str, work: Path, say: Callable[[str], None]) -> list[Entry]:
    """Every network whose name matches a pattern, in the order of the page.

    Args:
        only: a pattern with wildcards for :attr:`Entry.name`.
        work: folder where the search through timm is remembered.
        say: told what takes long.
    """
    found = [
        Entry(kind, model)
        for kind, module in _TORCHVISION.items()
        for model in torchvision.models.list_models(module=module)
    ]
    if fnmatchcase("timm", only.partition("/")[0]):
        smallest = smallest_of_timm(work / f"timm-{timm.__version__}.json", say)
        found += [Entry("timm", model or module, module) for module, model in smallest.items()]
    return [entry for entry in found if fnmatchcase(entry.name, only)]


def smallest_of_timm(cache: Path, say: Callable[[str], None]) -> dict[str, str]:
    """The network with the fewest parameters of each timm module; remembered, because all of them must be built.

    Networks are built on the meta device. A module of which none can be built has an empty name.
    """
    if cache.exists():
        return {str(module): str(model) for module, model in read_json(cache).items()}
    say("building every timm network on the meta device, to find the smallest of each module (two minutes, once)")
    smallest = {module: _smallest(module) for module in timm.list_modules()}
    write_json(cache, smallest)
    return smallest


def _smallest(module: str) -> str:
    sizes = {}
    for model in timm.list_models(module=module):
        try:
            with torch.device("meta"):
                network = timm.create_model(model)
        except Exception:  # some cannot be built there; another one of the module stands for it
            continue
        sizes[model] = sum(parameter.numel() for parameter in network.parameters())
    return min(sizes, key=lambda model: (sizes[model], model), default="")
