"""Rules of the operations that read and write at places which other tensors name: index, gather, scatter.

Channels pass where they do not lie along what is indexed; a fixed index along them pins them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from widthwise.tracing.follow import Call, Flow, Rule
from widthwise.tracing.follow.labels import along, compress, place
from widthwise.tracing.follow.reasons import ADDRESS, CUT, INDEXED, LOOKED_UP
from widthwise.tracing.rules.meeting import Side, meet, side

__all__ = ["INDEXING"]


def _index(flow: Flow, call: Call) -> None:
    """Advanced indexing: the axes that are not indexed keep their nodes."""
    flow.put(call.out, *_taken(flow, call["self"], call["indices"]))


def _taken(flow: Flow, tensor: Tensor, given: Sequence[Tensor | None]) -> list[Tensor]:
    """The layers of ``tensor[given]``."""
    indices = [slice(None) if i is None else i for i in given]
    layers = []
    for layer in flow.layers(tensor):
        taken: list[slice | Tensor] = []
        dim = 0
        for index in indices:
            width = index.ndim if isinstance(index, Tensor) and _is_mask(index) else 1
            if isinstance(index, Tensor) and any(along(layer, d) for d in range(dim, dim + width)):
                flow.pin(layer, INDEXED)
            taken += [index] if isinstance(index, slice) else _positions(index, width)
            dim += width
        if not any(along(layer, d) for d, i in enumerate(taken) if isinstance(i, Tensor)):
            layers.append(compress(layer[tuple(torch.zeros_like(i) if isinstance(i, Tensor) else i for i in taken)]))
    return layers


def _is_mask(index: Tensor) -> bool:
    return index.dtype in (torch.bool, torch.uint8)


def _positions(index: Tensor, width: int) -> list[Tensor]:
    """An index tensor per dimension: a mask is one for each of its dimensions."""
    return list(index.cpu().nonzero(as_tuple=True)) if width > 1 or index.dtype == torch.bool else [index.cpu().long()]


def _index_put(flow: Flow, call: Call) -> None:
    """``x[indices] = values``: a mask that is set to one number is met position by position."""
    x, values = call["self"], call["values"]
    indices = [i for i in call["indices"] if i is not None]
    if len(call["indices"]) == 1 and _is_mask(indices[0]) and values.numel() == 1:
        sides = [side(flow, x), _spread(flow, indices[0], x.ndim)]
        flow.put(call.out, *meet(flow, x.ndim, sides))
        return
    for index in indices:
        flow.pin_all(index, ADDRESS)
    spot = x[tuple(slice(None) if i is None else i for i in call["indices"])]
    read = Side(tuple(spot.shape), (False,) * spot.ndim, tuple(_taken(flow, x, call["indices"])))
    meet(flow, spot.ndim, [read, side(flow, values)])
    flow.put(call.out, *flow.layers(x))


def _spread(flow: Flow, mask: Tensor, ndim: int) -> Side:
    """A mask over the first dimensions of something with more of them."""
    more = (1,) * (ndim - mask.ndim)
    layers = tuple(layer.reshape(tuple(layer.shape) + more) for layer in flow.layers(mask))
    return Side(tuple(mask.shape) + more, (False,) * ndim, layers)


def _index_select(flow: Flow, call: Call) -> None:
    """Positions along ``dim`` in another order, or some of them."""
    dim = call["dim"] % call["self"].ndim
    layers = []
    for layer in flow.layers(call["self"]):
        if along(layer, dim):
            flow.pin(layer, INDEXED)
            layer = layer.index_select(dim, call["index"].cpu())
        layers.append(layer)
    flow.put(call.out, *layers)


def _gather(flow: Flow, call: Call) -> None:
    """Each position of the index names one of its own row: along the other dimensions they go together."""
    x, index = call["self"], call["index"]
    dim = call["dim"] % max(x.ndim, 1)
    smaller = [d for d in range(x.ndim) if d != dim and x.shape[d] != index.shape[d]]
    rows = side(flow, x).without(flow, [dim], INDEXED).without(flow, smaller, CUT)
    flow.put(call.out, *meet(flow, call.out.ndim, [rows, side(flow, index)]))


def _scatter(flow: Flow, call: Call) -> None:
    """Written along ``dim`` at places that an index names: along the other dimensions all go together."""
    x = call["self"]
    dim = call["dim"] % max(x.ndim, 1)
    whole = side(flow, x)
    for layer in whole.layers:
        if along(layer, dim):
            flow.pin(layer, INDEXED)
    sides = [whole]
    for name in ("index", "src", "source"):
        other = call.arguments.get(name)
        if not isinstance(other, Tensor):
            continue
        if other.ndim != x.ndim or (name == "index" and "source" in call.arguments):
            flow.pin_all(other, ADDRESS)  # a vector of places
            continue
        smaller = [d for d in range(x.ndim) if d != dim and x.shape[d] != other.shape[d]]
        for layer in whole.layers:
            if any(along(layer, d) for d in smaller):
                flow.pin(layer, CUT)
        sides.append(side(flow, other).without(flow, [dim], ADDRESS).without(flow, smaller, CUT))
    flow.put(call.out, *meet(flow, x.ndim, sides))


def _embedding(flow: Flow, call: Call) -> None:
    """Rows are looked up; the columns are channels that the embedding creates."""
    weight = call["weight"]
    flow.pin(flow.axis(weight, 0), LOOKED_UP)
    columns = flow.axis(weight, 1)
    flow.producers.append(columns)
    flow.put(call.out, place(columns, call.out.ndim, call.out.ndim - 1))


INDEXING: dict[str, Rule] = {
    f"aten::{name}": rule
    for rule, names in (
        (_index, ("index",)),
        (_index_put, ("index_put",)),
        (_index_select, ("index_select",)),
        (_gather, ("gather",)),
        (_scatter, ("scatter", "scatter_add", "scatter_reduce")),
        (_scatter, ("index_add", "index_copy", "index_fill")),
        (_embedding, ("embedding",)),
    )
    for name in names
}
"""Rule per operation name."""
