"""Whether a copy of a model keeps to itself, or goes on using the model that it was made from.

A copy takes along modules and their attributes, but not what functions hold on to: a ``forward`` or a hook that was set
on an instance as a closure goes on using the model that it was made with, and so would every sub-network.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import is_
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

from widthwise.errors import UntraceableModel
from widthwise.subnet.resize import tensors_of
from widthwise.tracing.probe.modes import Watching, changes_operands

__all__ = ["independent_of"]


@contextmanager
def independent_of(model: nn.Module, copy: nn.Module) -> Iterator[None]:
    """Run a copy of a model inside, and refuse it where it computes with tensors of the model or writes to it.

    The model is then as it was before. What both hold on to (a logger, a cache that ``__deepcopy__`` hands on) is no
    matter: a copy finds in it what it has put there.

    Raises:
        UntraceableModel: it does, whether what ran inside has failed or not.
    """
    state, borrowed = _State(model, copy), None
    try:
        with _Borrowed(state.tensors) as borrowed:
            yield
    finally:
        used = borrowed.found if borrowed else set()
        changed = state.restore()
        if borrowed:
            borrowed.restore()
        if used or changed:
            what = ["goes on using " + _listed(used)] if used else []
            what += ["writes to " + _listed(changed)] if changed else []
            raise UntraceableModel(
                "A copy of a model must run on parameters of its own and write to attributes of its own, but a copy of "
                f"this one {' and '.join(what)} of the original, through a function that was set as a forward or "
                "hook, or through a reference that is not copied. Make the function a method of the class, or reach "
                "what it needs through the module that the hook is given."
            )


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3])


class _Borrowed(Watching):
    """Notes which of some tensors are operands of what runs inside."""

    def __init__(self, tensors: dict[int, tuple[str, Tensor]]) -> None:
        super().__init__()
        self._tensors = tensors
        self._before: dict[int, Tensor] = {}
        self.found: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if id(leaf) in self._tensors:
                self.found.add(self._tensors[id(leaf)][0])
                if changes_operands(func) and id(leaf) not in self._before:
                    self._before[id(leaf)] = leaf.detach().clone()
        return func(*args, **(kwargs or {}))

    def restore(self) -> None:
        """Give what was written to its values back."""
        with _disable_current_modes():
            for key, before in self._before.items():
                self._tensors[key][1].data.copy_(before)


_LEAVES = (Tensor, str, bytes, type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)
"""What is not looked into."""

_PLAIN = frozenset({type(None), bool, int, float, str})
"""Of most attributes; left out because there are so many."""

_HOOKS = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules"}
"""What every module has, and where a forward stores nothing."""

_Container = dict[Any, Any] | list[Any] | deque[Any] | set[Any]


@dataclass(frozen=True)
class _Part:
    """A container, or the attributes of an object, and what it held."""

    name: str
    container: _Container
    before: _Container

    def held(self) -> list[tuple[str, Any]]:
        """What it held and what may be looked into, each with a name for it."""
        if not isinstance(self.before, dict):
            return [(self.name, value) for value in self.before if type(value) not in _PLAIN]
        return [
            (self._entry(key), value)
            for key, value in self.before.items()
            if type(value) not in _PLAIN and key not in _HOOKS
        ]

    def changed(self) -> set[str]:
        """The names of what is not as it was."""
        now, before = self.container, self.before
        if isinstance(now, dict) and isinstance(before, dict):
            if len(now) == len(before) and all(map(is_, now.values(), before.values())) and now.keys() == before.keys():
                return set()
            keys = {key for key in now.keys() | before.keys() if now.get(key, now) is not before.get(key, now)}
            return {self._entry(key) for key in keys} or {self.name}
        return set() if len(now) == len(before) and all(map(is_, now, before)) else {self.name}

    def restore(self) -> None:
        """Let it hold again what it held."""
        self.container.clear()
        if isinstance(self.container, list | deque):
            self.container.extend(self.before)
        else:
            self.container.update(self.before)

    def _entry(self, key: object) -> str:
        """Attributes have names of their own (the part's ends in a dot), what stands in containers has not."""
        return f"{self.name}{key}".lstrip(".") if self.name.endswith(".") else self.name


class _State:
    """All that belongs to a model, and not to its copy as well: attributes of modules, and what is inside them."""

    def __init__(self, model: nn.Module, copy: nn.Module) -> None:
        own = {id(module): module for module in model.modules()}
        theirs: dict[int, Any] = dict(own)  # the copy must not lead into the model
        _walk(copy, theirs)
        shared = {key: item for key, item in theirs.items() if key not in own}
        names = {id(t): name for name, t in tensors_of(model).items()}
        self._parts = _walk(model, dict(shared))
        self.tensors: dict[int, tuple[str, Tensor]] = {
            id(value): (names.get(id(value), name), value)
            for part in self._parts
            for name, value in part.held()
            if isinstance(value, Tensor) and (id(value) in names or id(value) not in shared)
        }
        """Its tensors, by id, with their names."""

    def restore(self) -> set[str]:
        """Give everything what it held before; returns the names of what held something else."""
        found: set[str] = set()
        for part in self._parts:
            if changed := part.changed():
                found |= changed
                part.restore()
        return found


def _walk(model: nn.Module, seen: dict[int, Any]) -> list[_Part]:
    """Every container that a model leads to and that was not seen; whatever is met is seen then."""
    found: list[_Part] = []
    paths = {id(module): path for path, module in model.named_modules()}
    stack: list[tuple[str, Any]] = [("", model)]
    while stack:
        name, item = stack.pop()
        if id(item) in seen:
            continue
        seen[id(item)] = item
        if isinstance(item, tuple):
            stack.extend((name, value) for value in item)
        for part in _parts(paths.get(id(item)), name, item):
            found.append(part)
            stack.extend(part.held())
    return found


def _parts(path: str | None, name: str, item: Any) -> Iterator[_Part]:
    """What an object holds as a container, and in its attributes; those of a module are called by its path."""
    if isinstance(item, _LEAVES):
        return
    if isinstance(item, dict | list | deque | set):
        yield _Part(name, item, dict(item) if isinstance(item, dict) else list(item))
    attributes = getattr(item, "__dict__", None)
    if isinstance(attributes, dict):
        yield _Part(name if path is None else f"{path}.", attributes, dict(attributes))
