"""Every rule of the tracer has a step of the random networks that needs it."""

from collections import defaultdict
from pathlib import Path

import torchgen
import yaml

from random_networks.reach import every_step, rules_applied
from typecheck import annotations
from widthwise.tracing.rules import RULES

ELSEWHERE = "has a kernel of its own on other devices only; on a CPU it arrives in parts or not at all"

NOT_ON_CPU: dict[str, str] = {
    "aten::_fused_rms_norm": ELSEWHERE,  # CUDA, MPS
    "aten::cudnn_batch_norm": ELSEWHERE,  # CUDA
    "aten::linear": ELSEWHERE,  # MPS
    "aten::max_pool2d": ELSEWHERE,  # MPS
    "aten::miopen_batch_norm": ELSEWHERE,  # ROCm
}
"""Rules that no forward on a CPU can reach, and why."""


def test_every_rule_is_applied_to_channels_by_some_step() -> None:
    applied: set[str] = set()
    with annotations(checked=False):
        for spec in every_step():
            applied |= rules_applied(spec)
            if applied | set(NOT_ON_CPU) >= set(RULES):
                break
    unneeded = sorted(set(RULES) - applied - set(NOT_ON_CPU))
    assert unneeded == [], "rules that no step applies"
    reached = sorted(applied & set(NOT_ON_CPU))
    assert reached == [], "rules within reach after all"
    gone = sorted(set(NOT_ON_CPU) - set(RULES))
    assert gone == [], "no longer rules"


def _kernels() -> dict[str, set[str]]:
    """Operation to the dispatch keys for which PyTorch declares a kernel of its own, in one piece."""
    declared = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    found: dict[str, set[str]] = defaultdict(set)
    for function in yaml.safe_load(declared.read_text()):
        name, _, overload = function["func"].partition("(")[0].partition(".")
        if "out" not in overload:
            found[f"aten::{name}"] |= {
                key.strip() for keys in function.get("dispatch") or {} for key in keys.split(",")
            }
            found[f"aten::{name}"] |= {"CPU"} if "structured_delegate" in function else set()
    return found


def test_every_rule_is_of_an_operation_that_some_device_runs_in_one_piece() -> None:
    kernels = _kernels()
    for name in sorted(name for name in RULES if name.startswith("aten::")):
        others = ("CompositeImplicit", "Nested", "Sparse", "Quantized", "Mkldnn")  # in parts, or of other tensors
        whole = {key for key in kernels[name] if not key.startswith(others)}
        assert whole, f"{name} never arrives"
        if name in NOT_ON_CPU:
            assert not whole & {"CPU", "CompositeExplicitAutograd"}, f"{name} runs on a CPU"
