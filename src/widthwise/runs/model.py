"""Saving a small network, and building it again in a fresh process: safetensors and JSON, never pickle."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from widthwise.channels import ChannelGraph, Subnet
from widthwise.errors import ConfigError, CorruptRun, SubnetMismatch
from widthwise.runs.atomic import read_json, write_atomic, write_json
from widthwise.runs.folder import RunPaths
from widthwise.subnet.resize import resized_copy, tensors_of
from widthwise.zoo import ModelSpec, model_spec

__all__ = ["load", "named_builder", "save"]

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
        ConfigError: as :func:`named_builder`.
        SubnetMismatch: the model is not that sub-network of that graph.
        SaveFailed: a file could not be written; what was there is intact.
    """
    spec = named_builder(builder, graph.model)
    mine = tensors_of(model)
    _check_shapes(graph, subnet, mine)
    paths = RunPaths(folder)
    paths.path.mkdir(parents=True, exist_ok=True)
    passing = _fleeting(model) - {name for name, _ in graph.roles}
    tensors = {name: t.detach().cpu().contiguous() for name, t in mine.items() if name not in passing}
    facts = {
        "format": FORMAT,
        "builder": spec.to_json() if spec else None,
        "graph": graph.fingerprint,
        "subnet": subnet.to_dict(),
        "sizes": graph.sizes_of(subnet),
        "built": _built(graph.model),
        "kept": {g.name: (subnet.keep[g.ids].nonzero()[:, 0]).tolist() for g in graph.prunable},
    }
    write_atomic(paths.model_path, lambda path: save_file(tensors, path))
    write_json(paths.subnet_path, facts)


def named_builder(builder: ModelSpec | str | None, model: nn.Module) -> ModelSpec | None:
    """The record of what builds the full model in another process, once it has been seen to build the same here.

    Raises:
        ConfigError: it is no name of a builder, or makes another architecture.
        UnknownModel, ModelError: as :meth:`ModelSpec.build`.
    """
    spec = model_spec(builder) if isinstance(builder, str) else builder
    if spec is None:
        return None
    if not isinstance(spec, ModelSpec):
        raise ConfigError(
            f"A builder is saved by its name, such as 'my.module:function', but got {spec!r}. Name it, or give the "
            "function itself to load."
        )
    odd = _differences(tensors_of(_built_by(spec)), tensors_of(model).keys(), _built(model))
    if odd:
        raise ConfigError(
            f"A builder must make the architecture of the full model, from which the small one is loaded, but "
            f"{spec.spec} with {spec.kwargs or 'no arguments'} has other tensors: {', '.join(odd[:5])}. Pass "
            f"builder=model_spec({spec.spec!r}, num_classes=...) with what the model was built with, or the name of a "
            "function of your own that makes it ('my.module:function')."
        )
    return spec


def _built(model: nn.Module) -> dict[str, list[int]]:
    """Shapes of the parameters. Buffers may be tables of an image size."""
    return {name: list(parameter.shape) for name, parameter in model.named_parameters()}


def _built_by(builder: Callable[[], nn.Module] | ModelSpec) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        return builder.build() if isinstance(builder, ModelSpec) else builder()


def _differences(mine: Mapping[str, Tensor], names: Collection[str], built: Mapping[str, list[int]]) -> list[str]:
    """Names of tensors that only one of both has, or that are not as they were built then (or not built yet)."""
    odd = sorted(mine.keys() ^ set(names))
    return odd or [n for n, t in mine.items() if is_lazy(t) or list(t.shape) != built.get(n, list(t.shape))]


def _fleeting(model: nn.Module) -> set[str]:
    """Names of the buffers that belong to no state: what builds the model makes them."""
    return {
        f"{path}.{name}".lstrip(".")
        for path, module in model.named_modules()
        for name in module._non_persistent_buffers_set
    }


def _check_shapes(graph: ChannelGraph, subnet: Subnet, tensors: Mapping[str, Tensor]) -> None:
    graph.check(subnet)
    for (name, dim), ids in graph.required_axes(tensors):
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
    tensors |= {name: mine[name] for name in (_fleeting(full) & mine.keys()) - tensors.keys()}
    odd = _differences(mine, tensors.keys(), facts.get("built", {}))
    if odd := odd or [name for name, tensor in mine.items() if tensor.ndim != tensors[name].ndim]:
        raise SubnetMismatch(
            f"The builder must make the architecture that was compressed, but {', '.join(odd[:5])} are other tensors "
            f"than those of {paths.model_path}. Pass load(folder, builder=...) that makes it."
        )
    small = resized_copy(full, {name: tensors[name] for name in mine}, facts.get("sizes", {}))
    small.eval()
    return small


def _build(facts: dict[str, Any], builder: Callable[[], nn.Module] | ModelSpec | str | None) -> nn.Module:
    if builder is None and facts.get("builder") is None:
        raise SubnetMismatch(
            "To load a network its full architecture must be built first, but this one was saved without a builder. "
            "Pass load(folder, builder=function_that_returns_the_full_model), on the command line --builder "
            "module:function, or save with builder='module:function'."
        )
    if isinstance(builder, str):
        builder = model_spec(builder)
    if builder is None:
        builder = ModelSpec.from_json(facts["builder"])
    return _built_by(builder)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise CorruptRun(f"{path} must be a readable safetensors file, but it is not ({error}); restore it.") from error
