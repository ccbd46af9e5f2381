"""Which attributes a forward does not need: changing them changes nothing that it does.

An attribute that holds as many as there are channels follows them when they are pruned, if some operation of its module
has that size. The number may be a coincidence (a smallest image size, a number of classes), or be there for people.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from widthwise.tracing.follow import Held
from widthwise.tracing.probe import Probe
from widthwise.tracing.probe.modes import Watching, operation_name

__all__ = ["idle_kinds"]

Step = tuple[str, tuple[Any, ...]]
"""An operation, the shapes of its tensors, and its other arguments as text."""


class _Recorder(Watching):
    """Writes down what is executed inside, without the numbers in tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        seen = [tuple(x.shape) if isinstance(x, Tensor) else str(x) for x in tree_leaves([args, kwargs, out])]
        self.steps.append((operation_name(func), tuple(seen)))
        return out


def idle_kinds(probe: Probe, kinds: Mapping[str, Sequence[Held]]) -> list[str]:
    """Those for which the forward executes the same operations on the same shapes whatever their attributes hold.

    They are set to what they might become: half of the number, and one less.
    """
    changes: tuple[Callable[[int], int], ...] = (lambda n: max(1, n // 2), lambda n: n - 1)
    before = _steps(probe) if kinds else None
    return [kind for kind, held in kinds.items() if all(_steps(probe, held, change) == before for change in changes)]


def _steps(probe: Probe, held: Sequence[Held] = (), change: Callable[[int], int] = lambda n: n) -> list[Step] | None:
    """What a forward executes with these attributes changed; None if it does not run."""
    recorder = _Recorder()
    try:
        with _changed(probe.model, held, change), recorder:
            probe.run()
    except Exception:
        return None
    return recorder.steps


@contextmanager
def _changed(model: nn.Module, held: Sequence[Held], change: Callable[[int], int]) -> Iterator[None]:
    modules = [model.get_submodule(h.module) for h in held]
    before = [(module, h.attribute, getattr(module, h.attribute)) for module, h in zip(modules, held, strict=True)]
    try:
        for module, h in zip(modules, held, strict=True):
            whole = getattr(module, h.attribute)
            if h.index is None:
                setattr(module, h.attribute, change(whole))
            else:
                parts = [change(n) if place == h.index else n for place, n in enumerate(whole)]
                setattr(module, h.attribute, type(whole)(parts))
        yield
    finally:
        for module, attribute, value in before:
            setattr(module, attribute, value)
