"""Rules of the operations that only move positions: they are executed on the layers themselves."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from widthwise.tracing.follow import Call, Flow, Rule, Split
from widthwise.tracing.follow.labels import Layers, along, empty_vector, place, varying, view_layer
from widthwise.tracing.follow.reasons import CUT, MIXED_AXES, SPACE

__all__ = ["SHAPES"]


def _view(flow: Flow, call: Call) -> None:
    """Reshape; of the dimensions that an axis is split into one follows the width."""
    source = call["self"]
    layers = []
    for layer in flow.layers(source):
        moved, splits = view_layer(layer, tuple(source.shape), tuple(call.out.shape))
        for dims in splits:
            moved = _pieces(flow, moved, dims)
        kept = varying(moved)
        if len(kept) == 1:  # a size that the module may hold in an attribute
            flow.hold(moved.reshape(-1), needed=False)
        layers.append(moved)
    flow.put(call.out, *layers)


def _pieces(flow: Flow, layer: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Tie a split axis along all of its new dimensions but the one that follows the width.

    That is the last (``view(b, groups, c // groups)``), unless the flow is told of another.
    """
    flow.splits.append(Split(flow.number, layer.reshape(-1), len(dims)))
    free = dims[flow.followers.get(flow.number, -1)]
    for dim in dims:
        if dim != free:
            layer = flow.tie(layer, dim)
    return layer


def _permute(flow: Flow, call: Call) -> None:
    flow.put(call.out, *(layer.permute(call["dims"]) for layer in flow.layers(call["self"])))


def _transpose(flow: Flow, call: Call) -> None:
    flow.put(call.out, *(layer.transpose(call["dim0"], call["dim1"]) for layer in flow.layers(call["self"])))


def _t(flow: Flow, call: Call) -> None:
    flow.put(call.out, *(layer.t() for layer in flow.layers(call["self"])))


def _unsqueeze(flow: Flow, call: Call) -> None:
    flow.put(call.out, *(layer.unsqueeze(call["dim"]) for layer in flow.layers(call["self"])))


def _squeeze(flow: Flow, call: Call) -> None:
    """Dimensions of size one go; in place, the operand has the shape of the result already."""
    source, given = call["self"], call.arguments.get("dim")
    moved = []
    for layer in flow.layers(source):
        if source is not call.out:
            layer, _ = view_layer(layer, tuple(source.shape), tuple(call.out.shape))
        elif given is not None:
            dims = [given] if isinstance(given, int) else list(given)
            assert layer.ndim - call.out.ndim in (0, len(dims)), "some of the dimensions are of size one"
            layer = layer.squeeze(dims) if layer.ndim > call.out.ndim else layer
        moved.append(layer)
    flow.put(call.out, *moved)


def _expand(flow: Flow, call: Call) -> None:
    extra = call.out.ndim - call["self"].ndim
    flow.put(call.out, *(x.reshape([1] * extra + list(x.shape)) for x in flow.layers(call["self"])))


def _repeat(flow: Flow, call: Call) -> None:
    """Tiled along a channel axis, a channel stands at several positions."""
    extra = call.out.ndim - call["self"].ndim
    layers = []
    for layer in flow.layers(call["self"]):
        layer = layer.reshape([1] * extra + list(layer.shape))
        times = [n if along(layer, d) else 1 for d, n in enumerate(call["repeats"])]
        layers.append(layer.repeat(times))
    flow.put(call.out, *layers)


def _cut(flow: Flow, layer: Tensor, dim: int, widths: list[int]) -> Tensor:
    """Make the cut of a layer into pieces along ``dim`` safe, or pin it.

    It is safe where the positions along ``dim`` go together anyway, where the pieces are equal blocks that stay
    equally wide (``chunk``), and where the running module holds the pieces' widths in attributes that can follow.
    """
    vector = layer.reshape(-1)
    if len(widths) == 1 or not along(layer, dim):
        return layer
    if varying(layer) != (dim,):
        return flow.tie(layer, dim).expand_as(layer)
    pieces = vector.split(widths)
    if len(set(widths)) == 1 and widths[0] > 1:
        rows = vector.reshape(len(widths), -1)
        flow.unite(rows, rows[:1])
        if not flow.sizes.hold_list(flow.module, pieces):
            for part in (*pieces, vector):  # the module may hold the width of a piece, or of the whole
                flow.hold(part, needed=False)
    elif _held(flow, pieces):
        flow.hold(vector, needed=False)  # what is left over may be a difference: ``self.dim - self.part``
    else:
        flow.pin(layer, CUT)
    return layer


def _held(flow: Flow, pieces: Sequence[Tensor]) -> bool:
    """Whether attributes hold the width of every piece; one may be missing, as what is left over."""
    return (
        flow.sizes.hold_list(flow.module, pieces)
        or sum(flow.hold(piece, needed=True) for piece in pieces) >= len(pieces) - 1
    )


def _slice(flow: Flow, call: Call) -> None:
    source, dim = call["self"], call["dim"] % call["self"].ndim
    size, width, step = source.shape[dim], call.out.shape[dim], call.arguments.get("step", 1)
    start, *_ = range(size)[slice(call["start"], call.arguments.get("end"), step)] or (0,)
    layers: list[Tensor] = []
    for layer in flow.layers(source):
        if varying(layer) == (dim,) and step != 1 and size % step == 0 and width == size // step:  # x[:, ::2]
            layers.append(_every(flow, layer, dim, step).select(dim + 1, start))
            continue
        if along(layer, dim) and step != 1:
            flow.pin(layer, CUT)
            layer = layer.narrow(dim, 0, 1)
        if along(layer, dim):
            layer = _cut(flow, layer, dim, _widths(size, start, width)).narrow(dim, start, width)
        layers.append(layer)
    flow.put(call.out, *layers)


def _every(flow: Flow, layer: Tensor, dim: int, step: int) -> Tensor:
    """Runs of ``step`` positions go together; returns the layer with each of them along a dimension of its own."""
    runs = layer.reshape(-1, step)
    flow.unite(runs, runs[:, :1])
    apart: Tensor = layer.unflatten(dim, (-1, step))
    return apart


def _widths(size: int, start: int, width: int) -> list[int]:
    """The pieces that one slice cuts an axis into: equal blocks where it is one of them."""
    if width and size % width == 0 and start % width == 0:
        return [width] * (size // width)
    return [w for w in (start, width, size - start - width) if w]


def _select(flow: Flow, call: Call) -> None:
    dim, size = call["dim"] % call["self"].ndim, call["self"].shape[call["dim"]]
    index = call["index"] % size
    layers = []
    for layer in flow.layers(call["self"]):
        if along(layer, dim):
            if varying(layer) == (dim,):
                flow.pin(layer, CUT)
            layer = _cut(flow, layer, dim, [1] * size).narrow(dim, index, 1)
        layers.append(layer.squeeze(dim))
    flow.put(call.out, *layers)


def _split(flow: Flow, call: Call) -> None:
    """Split and unbind: pieces at fixed or equal widths."""
    source, dim = call["self"], call["dim"] % call["self"].ndim
    unbind = call.name == "aten::unbind"
    widths = [1 if unbind else piece.shape[dim] for piece in call.out]
    layers = [_cut(flow, layer, dim, widths) for layer in flow.layers(source)]
    start = 0
    for piece, width in zip(call.out, widths, strict=True):
        cut = [layer.narrow(dim, start, width) if along(layer, dim) else layer for layer in layers]
        flow.put(piece, *(layer.squeeze(dim) if unbind else layer for layer in cut))
        start += width


def _join(flow: Flow, parts: list[tuple[Tensor, Layers]], dim: int) -> list[Tensor]:
    """Concatenate layers along ``dim``; parts without one are fixed there."""
    patterns = [[varying(layer) for layer in layers] for _, layers in parts]
    if all(len(set(dims)) == len(dims) and all(len(d) == 1 for d in dims) for dims in patterns):
        return [_join_along(flow, parts, d, dim) for d in sorted({d for dims in patterns for (d,) in dims})]
    if any(len(layers) > 1 for _, layers in parts):
        for _, layers in parts:
            for layer in layers:
                flow.pin(layer, MIXED_AXES)
        return []
    zeros = torch.zeros([1] * parts[0][0].ndim, dtype=torch.int64)
    found = [(t, layers[0] if layers else zeros) for t, layers in parts]
    dims = {d for _, layer in found for d in varying(layer)} | {dim}
    joined = torch.cat([x.expand([n if d in dims else 1 for d, n in enumerate(t.shape)]) for t, x in found], dim)
    for d in dims - {dim}:  # positions beside one another along `dim` must be removed together
        if not joined.narrow(d, 0, 1).eq(joined).all():
            first = joined.narrow(dim, 0, 1)
            flow.unite(joined, first)
            joined = first
    return [joined]


def _join_along(flow: Flow, parts: list[tuple[Tensor, Layers]], d: int, dim: int) -> Tensor:
    """The nodes along one dimension of parts that are concatenated along another, or the same; as a layer."""
    found = [next((x.reshape(-1) for x in layers if along(x, d)), empty_vector(t.shape[d])) for t, layers in parts]
    if d == dim:
        return place(torch.cat(found), parts[0][0].ndim, d)
    for nodes in found[1:]:  # positions beside one another must be removed together
        flow.unite(found[0], nodes)
    flow.alike.append(found)
    return place(found[0], parts[0][0].ndim, d)


def _number_fills(flow: Flow, tensors: Sequence[Tensor], dim: int) -> None:
    """Fills vary where the others do, or along ``dim``: beside these with channels of their own, above with theirs."""
    dims = {d for t in tensors for layer in flow.layers(t) for d in varying(layer)} or {dim}
    for tensor in tensors:
        if len(dims) == 1 and tensor in flow.fills:
            flow.axis(tensor, next(iter(dims)))


def _cat(flow: Flow, call: Call) -> None:
    tensors = [t for t in call["tensors"] if t.ndim == call.out.ndim]  # legacy: cat skips empty 1-d tensors
    dim = call["dim"] % call.out.ndim
    _number_fills(flow, tensors, dim)
    if any(flow.layers(t) for t in tensors):
        flow.put(call.out, *_join(flow, [(t, flow.layers(t)) for t in tensors], dim))


def _stack(flow: Flow, call: Call) -> None:
    dim = call["dim"] % call.out.ndim
    if any(flow.layers(t) for t in call["tensors"]):
        _number_fills(flow, call["tensors"], dim)
    parts = [(t.detach().unsqueeze(dim), tuple(x.unsqueeze(dim) for x in flow.layers(t))) for t in call["tensors"]]
    if any(layers for _, layers in parts):
        flow.put(call.out, *_join(flow, parts, dim))


def _pad(flow: Flow, call: Call) -> None:
    """Padded positions are fixed, copied ones stay what they are."""
    source, pad = call["self"], call["pad"]
    pairs = {source.ndim - 1 - i // 2: (a, b) for i, (a, b) in enumerate(pairwise(pad)) if i % 2 == 0}
    layers = []
    for layer in flow.layers(source):
        if any(min(pairs.get(d, (0, 0))) < 0 for d in varying(layer)):
            flow.pin(layer, CUT)
        amounts = [
            n for d in reversed(range(source.ndim)) for n in (pairs.get(d, (0, 0)) if along(layer, d) else (0, 0))
        ]
        layers.append(F.pad(layer, amounts))
    flow.put(call.out, *layers)


def _unfold(flow: Flow, call: Call) -> None:
    """Windows along one dimension, each with its positions in a new last one."""
    dim = call["dimension"] % call["self"].ndim
    layers = []
    for layer in flow.layers(call["self"]):
        if along(layer, dim):
            flow.pin(layer, SPACE)
        else:
            layers.append(layer.unsqueeze(-1))
    flow.put(call.out, *layers)


def _flip(flow: Flow, call: Call) -> None:
    """The last comes first."""
    flow.put(call.out, *(layer.flip(call["dims"]) for layer in flow.layers(call["self"])))


def _as_real(flow: Flow, call: Call) -> None:
    """A complex number is two numbers along a new last dimension."""
    flow.put(call.out, *(layer.unsqueeze(-1) for layer in flow.layers(call["self"])))


def _as_complex(flow: Flow, call: Call) -> None:
    """Two numbers along the last dimension are a complex one."""
    layers = []
    for layer in flow.layers(call["self"]):
        if along(layer, layer.ndim - 1):
            flow.pin(layer, MIXED_AXES)
        else:
            layers.append(layer.squeeze(-1))
    flow.put(call.out, *layers)


SHAPES: dict[str, Rule] = {
    f"aten::{name}": rule
    for rule, names in (
        (_view, ("view", "_unsafe_view", "_reshape_alias", "view_copy")),
        (_permute, ("permute", "permute_copy")),
        (_transpose, ("transpose", "transpose_", "transpose_copy")),
        (_t, ("t", "t_")),
        (_squeeze, ("squeeze", "squeeze_")),
        (_unsqueeze, ("unsqueeze", "unsqueeze_")),
        (_expand, ("expand", "expand_copy")),
        (_repeat, ("repeat",)),
        (_slice, ("slice", "narrow_copy")),
        (_select, ("select",)),
        (_split, ("split", "split_with_sizes", "unbind", "unsafe_split", "unsafe_split_with_sizes")),
        (_cat, ("cat",)),
        (_stack, ("stack",)),
        (_pad, ("constant_pad_nd",)),
        (_unfold, ("unfold",)),
        (_flip, ("flip",)),
        (_as_real, ("view_as_real", "view_as_real_copy")),
        (_as_complex, ("view_as_complex",)),
    )
    for name in names
}
"""Rule per operation name."""
