"""Rules of the operations that only move positions: they are executed on the layers themselves."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from widthwise.tracing.flow import Call, Flow, Rule
from widthwise.tracing.labels import Layers, along, varying, view_layer
from widthwise.tracing.reasons import CUT, INDEXED, MIXED_AXES

__all__ = ["SHAPES"]


def _view(flow: Flow, call: Call) -> None:
    """Reshape; the pieces of an axis that is split must stay equally wide."""
    source = call["self"]
    layers = []
    for layer in flow.layers(source):
        moved, splits = view_layer(layer, tuple(source.shape), tuple(call.out.shape))
        for dims in splits:
            for dim in dims:
                flow.unite(moved, moved.narrow(dim, 0, 1))
        layers.append(moved)
    flow.put(call.out, *layers)


def _permute(flow: Flow, call: Call) -> None:
    flow.put(call.out, *(layer.permute(call["dims"]) for layer in flow.layers(call["self"])))


def _transpose(flow: Flow, call: Call) -> None:
    flow.put(call.out, *(layer.transpose(call["dim0"], call["dim1"]) for layer in flow.layers(call["self"])))


def _t(flow: Flow, call: Call) -> None:
    flow.put(call.out, *(layer.t() for layer in flow.layers(call["self"])))


def _squeeze_or_unsqueeze(flow: Flow, call: Call) -> None:
    """Dimensions of size one come and go; the others keep their order."""
    source = call["self"]
    moved = []
    for layer in flow.layers(source):
        moved.append(view_layer(layer, tuple(source.shape), tuple(call.out.shape))[0])
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


def _piece(flow: Flow, layer: Tensor, dim: int, start: int, width: int, blocks: bool) -> Tensor:
    """The part of a layer at ``start`` along ``dim``, once its cut is safe.

    A cut through an axis is safe when the axis falls into equal blocks that stay equally wide (``chunk``), or
    when the blocks along ``dim`` already go together position by position; otherwise it is pinned.
    """
    if not along(layer, dim):
        return layer
    size = layer.shape[dim]
    others = [d for d in varying(layer) if d != dim]
    if others:
        flow.tie(layer, dim)
    elif blocks and 1 < width < size and size % width == 0 and start % width == 0:
        rows = layer.reshape(-1, width)
        flow.unite(rows, rows[:1])
    elif width != size:
        flow.pin(layer, CUT)
    return layer.narrow(dim, start, width)


def _slice(flow: Flow, call: Call) -> None:
    source, dim = call["self"], call["dim"] % call["self"].ndim
    size, width, step = source.shape[dim], call.out.shape[dim], call["step"]
    start, *_ = range(size)[slice(call["start"], call["end"], step)] or (0,)
    layers: list[Tensor] = []
    for layer in flow.layers(source):
        if along(layer, dim) and step != 1:
            flow.pin(layer, CUT)
            layer = layer.narrow(dim, 0, 1)
        layers.append(_piece(flow, layer, dim, start, width, True))
    flow.put(call.out, *layers)


def _select(flow: Flow, call: Call) -> None:
    dim, size = call["dim"] % call["self"].ndim, call["self"].shape[call["dim"]]
    index = call["index"] % size
    cut = [_piece(flow, layer, dim, index, 1, False) for layer in flow.layers(call["self"])]
    flow.put(call.out, *(layer.squeeze(dim) for layer in cut))


def _split(flow: Flow, call: Call) -> None:
    """Split and unbind: pieces at fixed or equal widths."""
    source, dim = call["self"], call["dim"] % call["self"].ndim
    unbind = call.name == "aten::unbind"
    widths = [1 if unbind else piece.shape[dim] for piece in call.out]
    start = 0
    for piece, width in zip(call.out, widths, strict=True):
        cut = [_piece(flow, layer, dim, start, width, len(set(widths)) == 1) for layer in flow.layers(source)]
        flow.put(piece, *(layer.squeeze(dim) if unbind else layer for layer in cut))
        start += width


def _join(flow: Flow, parts: list[tuple[Tensor, Layers]], dim: int) -> list[Tensor]:
    """Concatenate layers along ``dim``; parts without one are fixed there."""
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


def _cat(flow: Flow, call: Call) -> None:
    tensors = [t for t in call["tensors"] if t.ndim == call.out.ndim]  # legacy: cat skips empty 1-d tensors
    if any(flow.layers(t) for t in tensors):
        dim = call["dim"] % call.out.ndim
        flow.put(call.out, *_join(flow, [(t, flow.layers(t)) for t in tensors], dim))


def _stack(flow: Flow, call: Call) -> None:
    dim = call["dim"] % call.out.ndim
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


def _index_select(flow: Flow, call: Call) -> None:
    dim = call["dim"] % call["self"].ndim
    layers = []
    for layer in flow.layers(call["self"]):
        if along(layer, dim):
            flow.pin(layer, INDEXED)
            layer = layer.index_select(dim, call["index"].cpu())
        layers.append(layer)
    flow.put(call.out, *layers)


SHAPES: dict[str, Rule] = {
    f"aten::{name}": rule
    for rule, names in (
        (_view, ("view", "_unsafe_view", "reshape", "_reshape_alias", "view_copy", "unflatten", "flatten")),
        (_permute, ("permute", "permute_copy")),
        (_transpose, ("transpose", "transpose_", "transpose_copy")),
        (_t, ("t", "t_")),
        (_squeeze_or_unsqueeze, ("squeeze", "squeeze_", "unsqueeze", "unsqueeze_")),
        (_expand, ("expand", "expand_copy")),
        (_repeat, ("repeat",)),
        (_slice, ("slice",)),
        (_select, ("select",)),
        (_split, ("split", "split_with_sizes", "unbind", "unsafe_split", "unsafe_chunk")),
        (_cat, ("cat", "_cat")),
        (_stack, ("stack",)),
        (_pad, ("constant_pad_nd",)),
        (_index_select, ("index_select",)),
    )
    for name in names
}
"""Rule per operation name."""
