"""Attributes of modules that hold how many of some positions there are (``self.num_heads``), and must follow them."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from widthwise.subnet.resize import ATTRIBUTES
from widthwise.tracing.follow.found import Held

__all__ = ["HeldSizes"]


class HeldSizes:
    """What the rules find out, or guess, of attributes that hold sizes.

    Args:
        unite: to be called with two lists of positions that have to go together, int64 [n] each.
    """

    def __init__(self, unite: Callable[[Tensor, Tensor], None]) -> None:
        self.found: list[Held] = []
        self.modules: Mapping[str, nn.Module] = {}
        """Of the network that runs, by path."""
        self._unite = unite

    def hold(self, path: str, nodes: Tensor, *, needed: bool) -> bool:
        """Find an attribute of a module that holds the number of these positions, and let it follow them.

        Returns whether there is one. One attribute holds the size of one thing: of two that are needed the positions
        are united. Of guesses the first one counts whose positions may go, until the proof finds it wrong.
        """
        names = self._names(path, nodes) if needed or _in_runs(nodes) else []
        if not names:
            return False
        taken = {n: [h for h in self.found if (h.module, h.attribute, h.index) == (path, *n)] for n in names}
        same = [n for n in names if any(torch.equal(h.nodes, nodes) for h in taken[n])]
        free = [n for n in names if not taken[n]]
        chosen = (same or free or names)[0]
        if needed and taken[chosen]:
            self._unite(taken[chosen][0].nodes, nodes)
        elif chosen not in same:
            self.found.append(Held(path, *chosen, nodes, needed))
        return True

    def hold_any(self, path: str, nodes: Tensor) -> None:
        """Guess that a module asked its attributes for the number of these positions: all that hold it follow.

        Nothing says which of several equal ones was asked; the others do no harm, and the proof tells.
        """
        for name in self._names(path, nodes) if _in_runs(nodes) else []:
            self.found.append(Held(path, *name, nodes, False))

    def hold_list(self, path: str, pieces: Sequence[Tensor]) -> bool:
        """Find a list of a module that holds the numbers of all these positions, and let it follow them."""
        if len(pieces) < 2:
            return False
        found = [self._names(path, nodes) for nodes in pieces]
        lists = [name for name, index in found[0] if index == 0]
        whole = [name for name in lists if all((name, place) in there for place, there in enumerate(found))]
        name = next((n for n in whole if len(getattr(self.modules[path], n)) == len(pieces)), "")
        for index, nodes in enumerate(pieces if name else ()):
            known = [h for h in self.found if (h.module, h.attribute, h.index) == (path, name, index)]
            earlier = next((h for h in known if h.needed), None)
            if earlier is None:
                self.found.insert(0, Held(path, name, index, nodes, True))  # before coincidences
            else:
                self._unite(earlier.nodes, nodes)
        return bool(name)

    def _names(self, path: str, nodes: Tensor) -> list[tuple[str, int | None]]:
        module = self.modules.get(path)
        return [] if module is None else _attributes_of(module, len(nodes))


_OWN = frozenset(vars(nn.Module()))
"""Attributes of every module."""

_SEQUENCES = (tuple, list, torch.Size)
"""Made anew from their numbers; others (a named tuple) may not be."""


def _attributes_of(module: nn.Module, size: int) -> list[tuple[str, int | None]]:
    """(name, index or None) of a module's attributes that are this number, or hold it in a tuple or list.

    Of PyTorch's own layers (and what is derived from them) without those that follow their tensors' shapes.
    """
    follows = isinstance(module, tuple(ATTRIBUTES)) and any(True for _ in module.parameters())
    followed = set(getattr(module, "__constants__", ())) if follows else set()
    found: list[tuple[str, int | None]] = []
    for name, value in vars(module).items():
        if name in _OWN or name in followed or (follows and name.startswith("_")):
            continue
        if type(value) is int and value == size:
            found.append((name, None))
        elif type(value) in _SEQUENCES and all(type(v) is int for v in value):
            found.extend((name, i) for i, v in enumerate(value) if v == size)
    return found


def _in_runs(nodes: Tensor) -> bool:
    """Whether equal nodes stand side by side; elsewhere they come from a dimension that batch or windows share."""
    return len(nodes.unique_consecutive()) == len(nodes.unique())
