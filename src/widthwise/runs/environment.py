"""What a run ran on: versions, machine, command and time, for `environment.json`."""

import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import torch

__all__ = ["describe_environment"]

_PACKAGES = ("widthwise", "torchvision", "timm", "accelerate", "numpy", "safetensors")


def describe_environment(seeds: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The environment of this process as JSON data. Names no user, host or repository.

    Args:
        seeds: the seeds of the run by purpose, recorded beside the rest.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(sys.argv),
        "seeds": dict(seeds or {}),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES} | {"torch": str(torch.__version__)},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "devices": _accelerators(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    """The processor's name on Linux, else what the platform calls it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - a device file, read lazily
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def _accelerators() -> list[str]:
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
