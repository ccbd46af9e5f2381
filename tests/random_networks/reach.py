"""Which rules of the tracer a network needs."""

from collections.abc import Iterator, Mapping
from itertools import product

import torch

import oracle
from random_networks.network import MAKERS, RandomNet, Spec
from widthwise.subnet.resize import tensors_of
from widthwise.tracing.follow import Call, Flow, Rule
from widthwise.tracing.rules import RULES, unknown

__all__ = ["every_step", "rules_applied"]


def every_step() -> Iterator[Spec]:
    """Each step in 48 of its variants, behind and before layers with channels to remove."""
    for b, a, name in product((0, 1, 2, 5), range(12), sorted(MAKERS)):
        yield [("conv_norm", a + b, 0), (name, a, b), ("conv", b, a)]


def _noted(name: str, rule: Rule, applied: set[str]) -> Rule:
    """The rule, noted when it has run to its end on a tensor with channels (or on none, where it makes one)."""

    def run(flow: Flow, call: Call) -> None:
        operands = call.operands()
        channels = any(flow.layers(t) for t in operands)
        rule(flow, call)  # what it raises, the flow turns into a pin: such a call does not count
        if channels or not operands:
            applied.add(name)

    return run


def rules_applied(spec: Spec, rules: Mapping[str, Rule] = RULES) -> set[str]:
    """Names of the rules that a forward of this network applies to channels."""
    applied: set[str] = set()
    torch.manual_seed(0)
    model = RandomNet(spec, 0).eval()
    flow = Flow(tensors_of(model), {name: _noted(name, rule, applied) for name, rule in rules.items()}, unknown)
    with torch.no_grad(), oracle.unfused(), flow.inside(model), flow:
        model(model.example())
    return applied
