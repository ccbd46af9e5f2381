"""What a run ends with: in memory, and as ``result.json`` in its folder."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from widthwise.channels import ChannelGraph, Subnet
from widthwise.cost import CostModel
from widthwise.evaluate.modes import placement
from widthwise.methods.record import parent_of
from widthwise.runs import RunPaths, read_json, write_json
from widthwise.runs.model import load
from widthwise.search import Trial

__all__ = ["Figures", "Result", "read_result", "write_result"]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is reported of a network."""

    macs: int
    """Multiply-adds, for a batch of one."""
    params: int
    """Parameters."""
    val_accuracy: float
    """Top-1 on the validation images, in [0, 1]."""
    test_accuracy: float | None
    """Top-1 on the test images, in [0, 1]; None where the data has none."""
    latency_ms: dict[int, float]
    """Median milliseconds of a forward pass by batch size, measured."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Figures":
        """From ``result.json``, where batch sizes are text."""
        return cls(**{**data, "latency_ms": {int(batch): ms for batch, ms in data["latency_ms"].items()}})


@dataclass(frozen=True, eq=False)
class Result:
    """What :func:`compress` hands back."""

    model: nn.Module
    """The small network, trained, in evaluation mode."""
    subnet: Subnet
    graph: ChannelGraph
    metrics: dict[str, Figures]
    """``before``: the full model (as the method trained it, where it did); ``after``: the small one."""
    trials: list[Trial]
    """Every scored strategy, the best first."""
    run: Path | None
    """The run folder, if one was asked for."""


def write_result(result: Result, path: Path, cost: CostModel) -> None:
    """Write what reports need: figures and whose they are, widths, multiply-adds per layer, every trial's cost."""
    figures = {name: asdict(values) for name, values in result.metrics.items()}
    facts = {**figures, "parent": parent_of(path), **_layout(cost, result.subnet)}
    write_json(RunPaths(path).result_path, {**facts, "trials": _trials(result.trials, cost)})


def read_result(path: Path, model: nn.Module, graph: ChannelGraph) -> Result:
    """The result of a finished run of this model, from its folder."""
    small = load(path, builder=lambda: copy.deepcopy(model)).to(placement(model)[0])
    saved, subnet = read_json(RunPaths(path).result_path), read_json(RunPaths(path).subnet_path)["subnet"]
    metrics = {part: Figures.from_json(saved[part]) for part in ("before", "after")}
    trials = [Trial(t["index"], torch.tensor(t["widths"]), t["score"], t["seconds"]) for t in saved["trials"]]
    return Result(small, Subnet.from_dict(subnet), graph, metrics, trials, path)


def _layout(cost: CostModel, subnet: Subnet) -> dict[str, Any]:
    """Width of every prunable group and multiply-adds of every operation, before and after, as JSON data."""
    graph = cost.graph
    widths = zip(graph.prunable, graph.widths(subnet).tolist(), strict=True)
    macs = zip(cost.per_layer(graph.subnet()), cost.per_layer(subnet), strict=True)
    return {
        "groups": [{"name": g.name, "width": g.width, "kept": kept} for g, kept in widths],
        "layers": [{"name": name, "before": full, "after": small} for (name, full), (_, small) in macs],
    }


def _trials(trials: list[Trial], cost: CostModel) -> list[dict[str, Any]]:
    """Every scored strategy with its cost, the best first, as JSON data."""
    if not trials:
        return []
    widths = torch.stack([trial.widths for trial in trials])
    costs = zip(cost.macs(widths).tolist(), cost.params(widths).tolist(), strict=True)
    return [
        {**asdict(trial), "widths": trial.widths.tolist(), "macs": macs, "params": params}
        for trial, (macs, params) in zip(trials, costs, strict=True)
    ]
