"""What sub-networks of a model take on this machine, from the times of a few of them."""

from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from widthwise.channels import ChannelGraph
from widthwise.cost import Budget, Latency
from widthwise.cost.latency import fit_latency
from widthwise.data import ImageData
from widthwise.errors import ConfigError
from widthwise.evaluate import module_times
from widthwise.evaluate.modes import placement
from widthwise.runs import read_json
from widthwise.subnet import Space, WidthSpace, materialize

__all__ = ["measure_latency", "timed_for"]

NETWORKS = 32
"""Sub-networks that are timed by default."""

LEAST = 8
"""Fewer say nothing, and a quarter of them is held out."""

SPREAD = 0.3
"""How far the share of a group lies from that of the whole network, at most."""


def measure_latency(
    model: nn.Module,
    graph: ChannelGraph,
    example: Tensor,
    *,
    space: Space | WidthSpace | None = None,
    networks: int = NETWORKS,
    seed: int = 0,
) -> Latency:
    """Time sub-networks of all sizes where the model lies, and fit what each module takes to their widths.

    Run nothing beside it. For ``CostModel(graph, latency=...)``; :func:`widthwise.compress` calls it where the budget
    limits latency.

    Args:
        model: the full network; it is not changed.
        graph: its trace.
        example: the batch to time, ``[batch, channels, height, width]``.
        space: widths that may be asked about.
        networks: how many, the full one and the narrowest among them.
        seed: of their widths.

    Raises:
        ConfigError: too few networks.
    """
    if networks < LEAST:
        raise ConfigError(f"Times are fitted to {LEAST} sub-networks or more, but got networks={networks}.")
    allowed = space if isinstance(space, Space) else (space or WidthSpace()).of(graph)
    widths = _widths(allowed, networks, seed)
    device, paths = placement(model)[0], tuple(dict.fromkeys(layer.module for layer in graph.layers))
    times = []
    for row in widths:
        small = materialize(model, graph, graph.subnet(widths=row)).to(device)
        times.append(module_times(small, example, paths))
    order = tuple(times[0])
    seconds = {path: torch.tensor([found.get(path, 0.0) for found in times], dtype=torch.float64) for path in order}
    return fit_latency(graph, widths, seconds, batch=len(example), device=_name(device))


def timed_for(
    budget: Budget | None, model: nn.Module, graph: ChannelGraph, images: ImageData, space: Space, path: Path | None
) -> Latency | None:
    """What a budget needs to know of latency: from a file if it is there, else measured; None where that is nothing."""
    if budget is None or not budget.needs_latency:
        return None
    if path is not None and path.exists():
        return Latency.from_json(read_json(path))
    return measure_latency(model, graph, images.example(budget.latency_batch), space=space)


def _widths(space: Space, networks: int, seed: int) -> Int64[Tensor, "networks groups"]:
    """The full one, the narrowest, and between them shares of all sizes, different in each group."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.linspace(0, 1, networks)[1:-1, None]
    moved = sizes + SPREAD * (2 * torch.rand(networks - 2, len(space.choices), generator=generator) - 1)
    rows = space.snap(moved.clamp(0, 1) * (space.full - space.smallest) + space.smallest)
    return torch.cat([space.full[None], space.smallest[None], rows])


def _name(device: torch.device) -> str:
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else str(device)
