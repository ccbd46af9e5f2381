"""Weight files into models: safetensors, or `torch.load` that unpickles nothing but tensors."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from widthwise.errors import UnreadableData, WeightsMismatch

__all__ = ["load_weights", "read_weights"]

_WRAPPINGS = ("state_dict", "model_state_dict", "model", "net", "ema", "state_dict_ema", "model_ema")
"""Where training scripts put the state dict within a checkpoint; the first that is there counts."""

_PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DataParallel and AveragedModel, `torch.compile`, and Lightning put before every key."""

_MAX_LISTED = 10


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Loads the tensors of the file at `path` into `model`, in place, or changes nothing.

    Handles the usual wrappings (a checkpoint with a ``state_dict`` or the like inside; the prefixes
    ``module.``, ``_orig_mod.`` and ``model.``). Absent are only forgiven ``num_batches_tracked`` (old files)
    and one of two names of a shared tensor (safetensors stores such a tensor once). Values are
    converted to the dtype and device of the model's tensors.

    Raises:
        WeightsMismatch: missing, unexpected or wrongly shaped tensors, or no tensors at all in the file.
        UnreadableData: the file is missing, damaged, or holds pickled objects, which are never loaded.
    """
    path = Path(path)
    targets = model.state_dict(keep_vars=True)
    tensors = _match_names(read_weights(path), set(targets))
    _check_fit(path, targets, tensors)
    model.load_state_dict(tensors, strict=False)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a weight file by name, on the CPU, out of the usual wrappings; prefixes are kept.

    Raises:
        WeightsMismatch: the file can be read, but there is no state dict in it.
        UnreadableData: the file is missing, damaged, or holds pickled objects.
    """
    path = Path(path)
    tensors = _unwrap(_read(path))
    if tensors is None:
        raise WeightsMismatch(
            f"a weight file must hold tensors by name, at the top or under one of {', '.join(_WRAPPINGS)}, "
            f"but {path} does not; save it with torch.save(model.state_dict(), path)"
        )
    return tensors


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UnreadableData(
            f"weights must be a file that can be read, but {path} gave: {error.strerror or error}; check the path"
        ) from error
    except pickle.UnpicklingError as error:
        raise UnreadableData(_explain_refusal(path, str(error))) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UnreadableData(
            f"weights must be a whole safetensors or torch.save file, but {path} is not "
            f"({_first_line(error)}); copy or download it again"
        ) from error


def _explain_refusal(path: Path, text: str) -> str:
    refused = re.search(r"GLOBAL (\S+)", text)
    if refused:
        return (
            f"a weight file must hold tensors and plain values only, but {path} holds a pickled object "
            f"({refused[1]}), and loading such objects can run any code; where the file was made, save it again "
            "with torch.save(model.state_dict(), path)"
        )
    return (
        f"weights must be a whole safetensors or torch.save file, but {path} is neither; safetensors files "
        "need the suffix .safetensors; otherwise copy or download it again"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _unwrap(value: Any) -> dict[str, Tensor] | None:
    """The state dict in a loaded object, None when there is none."""
    if not isinstance(value, Mapping):
        return None
    for key in _WRAPPINGS:
        inner = value.get(key)
        if isinstance(inner, Mapping):
            return _unwrap(inner)
    tensors = {str(key): item for key, item in value.items() if isinstance(item, Tensor)}
    return tensors or None


def _match_names(tensors: dict[str, Tensor], names: set[str]) -> dict[str, Tensor]:
    """`tensors` with as many known prefixes removed as it takes to meet `names`."""
    if "n_averaged" not in names:
        tensors = {key: value for key, value in tensors.items() if key != "n_averaged"}
    while not names & tensors.keys():
        prefix = next((p for p in _PREFIXES if tensors and all(key.startswith(p) for key in tensors)), None)
        if prefix is None:
            break
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    if not any("_orig_mod." in name for name in names):
        # A compiled part of a model leaves its mark in the middle of the keys.
        tensors = {key.replace("_orig_mod.", ""): value for key, value in tensors.items()}
    return tensors


def _check_fit(path: Path, targets: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    missing = [name for name in targets if name not in tensors and not _forgiven(name, targets, tensors)]
    unexpected = [name for name in tensors if name not in targets]
    shapes = [
        f"{name}: the model has {_shape(targets[name])}, the file {_shape(tensors[name])}"
        for name in targets
        if name in tensors and _shape(targets[name]) != _shape(tensors[name])
    ]
    parts = (("missing in the file", missing), ("not in the model", unexpected), ("of another shape", shapes))
    listed = [_listing(title, items) for title, items in parts if items]
    if not listed:
        return
    raise WeightsMismatch(
        f"the tensors of {path} must fit the model in name and shape, but\n"
        + "\n".join(listed)
        + "\nbuild the model that the file was saved from (also its number of classes), or take another "
        "file; the model was not changed"
    )


def _forgiven(name: str, targets: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bool:
    if name.endswith("num_batches_tracked"):
        return True
    return any(other in tensors and targets[other] is targets[name] for other in targets if other != name)


def _shape(value: Any) -> list[int] | None:
    return list(value.shape) if isinstance(value, Tensor) else None


def _listing(title: str, items: list[str]) -> str:
    shown = "".join(f"\n    {item}" for item in items[:_MAX_LISTED])
    rest = f"\n    and {len(items) - _MAX_LISTED} more" if len(items) > _MAX_LISTED else ""
    return f"  {len(items)} {title}:{shown}{rest}"
