"""Every rule of the tracer has a step of the random networks that needs it."""

import torch

from random_networks.reach import every_step, rules_applied
from widthwise.tracing.rules import RULES

COMPOSITE = "arrives as the operations that it is made of"
ELSEWHERE = "has no kernel for a CPU"
ABSENT = "is not an operation of this PyTorch"
ABOVE = "is done by autograd, before the tracer sees it"

NOT_ON_CPU: dict[str, str] = {
    **{
        f"aten::{name}": COMPOSITE
        for name in (
            *("_fused_rms_norm", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "argsort", "avg_pool1d", "batch_norm"),
            *("contiguous", "dropout", "flatten", "linear", "max_pool2d", "max_pool3d", "prelu", "requires_grad_"),
            *("reshape", "softmax", "to", "unflatten", "unsafe_chunk"),
        )
    },
    **{f"aten::{name}": ELSEWHERE for name in ("cudnn_batch_norm", "miopen_batch_norm", "mkldnn_max_pool2d")},
    **{f"aten::{name}": ABSENT for name in ("_cat", "native_instance_norm")},
    "aten::detach_": ABOVE,
}
"""Rules that no forward on a CPU can reach, and why."""


def test_every_rule_is_applied_to_channels_by_some_step() -> None:
    applied: set[str] = set()
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


def test_what_no_forward_can_reach_is_out_of_reach_for_the_reason_given() -> None:
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    known = torch._C._dispatch_get_all_op_names()
    for name, reason in NOT_ON_CPU.items():
        overloads = [o for o in known if o.partition(".")[0] == name and "out" not in o.partition(".")[2]]
        composite = [has(o, "CompositeImplicitAutograd") for o in overloads]
        runs = [has(o, key) for o in overloads for key in ("CPU", "CompositeExplicitAutograd")]
        found = {ABSENT: not overloads, COMPOSITE: all(composite), ELSEWHERE: not any(composite + runs), ABOVE: True}
        assert found[reason], f"{name} {reason}: {overloads}"
