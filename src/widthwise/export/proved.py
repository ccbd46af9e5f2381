"""Writing a network into a file that computes the same, or not at all."""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from widthwise.errors import ConfigError, ExportFailed
from widthwise.evaluate.modes import evaluating
from widthwise.export.formats import FORMATS
from widthwise.runs import write_atomic

__all__ = ["export_model"]

TOLERANCE = 1e-4
"""Largest difference between the outputs of the file and of the network, beside the largest output."""

ROUNDINGS = 8
"""The same in units of the outputs' precision, where that is more: runtimes round half precision in other places."""


def export_model(model: nn.Module, path: str | Path, example: Tensor, *, fixed_batch: bool = False) -> Path:
    """Write a network as ``.onnx`` or ``.pt2``, in evaluation mode, and prove the file.

    The file is read back, by onnxruntime or torch, and its outputs are compared with the network's on the example, and
    on three times as many images. What fails or computes something else is not kept.

    Args:
        model: any network that takes a batch of images; it is not changed.
        path: of the new file; its suffix says the format.
        example: a batch of images, ``[batch, channels, height, width]``.
        fixed_batch: take batches of the example's size only, where a free one cannot be exported.

    Raises:
        ConfigError: an unknown suffix, a file that exists, or packages that are missing.
        ExportFailed: the network cannot be written in this format, or the file computes something else.
        SaveFailed: the file cannot be written.
    """
    target = Path(path)
    if target.suffix not in FORMATS:
        known = ", ".join(f"{suffix} ({kind.about})" for suffix, kind in FORMATS.items())
        raise ConfigError(f"The suffix of the file says the format: {known}; but got {target.name!r}.")
    if target.exists() or target.is_symlink():
        raise ConfigError(f"Nothing is overwritten, but {target} exists; remove it, or give another path.")
    small, images = copy.deepcopy(model).cpu(), example.detach().cpu()
    if not fixed_batch and len(images) == 1:
        images = torch.cat([images, -images])  # a batch of one would be taken for a constant
    with evaluating(small), torch.no_grad():
        write_atomic(target, lambda temporary: _written(small, images, temporary, fixed_batch))
    return target


def _written(model: nn.Module, images: Tensor, path: Path, fixed_batch: bool) -> None:
    kind = FORMATS[path.suffix]
    try:
        kind.write(model, images, path, not fixed_batch)
        run = kind.read(path)
        batches = [images] if fixed_batch else [images, torch.cat([images, -images, images / 2])]
        for batch in batches:
            _compare(model, run(batch), batch)
    except (ConfigError, ExportFailed, OSError):
        raise
    except Exception as error:  # exporters raise anything
        remedy = "" if fixed_batch else " If it takes one size of batch only, export it with fixed_batch."
        raise ExportFailed(
            f"A network must be exportable as {path.suffix}, but {type(model).__name__} is not: {_first_line(error)}."
            f"{remedy} Or try another format ({', '.join(FORMATS)})."
        ) from error


def _compare(model: nn.Module, found: list[Tensor], batch: Tensor) -> None:
    wanted = [leaf for leaf in pytree.tree_leaves(model(batch)) if isinstance(leaf, Tensor)]
    if [tensor.shape for tensor in wanted] != [tensor.shape for tensor in found]:
        raise ExportFailed(
            f"The file must return what the network does, but for {len(batch)} images it returns "
            f"{[list(t.shape) for t in found]} instead of {[list(t.shape) for t in wanted]}."
        )
    for mine, theirs in zip(wanted, found, strict=True):
        gap = float((mine - theirs).abs().max() / mine.abs().max().clamp(min=1e-12)) if mine.numel() else 0.0
        rounding = torch.finfo(mine.dtype).eps if mine.is_floating_point() else 0.0
        if not gap <= max(TOLERANCE, ROUNDINGS * rounding):
            raise ExportFailed(
                f"The file must compute what the network does, but for {len(batch)} images its outputs differ by "
                f"{gap:.1e} of the largest one. It was not kept; try another format, or fixed_batch."
            )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")
