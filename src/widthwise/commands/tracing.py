"""``widthwise trace``."""

import sys
from contextlib import redirect_stdout
from json import dumps
from pathlib import Path

import torch
from rich.console import Console

from widthwise.cost import CostModel
from widthwise.errors import ConfigError, UntraceableModel
from widthwise.report import explain, graph_tables
from widthwise.tracing import trace
from widthwise.zoo import build_model

__all__ = ["trace_model"]


def trace_model(
    model: str,
    weights: Path | None = None,
    shape: str | None = None,
    pin: tuple[str, ...] | str = (),
    unproved: tuple[str, ...] | str = (),
    json: bool = False,
    all: bool = False,
) -> None:
    """Show how much of a model can be pruned, what it would save, what is pinned and why, and what one could do.

    Args:
        model: a zoo name, torchvision:NAME, timm:NAME, or module.path:function for your own.
        weights: a file with the trained weights; a trace does not depend on them.
        shape: of one image, such as 3x224x224.
        pin: path or pattern of layers to leave exactly as they are (layer1.*), or a list ([layer1.*,fc]).
        unproved: the same for layers to offer although the trace cannot prove them, at your own risk.
        json: write all facts as JSON, and nothing else, to standard output.
        all: show every layer, and every group by itself, instead of telling of many alike in one line.
    """
    with redirect_stdout(sys.stderr):  # what a model's own code prints is no part of the answer
        network = build_model(model, weights=weights)
        size = (1, *_shape(model, network, shape))
        try:
            graph = trace(network, torch.zeros(size), pin=pin, unproved=unproved)
        except UntraceableModel as error:
            if shape is not None:
                raise
            hint = f"If {'x'.join(map(str, size[1:]))} is not the shape of its images, say which: --shape 1x28x28."
            raise UntraceableModel(f"{error} {hint}") from error
    facts = explain(graph, CostModel(graph))
    if json:
        print(dumps({"model": model, "input_shape": size, **facts.to_dict()}, indent=2))
        return
    console = Console(highlight=False)
    console.print(f"{model}, traced on an input of {' x '.join(map(str, size))}", markup=False)
    for part in graph_tables(facts, every=all):
        console.print(part)


def _shape(model: str, network: torch.nn.Module, shape: str | None) -> tuple[int, ...]:
    """What was asked for, or what such a model usually takes."""
    if shape is not None:
        parts = shape.lower().split("x")
        if not all(part.isdigit() and int(part) > 0 for part in parts):
            raise ConfigError(f"A shape is written as 3x224x224 (channels, height, width), but got {shape!r}.")
        return tuple(int(part) for part in parts)
    kind, _, name = model.partition(":")
    if kind == "timm":
        return tuple(network.default_cfg["input_size"])  # type: ignore[index]
    if name:
        return (3, 224, 224)
    return (1, 8, 8) if model == "digits_net" else (3, 224, 224) if model == "mobilenet_v1" else (3, 32, 32)
