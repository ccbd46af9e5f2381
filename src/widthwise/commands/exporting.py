"""``widthwise export``."""

from pathlib import Path

import torch
from rich.console import Console

from widthwise.errors import ConfigError
from widthwise.export import export_model
from widthwise.runs import RunPaths, read_json
from widthwise.runs.model import load

__all__ = ["export_run"]


def export_run(
    run: Path, to: str = "onnx", out: Path | None = None, fixed_batch: int | None = None, builder: str | None = None
) -> None:
    """Write the small network of a finished run as ONNX or a torch.export program, and prove the file.

    Args:
        run: the run folder.
        to: the format, onnx or pt2 (a torch.export program).
        out: the file; RUN/model.onnx or RUN/model.pt2 if not given.
        fixed_batch: take batches of this size only; any if not given.
        builder: what makes the full architecture, such as my.module:net, where the run was made without one.
    """
    if fixed_batch is not None and fixed_batch < 1:
        raise ConfigError(f"fixed_batch is a number of images, 1 or more, but got {fixed_batch}.")
    small, shape = load(run, builder=builder), read_json(RunPaths(run).config_path)["data"]["shape"]
    example = torch.randn(fixed_batch or 2, *shape, generator=torch.Generator().manual_seed(0))
    path = export_model(small, out or run / f"model.{to}", example, fixed_batch=fixed_batch is not None)
    Console(highlight=False).print(
        f"{path} computes what the network of {run} does ({path.stat().st_size:,} bytes).", markup=False, soft_wrap=True
    )
