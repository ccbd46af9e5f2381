"""The proof holds where rules are wrong: each rule is damaged in turn, and still no wrong network comes out.

``WIDTHWISE_DAMAGED_EXAMPLES`` networks are traced per rule and damage (one if not set); with ``-s`` the counts are
printed. A damage to what a rule counts is no matter of the proof: there the cost must be off, or nobody would notice.
"""

import importlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache, partial
from itertools import product
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

import oracle
import widthwise
from random_networks import Spec
from random_networks.checks import TOLERANCE, build
from random_networks.reach import every_step, rules_applied
from widthwise import ChannelGraph
from widthwise.errors import WidthwiseError
from widthwise.subnet.resize import ATTRIBUTES
from widthwise.tracing.follow import Call, Flow, Rule
from widthwise.tracing.rules import RULES

tracing = importlib.import_module("widthwise.tracing.trace")  # the package holds the function of that name

EXAMPLES = int(os.environ.get("WIDTHWISE_DAMAGED_EXAMPLES", "1"))


def _check_sizes(self: nn.RNNBase, x: Tensor, sizes: Tensor | None) -> None:
    gates = {"LSTM": 4, "GRU": 3}.get(self.mode, 1)
    for name, tensor in self.named_parameters():
        if tensor.shape[0] != gates * self.hidden_size or (
            name.startswith("weight_hh") and tensor.shape[1] * gates != len(tensor)
        ):
            raise RuntimeError(f"{name} {tuple(tensor.shape)} does not fit {self.hidden_size} states")
    if x.shape[-1] != self.weight_ih_l0.shape[1]:
        raise RuntimeError("the input does not fit")


@pytest.fixture(autouse=True)
def _checked_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's recurrent layers do not look at the sizes of their weights: wrong ones would crash the process."""
    monkeypatch.setattr(nn.RNNBase, "check_input", _check_sizes)


def _deaf(method: str, rule: Rule, flow: Flow, call: Call) -> None:
    """What the rule says to the flow through this method is lost."""
    setattr(flow, method, lambda *_, **__: None)
    try:
        rule(flow, call)
    finally:
        delattr(flow, method)


def _forgetful(kept: str, rule: Rule, flow: Flow, call: Call) -> None:
    """What the rule adds to this list is lost."""
    before = len(getattr(flow, kept))
    rule(flow, call)
    del getattr(flow, kept)[before:]


def _askew(rule: Rule, flow: Flow, call: Call) -> None:
    """The rule unites each position with the neighbour of the one that it means."""
    unite = flow.unite

    def neighbours(a: Tensor, b: Tensor, *reason: object) -> None:
        a, b = (t.reshape(-1) for t in torch.broadcast_tensors(a, b))
        unite(a, b.roll(1), *reason)

    flow.unite = neighbours  # type: ignore[method-assign]
    try:
        rule(flow, call)
    finally:
        del flow.unite


def _relabelled(change: Callable[[Tensor], Tensor], rule: Rule, flow: Flow, call: Call) -> None:
    """The rule puts other labels on its results than it means."""
    rule(flow, call)
    for result in call.results():
        flow.put(result, *(change(layer) for layer in flow.layers(result)))


def _shifted(layer: Tensor) -> Tensor:
    dims = [d for d, n in enumerate(layer.shape) if n > 1]
    return layer.roll([1] * len(dims), dims)


def _swapped(layer: Tensor) -> Tensor:
    """The first two positions change places."""
    for dim, size in enumerate(layer.shape):
        if size > 1:
            order = [1, 0, *range(2, size)]
            layer = layer.index_select(dim, torch.tensor(order))
    return layer


def _unlabelled(rule: Rule, flow: Flow, call: Call) -> None:
    """The results have no channels."""
    rule(flow, call)
    for result in call.results():
        flow.put(result)


def _replaced(other: str, rule: Rule, flow: Flow, call: Call) -> None:
    """Another operation's rule."""
    RULES[other](flow, call)


DAMAGES: dict[str, Callable[..., None]] = {
    "unites nothing": partial(_deaf, "unite"),
    "pins nothing": partial(_deaf, "pin"),
    "unites neighbours": _askew,
    "forgets what it makes": partial(_forgetful, "producers"),
    "forgets what it consumes": partial(_forgetful, "consumers"),
    "shifts its labels": partial(_relabelled, _shifted),
    "swaps two labels": partial(_relabelled, _swapped),
    "ties all labels": partial(_relabelled, lambda layer: layer.reshape(-1)[:1].reshape([1] * layer.ndim)),
    "puts no labels": _unlabelled,
    "is taken for a copy": partial(_replaced, "aten::clone"),
    "is taken for pointwise": partial(_replaced, "pointwise"),
}
"""Ways for a rule to be wrong, ``(rule, flow, call)``."""

HARMLESS = {"forgets what it makes"}
"""Damages that the proof need not find: what no layer makes is pinned from the start."""


@cache
def needing() -> dict[str, list[Spec]]:
    """For each rule up to EXAMPLES networks that apply it to channels, each with another kind of step."""
    found: dict[str, list[Spec]] = defaultdict(list)
    for spec in every_step():
        for name in rules_applied(spec):
            if len(found[name]) < EXAMPLES and not any(spec[1][0] == other[1][0] for other in found[name]):
                found[name].append(spec)
    return found


def _graph(spec: Spec, proved: bool) -> ChannelGraph:
    model, example = build(spec)
    if proved:
        return widthwise.trace(model, example)
    with patch.object(tracing, "prove", lambda draft, graph, *_, **__: graph):
        return widthwise.trace(model, example)


def _facts(graph: ChannelGraph) -> str:
    """All that the rules found out, but for the cost."""
    return f"{graph.fingerprint} {sorted(graph.roles.items())}"


@cache
def _whole(spec: tuple[tuple[str, int, int], ...]) -> str:
    return _facts(_graph(list(spec), proved=False))


def outcome(spec: Spec) -> str:
    """What comes of a damage that is in force."""
    try:
        draft = _graph(spec, proved=False)
        if _facts(draft) == _whole(tuple(spec)):
            return "no effect"
        graph = _graph(spec, proved=True)
    except WidthwiseError:
        return "refused"
    model, example = build(spec)
    keeps = [oracle.random_keep(graph, seed) for seed in range(4)] + [k for _, k in list(oracle.edge_keeps(graph))[:5]]
    for keep in keeps if graph.prunable else []:
        try:
            oracle.check_subnet(model, graph, keep, example, TOLERANCE)
        except Exception as error:
            return f"WRONG ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    return "pinned by the proof" if graph.num_channels < draft.num_channels else "exact"


@pytest.mark.slow
def test_no_damaged_rule_leads_to_a_wrong_network() -> None:
    tally: dict[str, Counter[str]] = {damage: Counter() for damage in DAMAGES}
    wrong: list[str] = []
    for name, specs in sorted(needing().items()):
        for (damage, change), spec in product(DAMAGES.items(), specs):
            _whole(tuple(spec))  # before the damage
            with patch.dict(RULES, {name: partial(change, RULES[name])}):
                result = outcome(spec)
            tally[damage][result.partition(" (")[0]] += 1
            if result.startswith("WRONG"):
                wrong.append(f"{name} {damage}, {spec}: {result}")
                print(wrong[-1], flush=True)
    print(*(f"{damage}: {dict(results)}" for damage, results in tally.items()), sep="\n")
    print(f"{sum(r.total() for r in tally.values())} damaged rules, wrong networks: {len(wrong)}")
    assert not wrong, "\n".join(wrong)
    assert all(r["pinned by the proof"] for damage, r in tally.items() if damage not in HARMLESS), "damages are felt"


@pytest.mark.slow
def test_no_forgotten_attribute_leads_to_a_wrong_network() -> None:
    for kind in list(ATTRIBUTES):
        with patch.dict(ATTRIBUTES, {kind: lambda *_: {}}):
            for spec in list(every_step())[::37]:
                assert not outcome(spec).startswith("WRONG"), (kind, spec)


@pytest.mark.slow
def test_a_damaged_count_shows_in_the_cost() -> None:
    for name, specs in sorted(needing().items()):
        model, example = build(specs[0])
        before = widthwise.trace(model, example)
        with patch.dict(RULES, {name: partial(_forgetful, "arithmetic", RULES[name])}):
            graph = widthwise.trace(model, example)
        keep = torch.ones(graph.num_channels, dtype=torch.bool)
        if len(graph.layers) < len(before.layers):
            with pytest.raises(AssertionError, match="but counted"):
                oracle.check_cost(model, graph, keep, example)
        else:
            oracle.check_cost(model, graph, keep, example)
