"""Rules of the operations that sum over an axis: convolutions and matrix products.

They create the channels of their output axis and consume those of their input axis. The input axis of a weight is
where a removed channel can be silenced exactly (its input weights are zero), so only what is consumed by a weight
can be pruned; a product of two activations over channels is pinned. They are also what costs multiply-adds.
"""

from math import prod

import torch
from torch import Tensor

from widthwise.tracing.follow import Call, Flow, Rule
from widthwise.tracing.follow.labels import along, empty_vector, place, varying
from widthwise.tracing.follow.reasons import ADDRESS, MULTIPLIER, PRODUCT, SPACE, WHOLE_WEIGHT
from widthwise.tracing.rules.meeting import meet, side

__all__ = ["CONTRACTIONS"]


def _convolution(flow: Flow, call: Call) -> None:
    """Convolution, plain, grouped, depthwise or transposed."""
    outgoing = _convolve(flow, call, call["groups"], call["transposed"])
    if call["bias"] is not None:
        flow.unite(flow.axis(call["bias"], 0), outgoing)


def _convolve(flow: Flow, call: Call, groups: int, transposed: bool) -> Tensor:
    """What all convolutions share; returns the nodes of the output's channels."""
    x, weight = call["input"], call["weight"]
    incoming = flow.axis(x, 1, SPACE)
    rows, columns = (flow.axis(weight, d) for d in (0, 1))
    pointwise = prod(weight.shape[2:]) == 1 and x.shape[2:] == call.out.shape[2:]  # each position by itself
    passing = []
    for layer in flow.layers(x):
        if len(varying(layer)) == 1 and not along(layer, 1) and (pointwise or along(layer, 0)):
            passing.append(layer)
        elif not along(layer, 1):
            flow.pin(layer, SPACE)
    whole = x if transposed else call.out
    positions = [
        _rows(flow, x, d) if d == 0 or pointwise else empty_vector(whole.shape[d]) for d in (0, *range(2, x.ndim))
    ]
    repeated = _repeated(weight, groups) and not rows.any() and not transposed
    flow.count(prod(weight.shape[2:]), *positions, incoming if repeated else rows, columns)
    for layer in flow.layers(weight):
        if any(along(layer, d) for d in range(2, weight.ndim)):
            flow.windows.append(layer.reshape(-1))
    consumed, produced = (rows, columns) if transposed else (columns, rows)
    if groups > 1 and weight.shape[1 if not transposed else 0] == (1 if not transposed else groups):
        outgoing = incoming if repeated else _depthwise(flow, incoming, consumed, produced, groups, transposed)
        flow.hold(incoming, needed=False)  # of a module that is no convolution itself, and passes the number of groups
    else:
        outgoing = _grouped(flow, incoming, consumed, produced, groups, transposed)
    flow.put(call.out, *passing, place(outgoing, call.out.ndim, 1))
    return outgoing


def _repeated(weight: Tensor, groups: int) -> bool:
    """Whether a depthwise kernel is one kernel, expanded to however many channels there are (blur pooling)."""
    return groups > 1 and weight.shape[0] == groups and weight.stride(0) == 0


def _deformed_convolution(flow: Flow, call: Call) -> None:
    """A convolution that reads at places of its own; the channels that share their places are equally many."""
    for name in ("offset", "mask"):
        flow.pin_all(call[name], ADDRESS)
    groups, parts = call["groups"], call["offset_groups"]
    blocks = flow.axis(call["input"], 1, SPACE).reshape(parts, -1)
    flow.unite(blocks, blocks[:1])
    outgoing = _convolve(flow, call, groups, transposed=False)
    if flow.layers(call["bias"]):  # otherwise zeros as long as there are filters
        flow.unite(flow.axis(call["bias"], 0), outgoing)


def _grouped(flow: Flow, incoming: Tensor, consumed: Tensor, produced: Tensor, groups: int, transposed: bool) -> Tensor:
    """Position ``j`` of every convolution group goes with position ``j`` of the others."""
    incoming = incoming.reshape(groups, -1)
    if transposed:
        consumed = consumed.reshape(groups, -1)
        flow.unite(consumed, consumed[:1])
        produced = produced.repeat(groups)
    flow.unite(incoming, consumed.reshape(-1, incoming.shape[1]))
    if not transposed:
        blocks = produced.reshape(groups, -1)
        flow.unite(blocks, blocks[:1])
    flow.consumers.append(consumed.reshape(-1))
    flow.producers.append(produced)
    return produced


def _depthwise(
    flow: Flow, incoming: Tensor, consumed: Tensor, produced: Tensor, groups: int, transposed: bool
) -> Tensor:
    """Each channel has filters of its own: they go with it, and the number of groups follows."""
    if transposed:
        flow.unite(consumed, incoming)
        flow.producers.append(consumed)
        flow.pin(produced, MULTIPLIER)
        return incoming.repeat_interleave(len(produced))
    multiplier = len(produced) // groups
    flow.unite(produced, incoming.repeat_interleave(multiplier))
    flow.producers.append(produced)
    return produced


def _product(flow: Flow, a: Tensor, b: Tensor, out: Tensor) -> None:
    """``[..., m, k] @ [..., k, n]``: ``k`` is consumed, ``m`` and ``n`` pass on."""
    left, right = flow.axis(a, a.ndim - 1), flow.axis(b, b.ndim - 2)
    ours, theirs = flow.weight(a), flow.weight(b)
    if ours == theirs:
        for nodes in (left, right):
            flow.pin(nodes, PRODUCT)
    flow.unite(left, right)
    if theirs > ours:
        flow.consumers.append(right)
        flow.producers.append(flow.axis(b, b.ndim - 1))
    elif ours > theirs:
        flow.consumers.append(left)
        flow.producers.append(flow.axis(a, a.ndim - 2))
    rows, columns = _passing(flow, a, a.ndim - 1, out), _passing(flow, b, b.ndim - 2, out)
    merged = rows
    for layer in columns:
        merged = flow.meet(merged, layer)
    flow.put(out, *merged)
    batch = [_rows(flow, out, d) for d in range(out.ndim - 2)]
    flow.count(1, *batch, _rows(flow, a, -2), left.maximum(right), _rows(flow, b, -1))


def _rows(flow: Flow, tensor: Tensor, dim: int) -> Tensor:
    """The nodes along an axis that passes through a product, a row per layer; zeros where it is fixed or mixed."""
    dim %= tensor.ndim
    layers = [x.reshape(-1) for x in flow.layers(tensor) if varying(x) == (dim,)]
    return torch.stack(layers) if layers else empty_vector(tensor.shape[dim])


def _passing(flow: Flow, tensor: Tensor, contracted: int, out: Tensor) -> list[Tensor]:
    """The layers of an operand that do not lie along the contracted axis."""
    return [x for x in flow.layers(tensor) if not along(x, contracted) and x.ndim == out.ndim]


def _mm(flow: Flow, call: Call) -> None:
    _product(flow, call["self"], call["mat2"], call.out)


def _addmm(flow: Flow, call: Call) -> None:
    """A product plus a bias along its last axis."""
    first, second = (call["mat1"], call["mat2"]) if "mat1" in call.arguments else (call["batch1"], call["batch2"])
    _product(flow, first, second, call.out)
    _add_bias(flow, call["self"], call.out)


def _add_bias(flow: Flow, bias: Tensor, out: Tensor) -> None:
    nodes = flow.axis(bias, bias.ndim - 1) if bias.ndim else empty_vector(1)
    if len(nodes) == out.shape[-1]:
        flow.unite(nodes, flow.axis(out, out.ndim - 1))


def _linear(flow: Flow, call: Call) -> None:
    """``x [..., k]`` times ``weight [n, k]``."""
    x, weight, bias = call["input"], call["weight"], call["bias"]
    incoming, columns = flow.axis(x, x.ndim - 1, SPACE), flow.axis(weight, 1)
    produced = flow.axis(weight, 0)
    flow.unite(incoming, columns)
    flow.consumers.append(columns)
    flow.producers.append(produced)
    flow.count(1, *[_rows(flow, x, d) for d in range(x.ndim - 1)], columns, produced)
    passing = [layer for layer in flow.layers(x) if not along(layer, x.ndim - 1)]
    flow.put(call.out, *passing, place(produced, call.out.ndim, call.out.ndim - 1))
    if bias is not None:
        _add_bias(flow, bias, call.out)


def _mv(flow: Flow, call: Call) -> None:
    """``[m, k] @ [k]``, with something added for some."""
    matrix, vector = call["mat" if "mat" in call.arguments else "self"], call["vec"]
    rows = [layer.squeeze(1) for layer in flow.layers(matrix) if not along(layer, 1)]
    _inner(flow, matrix, vector)
    flow.put(call.out, *rows)
    if "mat" in call.arguments:
        flow.put(call.out, *meet(flow, 1, [side(flow, t) for t in (call.out, call["self"])]))


def _dot(flow: Flow, call: Call) -> None:
    """The sum of the products of two vectors."""
    first, second = call.operands()
    _inner(flow, first, second)


def _inner(flow: Flow, a: Tensor, b: Tensor) -> None:
    """The last axis of one is summed over with the only one of the other; a weight consumes an activation there."""
    left, right = flow.axis(a, a.ndim - 1), flow.axis(b, 0)
    ours, theirs = flow.weight(a), flow.weight(b)
    if min(ours, theirs) or ours == theirs:  # of two weights neither is what the other reads
        for nodes in (left, right):
            flow.pin(nodes, WHOLE_WEIGHT if min(ours, theirs) else PRODUCT)
    flow.unite(left, right)
    flow.count(1, *[_rows(flow, a, 0)][: a.ndim - 1], left.maximum(right))
    if theirs > ours:
        flow.consumers.append(right)
    elif ours > theirs:
        flow.consumers.append(left)
        flow.producers.append(flow.axis(a, 0) if a.ndim > 1 else empty_vector(0))


CONTRACTIONS: dict[str, Rule] = {
    "aten::convolution": _convolution,
    "aten::_convolution": _convolution,
    "aten::mm": _mm,
    "aten::bmm": _mm,
    "aten::addmm": _addmm,
    "aten::baddbmm": _addmm,
    "aten::mv": _mv,
    "aten::addmv": _mv,
    "aten::dot": _dot,
    "aten::vdot": _dot,
    "aten::linear": _linear,
    "torchvision::deform_conv2d": _deformed_convolution,
}
"""Rule per operation name."""
