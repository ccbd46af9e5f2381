"""The flow of nodes through a model's own forward pass.

:class:`Flow` is a dispatch mode: PyTorch shows it every ATen operation that the forward executes, and it applies
that operation's rule (:mod:`widthwise.tracing.rules`) to the label layers of the operands. What the rules find out is
collected as plain lists (which nodes must go together, which are pinned and why, which axes are contracted, where
multiply-adds happen) and turned into a graph afterwards.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from widthwise.channels import Reason
from widthwise.tracing.follow.fills import Fills
from widthwise.tracing.follow.found import Arithmetic, Call, Made, Pin, Split
from widthwise.tracing.follow.held import HeldSizes
from widthwise.tracing.follow.labels import Layers, along, as_vector, empty_vector, place, same_pattern, varying
from widthwise.tracing.follow.reasons import CUT, FIXED, MIXED_AXES, odd
from widthwise.tracing.probe.modes import Watching, operation_name

__all__ = ["Call", "Flow", "Rule"]

Rule = Callable[["Flow", "Call"], None]


class Flow(Watching):
    """Follows nodes through everything that runs inside ``with flow:``.

    Args:
        tensors: parameters and buffers by name; each axis longer than one position is numbered.
        rules: rule per operation name.
        fallback: the rule for an operation that has none.
        module_rules: rule per type of module, in place of those of the operations that run inside it.
        followers: by the number of a split, which of its new dimensions follows the width, -2 where the pieces are
            attention heads that stay whole (``view(b, n, heads, dim)``), 0 where windows lie behind the channels
            (``view(b, c // 4, 2, 2, h, w)``); the last one if not given.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        rules: Mapping[str, Rule],
        fallback: Rule,
        module_rules: Mapping[type[nn.Module], Rule] | None = None,
        followers: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.tensors = tensors
        self._module_rules = module_rules or {}
        self.followers = followers or {}
        self._rules = rules
        self._fallback = fallback
        self._rule_of: dict[Any, Rule] = {}
        self._layers = WeakIdKeyDictionary()
        self._weights = WeakIdKeyDictionary()
        self._touched = WeakIdKeyDictionary()
        self._numbered = WeakIdKeyDictionary(dict.fromkeys(tensors.values(), True))
        self.fills = Fills()
        self.axes: list[tuple[str, int, int]] = []
        """(tensor name, dimension, size) of each numbered axis; nodes are numbered in this order, from 1."""
        self.edges: list[Tensor] = []
        """Each int64 [2, n]: pairs of nodes that are removed together."""
        self.pins: list[Pin] = []
        self.consumers: list[Tensor] = []
        """Nodes of axes that an operation sums over (a weight's input axis)."""
        self.producers: list[Tensor] = []
        """Nodes of axes that an operation creates (a weight's output axis)."""
        self.alike: list[list[Tensor]] = []
        """Nodes of axes of weights that are added or joined: what consumes one of them consumes all."""
        self.norms: list[Tensor] = []
        """Nodes of the scale of a batch norm."""
        self.windows: list[Tensor] = []
        """Nodes of the axes of a kernel's window: never channels, and not worth a word."""
        self.arithmetic: list[Arithmetic] = []
        self.sizes = HeldSizes(self.unite)
        self.made: list[Made] = []
        """What each module returned, in order."""
        self.splits: list[Split] = []
        self.closed: list[str] = []
        """Names of the operators that ran whose functions could not be looked into."""
        self.number = 0
        """How many operations ran so far."""
        self.operation = ""
        """Name of the operation whose rule runs; empty between operations."""
        self._path: list[str] = []
        self._unseen = 0
        """How many of the running modules have a rule of their own: what runs inside them is not looked at."""
        self._number(tensors)

    def _number(self, tensors: Mapping[str, Tensor]) -> None:
        first = 1
        for name, tensor in tensors.items():
            layers = []
            for dim, size in enumerate(tensor.shape):
                if size > 1:
                    self.axes.append((name, dim, size))
                    layers.append(place(torch.arange(first, first + size), tensor.ndim, dim))
                    first += size
            self._layers[tensor] = tuple(layers)
            self._weights[tensor] = 2 if isinstance(tensor, nn.Parameter) else 1
        self.num_nodes = first  # and more where axes of fills are numbered

    @contextmanager
    def inside(self, model: nn.Module) -> Iterator[None]:
        """Know at each operation which module is running; hooks are removed at the end."""
        hooks = []
        self.sizes.modules = dict(model.named_modules())
        for name, module in self.sizes.modules.items():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks
            hooks.append(module.register_forward_pre_hook(partial(self._enter, name), prepend=True))
            hooks.append(module.register_forward_hook(self._leave, with_kwargs=True, always_call=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self._path.clear()

    def _enter(self, path: str, module: nn.Module, inputs: Any) -> None:
        self._path.append(path)
        self._unseen += self._rule_of_module(module) is not None

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        rule = self._rule_of_module(module)
        self._unseen -= rule is not None
        if rule is not None and not self._unseen:
            names = inspect.signature(module.forward).bind(*args, **kwargs).arguments
            self._apply(rule, Call(type(module).__name__, {"module": module, **names}, out))
        path = self._path.pop()
        if isinstance(out, Tensor):
            layers = self.layers(out)
            dims = varying(layers[0]) if len(layers) == 1 else ()
            dim = dims[0] if len(dims) == 1 else -1
            self.made.append(Made(path, dim, layers[0].reshape(-1) if dim >= 0 else empty_vector(0)))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in self._rule_of:
            self._rule_of[func] = self._rule(func)
        if self._rule_of[func] is self._fallback and not self._unseen and _has_parts(func):
            with self:
                return func.decompose(*args, **kwargs)
        out = func(*args, **kwargs)
        if self._unseen:
            return out
        if not isinstance(func, torch._ops.OpOverload):
            self.closed.append(operation_name(func))
        call = Call(operation_name(func), _arguments(func, args, kwargs), out)
        self._apply(self._rule_of[func], call)
        self.number += 1
        self._weigh(call)
        self._follow_fills(call)
        return out

    def _weigh(self, call: Call) -> None:
        """What is computed from weights alone is a weight, and what only looks at one differently is that one."""
        operands = call.operands()
        for operand in operands:
            if operand in self._numbered:
                self._touched[operand] = True
        rank = min((self.weight(t) for t in operands), default=0)
        for result in call.results():
            same = rank == 2 and any(result.data_ptr() == t.data_ptr() for t in operands if t.numel())
            self._weights[result] = 2 if same else min(rank, 1)

    def _apply(self, rule: Rule, call: Call) -> None:
        """Apply a rule; where it cannot cope with unusual shapes, pin all that the operation touches."""
        self.operation = call.name
        try:
            rule(self, call)
        except Exception as error:
            if not rule.__module__.startswith("widthwise."):  # whoever wrote it wants to know
                error.add_note(f"raised by the rule for {call.name}")
                raise
            for tensor in call.operands():
                self.pin_all(tensor, odd(error))
            for tensor in call.results():
                self.pin_all(tensor, odd(error))
                self.put(tensor)
        finally:
            self.operation = ""

    def _rule_of_module(self, module: nn.Module) -> Rule | None:
        return next((rule for kind, rule in self._module_rules.items() if isinstance(module, kind)), None)

    def _rule(self, func: Any) -> Rule:
        """The rule of an operation; in place, it is that of the operation it is the in-place form of."""
        name = operation_name(func)
        for candidate in (name, name.removesuffix("_")):
            if candidate in self._rules:
                return self._rules[candidate]
        space, _, base = name.removesuffix("_").partition("::")
        if not base:
            return self._fallback  # it calls functions, and what runs in them is not shown
        packet = getattr(getattr(torch.ops, space), base, None)
        overloads = [getattr(packet, o) for o in packet.overloads()] if packet is not None else []
        if any(torch.Tag.pointwise in o.tags for o in [func, *overloads]):
            return self._rules["pointwise"]
        return self._fallback

    @property
    def module(self) -> str:
        """Path of the module that is running."""
        return self._path[-1] if self._path else ""

    @property
    def running(self) -> nn.Module | None:
        """The module that is running; none outside of all."""
        return self.sizes.modules.get(self.module)

    def weight(self, tensor: Tensor) -> int:
        """2 for a parameter or a view of it, 1 for a buffer or what is computed from either alone, 0 for an activation.

        Of two operands of a product the higher one is the layer's: a table of coordinates is what a layer reads.
        """
        rank: int = self._weights.get(tensor, 0)
        return rank

    def layers(self, tensor: Tensor) -> Layers:
        """The layers of a tensor; none where every position is fixed."""
        layers: Layers = self._layers.get(tensor, ())
        return layers

    def put(self, tensor: Tensor, *layers: Tensor) -> None:
        """Set the layers of a result; layers that do not vary are dropped."""
        kept = tuple(layer for layer in layers if varying(layer))
        assert all(
            layer.ndim == tensor.ndim and all(n in (1, m) for n, m in zip(layer.shape, tensor.shape, strict=True))
            for layer in kept
        ), f"layers {[tuple(x.shape) for x in kept]} on a tensor {tuple(tensor.shape)}"
        self._layers[tensor] = kept

    def touched(self, name: str) -> bool:
        """Whether an operation has looked at a parameter or buffer so far."""
        return self.tensors[name] in self._touched

    def unused(self) -> bool:
        """Whether some parameter has not been looked at by any operation so far."""
        return any(isinstance(t, nn.Parameter) and not self.touched(name) for name, t in self.tensors.items())

    def axis(self, tensor: Tensor, dim: int, why: Reason = MIXED_AXES) -> Tensor:
        """The nodes along one axis, int64 [size]; zeros where fixed. What varies along others too is pinned."""
        dim %= tensor.ndim
        found = [layer for layer in self.layers(tensor) if along(layer, dim)]
        if not found and tensor in self.fills and tensor.shape[dim] > 1:
            return self._number_fill(tensor, dim)
        if len(found) == 1 and varying(found[0]) == (dim,):
            return as_vector(found[0], tensor.shape[dim])
        for layer in found:
            self.pin(layer, why)
        return empty_vector(tensor.shape[dim])

    def _number_fill(self, tensor: Tensor, dim: int) -> Tensor:
        """New nodes along one axis of a fill, int64 [size], because something else than a meeting reads it."""
        nodes = torch.arange(self.num_nodes, self.num_nodes + tensor.shape[dim])
        self.num_nodes += len(nodes)
        self.put(tensor, *self.layers(tensor), place(nodes, tensor.ndim, dim))
        self.sizes.hold_any(self.fills.maker(tensor), nodes)
        return nodes

    def _follow_fills(self, call: Call) -> None:
        """Note fills. What is written into a view is in what it shows, and none of them is one number any more."""
        for tensor in self.fills.see(call, self.module):
            if len(call.operands()) == 1 and not self.layers(tensor):
                continue  # another number
            for shown, dim in self.fills.open(tensor):
                merged = list(self.layers(shown))
                for layer in self.layers(tensor):
                    layer = layer if dim is None else layer.unsqueeze(dim)
                    if any(along(layer, d) and layer.shape[d] != n for d, n in enumerate(shown.shape)):
                        self.pin(layer, CUT)
                    else:
                        merged = self.meet(merged, layer)
                self.put(shown, *merged)
                tensor = shown

    def pin(self, nodes: Tensor, reason: Reason) -> None:
        """Forbid the removal of these nodes."""
        nodes = nodes.reshape(-1).unique()
        nodes = nodes[nodes > 0]
        if len(nodes):
            self.pins.append(Pin(nodes, replace(reason, operation=self.operation, module=self.module)))

    def pin_all(self, tensor: Tensor, reason: Reason) -> None:
        """Forbid the removal of every node of a tensor."""
        for layer in self.layers(tensor):
            self.pin(layer, reason)

    def unite(self, a: Tensor, b: Tensor) -> None:
        """Positions that meet are removed together; where one is fixed, so is the other."""
        a, b = (t.reshape(-1) for t in torch.broadcast_tensors(a, b))
        both = (a > 0) & (b > 0)
        if both.any():
            pairs = (a[both] * self.num_nodes + b[both]).unique()  # far faster than a unique over rows
            self.edges.append(torch.stack([pairs // self.num_nodes, pairs % self.num_nodes]))
        self.pin(torch.maximum(a, b)[~both], FIXED)

    def meet(self, present: list[Tensor], layer: Tensor) -> list[Tensor]:
        """Add a layer to those of one shape, united with what varies along a dimension of its own.

        Where several do (heads and windows that share a dimension), those that change at the same positions are meant.
        """
        met = [other for other in present if any(along(layer, d) for d in varying(other))]
        alike = [other for other in met if same_pattern(layer, other)] if len(met) > 1 else met
        for other in alike or met:
            self.unite(layer, other)
            layer = _first(*torch.broadcast_tensors(layer, other))
        return [*(other for other in present if not any(other is o for o in alike or met)), layer]

    def tie(self, layer: Tensor, dim: int) -> Tensor:
        """Unite all positions along ``dim`` and return the first of them (size 1 along ``dim``)."""
        first = layer.narrow(dim, 0, 1)
        self.unite(layer.narrow(dim, 1, layer.shape[dim] - 1), first)
        return first

    def hold(self, nodes: Tensor, *, needed: bool) -> bool:
        """:meth:`HeldSizes.hold` for the module that is running."""
        return self.sizes.hold(self.module, nodes, needed=needed)

    def count(self, constant: int, *axes: Tensor) -> None:
        """Record multiply-adds; an axis without nodes is part of the constant."""
        constant *= prod(a.shape[-1] for a in axes if not a.any())
        self.arithmetic.append(Arithmetic(self.module, constant, tuple(a for a in axes if a.any())))


def _arguments(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Every argument by its name in the schema; by its place where an operation has none."""
    if not isinstance(func, torch._ops.OpOverload):
        return {**{str(place): value for place, value in enumerate(args)}, **kwargs}
    schema = func._schema.arguments
    defaults = {a.name: a.default_value for a in schema if a.has_default_value()}
    return {**defaults, **dict(zip((a.name for a in schema), args, strict=False)), **kwargs}


def _has_parts(func: Any) -> bool:
    """Whether PyTorch makes an operation of others; such arrive whole where a forward turns inference mode on."""
    return isinstance(func, torch._ops.OpOverload) and bool(
        torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
    )


def _first(a: Tensor, b: Tensor) -> Tensor:
    """Of two united nodes the one that comes first (the weight, not its mask); the other where one is fixed."""
    return torch.where((a > 0) & (b > 0), torch.minimum(a, b), torch.maximum(a, b))
