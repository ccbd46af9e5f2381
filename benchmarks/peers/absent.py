"""Packages that were tried and cannot be compared: the commands, and what they ended with."""

from dataclasses import dataclass

__all__ = ["ATTEMPTS", "TRIED", "Attempt"]

TRIED = "Python 3.11.7, torch 2.12.1, each in a fresh virtual environment that borrowed torch from the development one"


@dataclass(frozen=True)
class Attempt:
    """One step with one package."""

    package: str
    command: str
    outcome: str
    """What it printed last, or that it worked."""


ATTEMPTS = (
    Attempt("NNI 3.0 (2023)", "pip install nni", "works"),
    Attempt("", "from nni.compression.pruning import L1NormPruner", "works"),
    Attempt("", "L1NormPruner(model, [{'op_types': ['Conv2d'], 'sparse_ratio': 0.5}]).compress()", "works: masks"),
    Attempt(
        "",
        "ModelSpeedup(model, images, masks).speedup_model()",
        "AttributeError: 'NoneType' object has no attribute 'startswith' (nni/common/concrete_trace_utils/"
        "concrete_tracer.py, line 958: func.__module__.startswith('_')), also for two plain convolutions in a "
        "Sequential. Without this step the masked network costs as much as the full one",
    ),
    Attempt(
        "",
        "auto_set_denpendency_group_ids(resnet20, config, images), then L1NormPruner",
        "RuntimeError: The size of tensor a (16) must match the size of tensor b (64) at non-singleton dimension 0 "
        "(zero-padded shortcuts)",
    ),
    Attempt("MMRazor 1.0.0 (2023)", "pip install mmrazor, then import mmrazor", "No module named 'mmcv'"),
    Attempt("", "pip install mmcv", "does not build: ModuleNotFoundError: No module named 'pkg_resources'"),
    Attempt(
        "",
        "pip install mmengine mmcv-lite (0.10.7, 2.2.0), then import mmrazor",
        "AssertionError: MMCV==2.2.0 is used but incompatible. Please install mmcv>=2.0.0rc1, <=2.1.0.",
    ),
    Attempt(
        "",
        "pip install mmcv-lite==2.1.0, then import mmrazor.models",
        "ImportError: `torch>=1.13` is not installed properly, plz check. (cannot import name 'reverse2' from "
        "'torch.ao.quantization.fuser_method_mappings': gone from torch)",
    ),
)
"""In order."""
