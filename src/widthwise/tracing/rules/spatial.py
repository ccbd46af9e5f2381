"""Rules of the operations over space or time: pooling, resizing, padding, windows, sampling, packing, pixel shuffle.

Channels pass; what varies along the dimensions that an operation works on is pinned.
"""

from collections.abc import Collection
from math import prod

from torch import Tensor

from widthwise.tracing.follow import Call, Flow, Rule
from widthwise.tracing.follow.labels import along, place
from widthwise.tracing.follow.reasons import ADDRESS, SPACE
from widthwise.tracing.rules.meeting import meet, side

__all__ = ["SPATIAL"]


def _clear_of(flow: Flow, tensor: Tensor, dims: Collection[int]) -> list[Tensor]:
    """The layers that do not vary along these dimensions; the others are pinned."""
    kept = []
    for layer in flow.layers(tensor):
        if any(along(layer, d) for d in dims):
            flow.pin(layer, SPACE)
        else:
            kept.append(layer)
    return kept


def _pool(flow: Flow, call: Call) -> None:
    """Space changes, channels stay; what varies along space is pinned."""
    source = call.operands()[0]
    digits = [c for c in call.name if c.isdigit()]
    space = int(digits[-1]) if digits else source.ndim - 2
    kept = _clear_of(flow, source, range(source.ndim - space, source.ndim))
    for result in call.results():
        flow.put(result, *kept)


def _pack(flow: Flow, call: Call) -> None:
    """Sequences of several lengths: batch and time become one dimension."""
    flow.put(call.results()[0], *(layer.squeeze(0) for layer in _clear_of(flow, call["input"], (0, 1))))


def _unpool(flow: Flow, call: Call) -> None:
    """Values go back to where a pooling took them from; both go with their channels."""
    x, indices = call["self"], call["indices"]
    space = range(x.ndim - (2 if "2d" in call.name else 3), x.ndim)
    sides = [side(flow, t).without(flow, space, SPACE) for t in (x, indices)]
    flow.put(call.out, *meet(flow, x.ndim, sides))


def _rotate(flow: Flow, call: Call) -> None:
    """Two dimensions of space change places."""
    x = call["self"]
    flow.put(call.out, *_clear_of(flow, x, [d % x.ndim for d in call["dims"]]))


def _triangle(flow: Flow, call: Call) -> None:
    """One half of each matrix becomes zero."""
    x = call["self"]
    flow.put(call.out, *_clear_of(flow, x, (x.ndim - 2, x.ndim - 1)))


def _sample(flow: Flow, call: Call) -> None:
    """Channels are read at places that the other operand names."""
    x, places = call["input"], call["grid" if "grid" in call.arguments else "rois"]
    flow.pin_all(places, ADDRESS)
    kept = _clear_of(flow, x, [d for d in range(x.ndim) if d != 1])
    for result in call.results():
        flow.put(result, *kept)


def _im2col(flow: Flow, call: Call) -> None:
    """``[N, C, H, W]`` to ``[N, C * window, places]``: each channel stands at the positions of its window."""
    x, window = call["self"], prod(call["kernel_size"])
    dim = x.ndim - 3
    layers = []
    for layer in _clear_of(flow, x, (dim + 1, dim + 2)):
        if along(layer, dim):
            layer = layer.repeat_interleave(window, dim)
        layers.append(layer.squeeze(-1))
    flow.put(call.out, *layers)


def _col2im(flow: Flow, call: Call) -> None:
    """The way back: the positions of one window go together, as one channel."""
    x, window = call["self"], prod(call["kernel_size"])
    dim = x.ndim - 2
    layers = []
    for layer in _clear_of(flow, x, (dim + 1,)):
        if along(layer, dim):
            layer = flow.tie(layer.unflatten(dim, (-1, window)), dim + 1).squeeze(dim + 1)
        layers.append(layer.unsqueeze(-1))
    flow.put(call.out, *layers)


def _pixel_shuffle(flow: Flow, call: Call) -> None:
    """Each output channel takes ``r * r`` neighbouring input channels, which go together."""
    x, r = call["self"], call["upscale_factor"]
    blocks = flow.axis(x, x.ndim - 3, SPACE).reshape(-1, r * r)
    flow.unite(blocks, blocks[:, :1])
    flow.put(call.out, place(blocks[:, 0], x.ndim, x.ndim - 3))


def _pixel_unshuffle(flow: Flow, call: Call) -> None:
    """Each input channel becomes ``r * r`` output channels."""
    x, r = call["self"], call["downscale_factor"]
    nodes = flow.axis(x, x.ndim - 3, SPACE)
    flow.put(call.out, place(nodes.repeat_interleave(r * r), x.ndim, x.ndim - 3))


_RESIZED = (
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
    *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"),
    *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "_upsample_lanczos2d_aa"),
)

SPATIAL: dict[str, Rule] = {
    **{
        f"aten::{name}": rule
        for rule, names in (
            (_pool, ("max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool2d")),
            (_pool, ("avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d")),
            (_pool, ("adaptive_max_pool2d", "adaptive_max_pool3d")),
            (_pool, _RESIZED),
            (_pool, ("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")),
            (_pool, ("replication_pad1d", "replication_pad2d", "replication_pad3d")),
            (_pack, ("_pack_padded_sequence",)),
            (_unpool, ("max_unpool2d", "max_unpool3d")),
            (_rotate, ("rot90",)),
            (_triangle, ("tril", "triu")),
            (_sample, ("grid_sampler_2d", "grid_sampler_3d")),
            (_im2col, ("im2col",)),
            (_col2im, ("col2im",)),
            (_pixel_shuffle, ("pixel_shuffle",)),
            (_pixel_unshuffle, ("pixel_unshuffle",)),
        )
        for name in names
    },
    "torchvision::roi_align": _sample,
    "torchvision::roi_pool": _sample,
}
"""Rule per operation name."""
