"""What sub-networks of a model take on this machine, from the times of a few of them."""

from pathlib import Path

import torch
from jaxtyping import Int64
from rich.progress import track
from torch import Tensor, nn

from widthwise.channels import ChannelGraph
from widthwise.cost import Budget, Latency
from widthwise.cost.latency import fit_latency
from widthwise.data import ImageData
from widthwise.errors import ConfigError, CorruptRun, RunMismatch
from widthwise.evaluate import module_times
from widthwise.evaluate.modes import placement
from widthwise.runs import RunPaths, read_events, read_json
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
    progress: bool = False,
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
        progress: show a bar.

    Raises:
        ConfigError: too few networks.
    """
    if networks < LEAST:
        raise ConfigError(f"Times are fitted to {LEAST} sub-networks or more, but got networks={networks}.")
    allowed = space if isinstance(space, Space) else (space or WidthSpace()).of(graph)
    widths = _widths(allowed, networks, seed)
    device, paths = placement(model)[0], tuple(dict.fromkeys(layer.module for layer in graph.layers))
    times = []
    # Drawn once a second, because drawing takes time too.
    shown = track(widths, "times of sub-networks", refresh_per_second=1, transient=True, disable=not progress)
    for row in shown:
        small = materialize(model, graph, graph.subnet(widths=row)).to(device)
        times.append(module_times(small, example, paths))
    order = tuple(dict.fromkeys(path for found in times for path in found))
    seconds = {path: torch.tensor([found.get(path, 0.0) for found in times], dtype=torch.float64) for path in order}
    return fit_latency(graph, widths, seconds, shape=tuple(example.shape), device=_name(device))


def timed_for(
    budget: Budget | None,
    model: nn.Module,
    graph: ChannelGraph,
    images: ImageData,
    space: Space,
    path: Path | None,
    given: Latency | None = None,
    progress: bool = False,
) -> Latency | None:
    """What a budget needs to know of latency: from the file of a run, as given, or measured; None if that is nothing.

    Args:
        budget: of the run.
        model: the full network.
        graph: its trace.
        images: the data.
        space: the allowed widths.
        path: the file, which need not be there.
        given: what the caller knows already.
        progress: show a bar while they are measured.

    Raises:
        RunMismatch: the file says something else than the caller.
        CorruptRun: the file is damaged, or missing from a run that has begun.
    """
    if budget is None or not budget.needs_latency:
        return None
    if path is None or not path.exists():
        if path is not None and _has_events(RunPaths(path.parent).journal_path):
            raise CorruptRun(
                f"A run with a budget of latency has its times, but {path} is missing. Restore it from a backup, or "
                "start in a new folder."
            )
        example = images.example(budget.latency_batch)
        return given or measure_latency(model, graph, example, space=space, progress=progress)
    known = Latency.from_json(read_json(path), path)
    if given not in (None, known):
        raise RunMismatch(
            f"A run goes on with the times that it began with, but {path} holds others than those that were given. "
            "Give none, or name another folder."
        )
    return known


def _has_events(journal: Path) -> bool:
    return journal.exists() and bool(read_events(journal))


def _widths(space: Space, networks: int, seed: int) -> Int64[Tensor, "networks groups"]:
    """The full one, the narrowest, and between them shares of all sizes, different in each group; in a random order.

    What the machine does slowly (its clock, its temperature) would look like a slope if they came by size.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.linspace(0, 1, networks)[1:-1, None]
    moved = sizes + SPREAD * (2 * torch.rand(networks - 2, len(space.choices), generator=generator) - 1)
    rows = space.snap(moved.clamp(0, 1) * (space.full - space.smallest) + space.smallest)
    return torch.cat([space.full[None], space.smallest[None], rows])[torch.randperm(networks, generator=generator)]


def _name(device: torch.device) -> str:
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else str(device)
