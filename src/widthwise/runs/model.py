"""Saving a small network, and building it again in a fresh process: safetensors and JSON, never pickle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from widthwise.channels import ChannelGraph, Subnet
from widthwise.errors import CorruptRun, SubnetMismatch
from widthwise.runs.atomic import read_json, write_atomic, write_json
from widthwise.runs.folder import RunPaths
from widthwise.subnet.resize import resized_copy, tensors_of
from widthwise.zoo import ModelSpec, model_spec

__all__ = ["load", "save"]

FORMAT = 1


def save(
    folder: str | Path,
    model: nn.Module,
    graph: ChannelGraph,
    subnet: Subnet,
    *,
    builder: ModelSpec | str | None = None,
) -> None:
    """Write a small network to ``model.safetensors`` and ``subnet.json``; :func:`load` reads them back.

    Args:
        folder: created when missing; the two files are replaced, each as a whole or not at all.
        model: the small network, as :func:`widthwise.materialize` made it, trained since or not.
        graph: of the full model.
        subnet: what the small network keeps.
        builder: what builds the full architecture in another process; without one, :func:`load` asks for it.

    Raises:
        SubnetMismatch: the model is not that sub-network of that graph.
        SaveFailed: a file could not be written; what was there is intact.
    """
    paths = RunPaths(folder)
    paths.path.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors_of(model).items()}
    _check_shapes(graph, subnet, tensors)
    spec = model_spec(builder) if isinstance(builder, str) else builder
    facts = {
        "format": FORMAT,
        "builder": spec.to_json() if spec else None,
        "graph": graph.fingerprint,
        "subnet": subnet.to_dict(),
        "sizes": graph.sizes_of(subnet),
        "kept": {g.name: (subnet.keep[g.ids].nonzero()[:, 0]).tolist() for g in graph.prunable},
    }
    write_atomic(paths.model_path, lambda path: save_file(tensors, path))
    write_json(paths.subnet_path, facts)


def _check_shapes(graph: ChannelGraph, subnet: Subnet, tensors: dict[str, Tensor]) -> None:
    graph.check(subnet)
    for (name, dim), ids in graph.axes.items():
        expected = int(subnet.kept_at(ids).sum())
        if name not in tensors or tensors[name].shape[dim] != expected:
            got = list(tensors[name].shape) if name in tensors else "nothing"
            raise SubnetMismatch(
                f"The model to save must be the sub-network that is saved with it: {name!r} should have {expected} "
                f"positions along dimension {dim}, but it has {got}. Pass the materialised network and its own subnet."
            )


def load(folder: str | Path, *, builder: Callable[[], nn.Module] | ModelSpec | str | None = None) -> nn.Module:
    """The small network of a run, in evaluation mode on the CPU, without its data and without pickle.

    Args:
        folder: a run folder, or any folder that :func:`save` wrote to.
        builder: what builds the full architecture; only where the folder does not say, or to overrule it.

    Raises:
        CorruptRun: a file is missing or damaged.
        SubnetMismatch: the builder makes another architecture, or there is none.
    """
    paths = RunPaths(folder)
    facts = read_json(paths.subnet_path)
    if not isinstance(facts, dict) or not isinstance(facts.get("format"), int) or facts["format"] > FORMAT:
        raise CorruptRun(
            f"{paths.subnet_path} must hold a sub-network of format {FORMAT} or older, but it does not; "
            "restore it, or install a newer Widthwise."
        )
    full = _build(facts, builder)
    tensors = _read(paths.model_path)
    mine = tensors_of(full)
    if mine.keys() != tensors.keys() or any(mine[n].ndim != t.ndim for n, t in tensors.items()):
        odd = sorted(mine.keys() ^ tensors.keys())[:5]
        raise SubnetMismatch(
            f"The builder must make the architecture that was compressed, but its tensors are others than those of "
            f"{paths.model_path} ({', '.join(odd) or 'other shapes'}). Pass load(folder, builder=...) that makes it."
        )
    small = resized_copy(full, {name: tensors[name] for name in mine}, facts.get("sizes", {}))
    return small.eval()


def _build(facts: dict[str, Any], builder: Callable[[], nn.Module] | ModelSpec | str | None) -> nn.Module:
    if builder is None and facts.get("builder") is None:
        raise SubnetMismatch(
            "To load a network its full architecture must be built first, but this one was saved without a builder. "
            "Pass load(folder, builder=function_that_returns_the_full_model), or save with builder='module:function'."
        )
    if isinstance(builder, str):
        builder = model_spec(builder)
    if builder is None:
        builder = ModelSpec.from_json(facts["builder"])
    with torch.random.fork_rng(devices=[]):
        return builder.build() if isinstance(builder, ModelSpec) else builder()


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise CorruptRun(f"{path} must be a readable safetensors file, but it is not ({error}); restore it.") from error
