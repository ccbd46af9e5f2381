"""NVIDIA ModelOpt's FastNAS on one network: convert it, take about half of every width, and run that."""

import copy
from time import perf_counter

import modelopt.torch.nas as mtn
import torch
from modelopt.torch.opt.utils import named_hparams
from modelopt.torch.prune.fastnas import FastNASConfig
from torch import nn

from benchmarks.coverage.build import Built
from benchmarks.coverage.notes import Notes

__all__ = ["convert", "measure"]


def measure(built: Built, notes: Notes) -> None:
    """Convert with its default configuration, and with the finest one that it accepts.

    FastNAS offers widths that are multiples of a divisor, 32 by default, so layers of up to 32 channels are not
    offered at all. That is a setting and not a limit of the tool: it works on a network if either conversion does,
    and its channels are those of the one that offers more, the sum over the configurable widths (each stands for all
    layers that are tied to it) of the full width. Seconds are those of the default conversion.
    """
    try:
        _try(copy.deepcopy(built), notes, None)
    except Exception as error:
        notes.add(default_why=f"{type(error).__name__}: {str(error)[:240]}")
    _try(built, notes, 1)


def _try(built: Built, notes: Notes, divisor: int | None) -> None:
    """Convert, take about half of every width, and run that."""
    words = "default settings" if divisor is None else f"divisor {divisor}"
    notes.stage(f"convert with {words}")
    start = perf_counter()
    model = convert(built.model, divisor)
    seconds = perf_counter() - start
    widths = _widths(model)
    notes.stage(f"select half of every width with {words}")
    mtn.utils.select(model, {name: _middle(choices) for name, choices in widths.items()}, strict=False)
    notes.stage(f"run what it selected with {words}")
    with torch.no_grad():
        model(*built.args)
    channels = sum(max(choices) for choices in widths.values())
    if divisor is None:
        notes.add(default_channels=channels)
    if channels >= notes.facts.get("channels", 0):
        notes.add(channels=channels)
    if not notes.facts.get("works"):
        notes.add(works=True, seconds=seconds)


def convert(model: nn.Module, divisor: int | None = None) -> nn.Module:
    """The search space of a model, in place.

    Args:
        model: any model.
        divisor: widths are multiples of it; its default where None.
    """
    config = FastNASConfig()
    if divisor is not None:
        for name, rule in config.model_dump().items():
            for key in ("channel_divisor", "feature_divisor"):
                if key in rule["*"]:
                    config[name]["*"][key] = divisor
    converted: nn.Module = mtn.convert(model, mode=[("fastnas", config)])
    return converted


def _widths(model: nn.Module) -> dict[str, list[int]]:
    """The choices of every configurable width; kernel sizes are tuples and none of them."""
    found = named_hparams(model, configurable=True)
    return {name: list(hp.choices) for name, hp in found if isinstance(hp.max, int)}


def _middle(choices: list[int]) -> int:
    return min(choices, key=lambda width: abs(width - max(choices) / 2))
