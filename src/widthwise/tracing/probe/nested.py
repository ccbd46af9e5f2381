"""The tensors inside what a forward takes and returns."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

__all__ = ["tensors_in"]


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor inside nested containers, mappings, dataclasses and plain objects, with slots or without."""
    found: list[Tensor] = []
    seen: dict[int, object] = {}  # also keeps them alive: another could get the same id
    stack = [value]
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item
        if isinstance(item, Tensor):
            found.append(item)
        elif isinstance(item, Mapping):
            stack.extend(reversed(list(item.values())))
        elif not isinstance(item, str | bytes | bytearray | range | np.ndarray | nn.Module | type):
            parts = list(item) if isinstance(item, Collection) else []
            stack.extend(reversed([*parts, *_attributes(item)]))
    return found


def _attributes(item: object) -> list[object]:
    """The values of an object's attributes, in slots and in its dictionary."""
    slots = [name for base in type(item).__mro__ for name in vars(base).get("__slots__", ())]
    values = [getattr(item, name, None) for name in slots if not name.startswith("__")]
    return [*values, *getattr(item, "__dict__", {}).values()]
