"""The formats that a network can be written in: what writes one, and what runs a file of it."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from widthwise.errors import ConfigError

__all__ = ["FORMATS", "Format"]

Write = Callable[[nn.Module, Tensor, Path, bool], None]
"""(network in evaluation mode, example, file, whether any number of images is to be taken)."""

Run = Callable[[Tensor], list[Tensor]]


@dataclass(frozen=True)
class Format:
    """One way to write a network."""

    about: str
    write: Write
    read: Callable[[Path], Run]
    """What computes the outputs of a file, flattened into a list."""


def _shapes(any_batch: bool) -> tuple[dict[int, Any]] | None:
    return ({0: torch.export.Dim("batch")},) if any_batch else None


def _write_onnx(model: nn.Module, example: Tensor, path: Path, any_batch: bool) -> None:
    _needed("onnxscript")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own inside
        torch.onnx.export(
            model,
            (example,),
            path,
            dynamo=True,
            dynamic_shapes=_shapes(any_batch),
            input_names=["images"],
            external_data=False,
            verbose=False,
        )


def _read_onnx(path: Path) -> Run:
    runtime = _needed("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: [torch.from_numpy(output) for output in session.run(None, {name: images.numpy()})]


def _write_program(model: nn.Module, example: Tensor, path: Path, any_batch: bool) -> None:
    buffer = BytesIO()  # on a full disk the writer of torch ends the process
    torch.export.save(torch.export.export(model, (example,), dynamic_shapes=_shapes(any_batch)), buffer)
    path.write_bytes(buffer.getbuffer())


def _read_program(path: Path) -> Run:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        program = torch.export.load(path).module()
    return lambda images: [leaf for leaf in pytree.tree_leaves(program(images)) if isinstance(leaf, Tensor)]


def _needed(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"ONNX needs the packages onnx, onnxscript and onnxruntime, but {package} cannot be imported ({error}); "
            "pip install 'widthwise[export]'."
        ) from error


FORMATS: dict[str, Format] = {
    ".onnx": Format("ONNX, which other runtimes read", _write_onnx, _read_onnx),
    ".pt2": Format("a program of torch.export, without Python code", _write_program, _read_program),
}
"""By the suffix of the file."""
