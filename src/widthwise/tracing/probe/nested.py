"""The tensors inside what a forward takes and returns, and the numbers that it returns in other forms."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

__all__ = ["results_in", "tensors_in"]


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor inside nested containers, mappings, dataclasses and plain objects, with slots or without."""
    return [item for item in _items(value) if isinstance(item, Tensor)]


def results_in(value: Any) -> list[Tensor]:
    """The same, and each NumPy array and list of numbers as a tensor, in double precision where it is real.

    They are compared as tensors are, so that those that follow a width are found; a number that stands alone (an epoch,
    a time) is not looked at.
    """
    found = []
    for item in _items(value):
        if isinstance(item, Tensor):
            found.append(item)
        elif isinstance(item, np.ndarray) or _all_numbers(item):
            array = np.asarray(item)
            if array.dtype.kind in "biufc":  # no words, dates or objects
                with _disable_current_modes():  # to a flow that looks on, it is nothing that runs
                    wide = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
                    found.append(torch.from_numpy(np.nan_to_num(wide, posinf=np.inf, neginf=-np.inf)))
    return found


def _all_numbers(item: object) -> bool:
    return isinstance(item, list | tuple) and bool(item) and all(isinstance(n, int | float | np.number) for n in item)


def _items(value: Any) -> Iterator[Any]:
    """Everything inside nested containers, mappings, dataclasses and plain objects, in order."""
    seen: dict[int, object] = {}  # also keeps them alive: another could get the same id
    stack = [value]
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item
        yield item
        if isinstance(item, Mapping):
            stack.extend(reversed(list(item.values())))
        elif isinstance(item, np.ndarray):
            stack.extend([item.ravel().tolist()] if item.dtype == object else [])
        elif not isinstance(item, Tensor | str | bytes | bytearray | range | nn.Module | type):
            parts = list(item) if isinstance(item, Collection) else []
            stack.extend(reversed([*parts, *_attributes(item)]))


def _attributes(item: object) -> list[object]:
    """The values of an object's attributes, in slots and in its dictionary."""
    slots = [name for base in type(item).__mro__ for name in vars(base).get("__slots__", ())]
    values = [getattr(item, name, None) for name in slots if not name.startswith("__")]
    return [*values, *getattr(item, "__dict__", {}).values()]
