"""A part of a network by itself: the model's own forward, with everything in front of the part left out.

Modules in front of a cut do not run; each returns an empty tensor on the ``meta`` device, of the shape that it would
have returned, and the last of them the stored features. So whatever stands between the modules (views, activations)
runs as the author wrote it, at no cost in front of the cut; and should anything behind the cut need more than the
features, it meets a tensor on ``meta`` and fails: a cut that runs is a cut that cuts everything. At the end of the part
the forward is left by an exception.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from widthwise.evaluate.modes import Left, leaving
from widthwise.stages.record import Call, Record

__all__ = ["Part", "captured", "run_part"]


@dataclass(frozen=True, eq=False)
class Part:
    """What lies behind one cut and in front of the next, as :func:`run_part` needs it."""

    skipped: dict[str, list[torch.Size | None]] = field(default_factory=dict)
    """For each module that is left out, the shape that each of these calls returned; the features come last of all."""
    entry: str = ""
    """Path of the module that returns the features; empty for the model's own input."""
    exit: str = ""
    """Path of the module that returns the result; empty for the model's own output."""
    exit_call: int = 0
    """Which of that module's calls while the part runs; the first is 1."""
    entry_changes: bool = False
    """Whether the part changes its features in place."""
    input_shape: tuple[int, ...] = ()
    """Of the model's own input, without the batch: some forwards ask for it at their end."""

    @classmethod
    def between(cls, record: Record, start: Call | None, end: Call | None) -> "Part":
        """The part behind the end of one call (None: the whole front) and up to the end of another (None: all)."""
        skipped: dict[str, list[torch.Size | None]] = {}
        for call in record.before(start) if start is not None else []:
            skipped.setdefault(call.path, []).append(call.shape)
        entry = start.path if start is not None else ""
        changes = start.changed if start is not None else False
        if end is None:
            return cls(skipped, entry, entry_changes=changes, input_shape=record.input_shape)
        over = 0 if start is None else sum(c.path == end.path for c in record.calls[: start.end + 1])
        left_out = len(skipped.get(end.path, ()))  # stand-ins count as calls, calls inside of what is left out do not
        return cls(skipped, entry, end.path, end.number - over + left_out, changes, record.input_shape)


class _Skip:
    """Stands in for the forward of a module in front of a cut, for so many calls."""

    def __init__(
        self, forward: Callable[..., Any], shapes: list[torch.Size | None], features: Tensor, last: bool
    ) -> None:
        self._forward, self._shapes, self._features, self._last = forward, shapes, features, last
        self._calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        number = self._calls
        self._calls += 1
        if number >= len(self._shapes):
            return self._forward(*args, **kwargs)
        if self._last and number == len(self._shapes) - 1:
            return self._features
        shape = self._shapes[number]
        if shape is None:
            return None
        size = (len(self._features), *shape[1:]) if len(shape) else ()
        return torch.empty(size, dtype=self._features.dtype, device="meta")


@contextmanager
def _skipping(model: nn.Module, part: Part, features: Tensor) -> Iterator[None]:
    modules = {path: model.get_submodule(path) for path in part.skipped}
    before = {path: vars(module).get("forward") for path, module in modules.items()}
    for path, module in modules.items():
        stand_in = _Skip(module.forward, part.skipped[path], features, path == part.entry)
        vars(module)["forward"] = stand_in
    try:
        yield
    finally:
        for path, module in modules.items():
            if before[path] is None:
                del vars(module)["forward"]
            else:
                vars(module)["forward"] = before[path]


def run_part(model: nn.Module, part: Part, features: Tensor, network: Callable[..., Any] | None = None) -> Any:
    """The result of one part for stored features.

    While it runs, forwards of the model's modules are replaced: two threads must not run one model at once.

    Args:
        model: the model that the part was found in.
        part: from :meth:`Part.between`.
        features: what enters it, [batch, ...].
        network: what to call instead of the model, with the model's modules underneath (:class:`widthwise.shared`).
    """
    if part.entry_changes:
        features = features.clone()
    given = features
    if part.entry:
        given = torch.empty(len(features), *part.input_shape, dtype=features.dtype, device="meta")
    exit_of = leaving(model.get_submodule(part.exit), part.exit_call) if part.exit else nullcontext()
    with _skipping(model, part, features), exit_of:
        try:
            return (network or model)(given)
        except Left as left:
            return left.result


@contextmanager
def captured(model: nn.Module, ends: Sequence[Call]) -> Iterator[list[Tensor]]:
    """Keep what these calls return while a network runs inside, detached; the list is filled on leaving."""
    found: dict[tuple[str, int], Tensor] = {}
    kept: list[Tensor] = []
    counts: Counter[str] = Counter()
    copied = {(call.path, call.number): call.changed for call in ends}

    def keep(path: str, _: nn.Module, __: object, out: Any) -> None:
        counts[path] += 1
        key = (path, counts[path])
        if key in copied:
            found[key] = out.detach().clone() if copied[key] else out.detach()

    paths = {call.path for call in ends}
    hooks = [model.get_submodule(path).register_forward_hook(partial(keep, path)) for path in paths]
    try:
        yield kept
        kept.extend(found[call.path, call.number] for call in ends)
    finally:
        for hook in hooks:
            hook.remove()
