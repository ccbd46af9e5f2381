"""Label layers: which node stands at each position of a tensor.

A *node* is one position of one axis of one parameter or buffer, numbered from 1; node 0 means *fixed*: a
position that can never be removed. Beside each tensor the trace keeps a few *layers*: int64 tensors with as
many dimensions as the tensor, of size 1 wherever the node does not change along that dimension, so a layer of
an activation is a vector and costs nothing. A weight ``[out, in, kh, kw]`` starts with one layer per axis.

This module is the pure part: shapes in, layers out; no graph, no rules.
"""

from math import prod

import torch
from torch import Tensor

__all__ = ["Layers", "along", "as_vector", "compress", "empty_vector", "place", "same_pattern", "varying", "view_layer"]

Layers = tuple[Tensor, ...]


def varying(layer: Tensor) -> tuple[int, ...]:
    """The dimensions along which the node changes."""
    return tuple(d for d, n in enumerate(layer.shape) if n > 1)


def along(layer: Tensor, dim: int) -> bool:
    """Whether the node changes along ``dim``."""
    return layer.shape[dim] > 1


def place(vector: Tensor, ndim: int, dim: int) -> Tensor:
    """A layer of ``ndim`` dimensions that holds ``vector`` along ``dim``."""
    return vector.reshape([-1 if d == dim else 1 for d in range(ndim)])


def as_vector(layer: Tensor, size: int) -> Tensor:
    """The nodes along the only varying dimension, ``[size]``."""
    return layer.reshape(-1).expand(size)


def compress(layer: Tensor) -> Tensor:
    """The same layer with size 1 along each dimension where it turns out to be constant."""
    for d in varying(layer):
        first = layer.narrow(d, 0, 1)
        if bool((layer == first).all()):
            layer = first
    return layer


def same_pattern(a: Tensor, b: Tensor) -> bool:
    """Whether two layers change at the same positions: one is the other with its nodes renamed."""
    a, b = (t.reshape(-1) for t in torch.broadcast_tensors(a, b))
    pairs = torch.stack([a, b]).unique(dim=1).shape[1]
    return bool(pairs == len(a.unique()) == len(b.unique()))


def _blocks(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Pair the dimensions of a view: smallest runs of old and new dimensions with equal products."""
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        left, right = [], []
        a = b = 1
        if i < len(old):
            a, left, i = old[i], [i], i + 1
        if j < len(new):
            b, right, j = new[j], [j], j + 1
        while a != b:
            if a < b:
                a, i = a * old[i], i + 1
                left.append(i - 1)
            else:
                b, j = b * new[j], j + 1
                right.append(j - 1)
        blocks.append((left, right))
    return blocks


def view_layer(layer: Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> tuple[Tensor, list[tuple[int, ...]]]:
    """Reshape a layer as its tensor is reshaped from ``old`` to ``new``.

    Returns the new layer and, for each axis that was *split*, the new dimensions along which its nodes change: a
    smaller network can keep the size of all of them but one, and the caller says which one follows the width.
    """
    if 0 in old:
        return layer.new_zeros([1] * len(new)), []
    source, target = [1] * len(old), [1] * len(new)
    moved: list[tuple[list[int], list[int]]] = []
    for left, right in _blocks(old, new):
        if any(along(layer, d) for d in left):
            moved.append((left, right))
            for d in left:
                source[d] = old[d]
            for d in right:
                target[d] = new[d]
    assert prod(source) == prod(target)
    result = compress(layer.expand(source).reshape(target))
    splits = []
    for left, right in moved:
        after = [d for d in right if along(result, d)]
        if len(after) > sum(along(layer, d) for d in left):
            splits.append(tuple(after))
    return result, splits


def empty_vector(size: int, device: torch.device | str = "cpu") -> Tensor:
    """A vector of fixed positions."""
    return torch.zeros(size, dtype=torch.int64, device=device)
