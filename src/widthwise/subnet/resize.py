"""What else changes in a module when its tensors become smaller: the sizes that it keeps in attributes.

One visible table, used for good (materialise, load) and for a moment (shared).
"""

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils._pytree import tree_leaves

from widthwise.errors import SubnetMismatch

__all__ = [
    "ATTRIBUTES",
    "as_built",
    "attribute_changes",
    "copy_structure",
    "derives",
    "exchanged",
    "own_tensor",
    "places_of",
    "refresh",
    "resized_copy",
    "sized_modules",
    "tensors_of",
]

Shapes = Mapping[str, torch.Size]
"""Shape of each tensor of one module, by its local name."""


def _convolution(module: _ConvNd, old: Shapes, new: Shapes) -> dict[str, object]:
    """Channels in and out; the number of groups follows where each channel is its own group."""
    if "weight" not in new:  # parametrised: its tensors have other names
        return {}
    transposed, groups = module.transposed, module.groups
    axis = 0 if transposed else 1
    per_group = old["weight"][1] if not transposed else old["weight"][0] // groups
    if groups > 1 and per_group == 1:
        groups = groups * new["weight"][0] // old["weight"][0]
    outer, inner = new["weight"][0], new["weight"][1]
    if axis == 0:
        return {"groups": groups, "in_channels": outer, "out_channels": inner * groups}
    return {"groups": groups, "in_channels": inner * groups, "out_channels": outer}


def _linear(module: nn.Linear, old: Shapes, new: Shapes) -> dict[str, object]:
    return {"out_features": new["weight"][0], "in_features": new["weight"][1]} if "weight" in new else {}


def _norm(module: _NormBase, old: Shapes, new: Shapes) -> dict[str, object]:
    sizes = [new[name][0] for name in ("weight", "running_mean") if name in new]
    return {"num_features": sizes[0]} if sizes else {}


def _layer_norm(module: nn.LayerNorm | nn.RMSNorm, old: Shapes, new: Shapes) -> dict[str, object]:
    return {"normalized_shape": tuple(new["weight"])} if "weight" in new else {}


def _group_norm(module: nn.GroupNorm, old: Shapes, new: Shapes) -> dict[str, object]:
    if "weight" not in new:
        return {}
    size = new["weight"][0]  # channels normalised together go together: the size of a group stays
    return {"num_channels": size, "num_groups": max(1, size * module.num_groups // old["weight"][0])}


def _prelu(module: nn.PReLU, old: Shapes, new: Shapes) -> dict[str, object]:
    return {"num_parameters": new["weight"][0]} if "weight" in new else {}


def _embedding(module: nn.Embedding, old: Shapes, new: Shapes) -> dict[str, object]:
    return {"embedding_dim": new["weight"][1]} if "weight" in new else {}


def _recurrent(module: nn.RNNBase, old: Shapes, new: Shapes) -> dict[str, object]:
    """Sizes of the input and of the states; PyTorch reads beyond weights that do not fit, so those are refused."""
    if "weight_ih_l0" not in new or "weight_hh_l0" not in new:  # parametrised: its tensors have other names
        return {}
    gates = {"LSTM": 4, "GRU": 3}.get(module.mode, 1)
    hidden, projected = new["weight_hh_l0"][0] // gates, module.proj_size and new["weight_hr_l0"][0]
    state = projected or hidden
    for name in (name for names in module._all_weights for name in names if name in new):
        kind, layer = name.split("_")[:2], name.removesuffix("_reverse").rpartition("_l")[2]
        inputs = new["weight_ih_l0"][1] if layer == "0" else state * (1 + module.bidirectional)
        columns = {"ih": inputs, "hh": state, "hr": hidden}[kind[1]]
        rows = projected if kind[1] == "hr" else gates * hidden
        wanted = (rows, columns) if kind[0] == "weight" else (rows,)
        if tuple(new[name]) != wanted:
            raise SubnetMismatch(
                f"The weights of a recurrent layer must fit one another, but with {hidden} states {name!r} is "
                f"{list(new[name])}, not {list(wanted)}. Remove the same states everywhere, or leave the layer whole."
            )
    sizes: dict[str, object] = {"input_size": new["weight_ih_l0"][1], "hidden_size": hidden}
    return {**sizes, "proj_size": projected} if projected else sizes


def _recurrent_cell(module: nn.RNNCellBase, old: Shapes, new: Shapes) -> dict[str, object]:
    if "weight_ih" not in new or "weight_hh" not in new:
        return {}
    return {"input_size": new["weight_ih"][1], "hidden_size": new["weight_hh"][1]}


ATTRIBUTES: dict[type[nn.Module], Callable[..., dict[str, object]]] = {
    _ConvNd: _convolution,
    nn.Linear: _linear,
    _NormBase: _norm,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.PReLU: _prelu,
    nn.Embedding: _embedding,
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _recurrent_cell,
}
"""Attributes of each type of module as a function of the old and new shapes of its tensors."""


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, then buffers, by name; a tensor with several names appears under the first."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


Places = Mapping[str, Sequence[tuple[nn.Module, str]]]
"""For each tensor by its full name the modules that have it, with its name there; a tied one has several."""


def places_of(model: nn.Module) -> Places:
    """Where each parameter and buffer stands."""
    names = {id(tensor): name for name, tensor in tensors_of(model).items()}
    places: dict[str, list[tuple[nn.Module, str]]] = defaultdict(list)
    for module in model.modules():
        for local, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None:
                places[names[id(tensor)]].append((module, local))
    return places


def own_tensor(places: Places, name: str) -> Tensor:
    """The tensor that stands there now."""
    module, local = places[name][0]
    tensor = module._parameters[local] if local in module._parameters else module._buffers[local]
    assert tensor is not None
    return tensor


@contextmanager
def exchanged(places: Places, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Other tensors in these places inside, and the model's own again after."""
    before: list[tuple[dict[str, Any], str, Tensor]] = []
    try:
        for name, tensor in tensors.items():
            for module, local in places[name]:
                home: dict[str, Any] = module._parameters if local in module._parameters else module._buffers
                before.append((home, local, home[local]))
                home[local] = tensor
        yield
    finally:
        for home, local, own in reversed(before):
            home[local] = own


Sizes = Mapping[str, int | list[int]]
"""Values of further attributes by ``"module.attribute"``, as ``ChannelGraph.sizes_of`` gives them."""


SizedModule = tuple[nn.Module, Callable[..., dict[str, object]], dict[str, str]]
"""A module, its row of :data:`ATTRIBUTES`, and the full name of each of its tensors."""


def attribute_changes(
    model: nn.Module, old: Shapes, new: Shapes, sizes: Sizes, sized: Sequence[SizedModule] | None = None
) -> Iterator[tuple["nn.Module | _Absent", str, object]]:
    """Every attribute of every module that no longer fits: (module, attribute, new value).

    One of ``sizes`` that the model does not hold, because its first forward sets it, gets the value that it has, so
    that the first forward sets it again.

    Args:
        model: the model whose modules are looked at.
        old: shape of each tensor as built, by full name.
        new: shape of each tensor now; modules of which it has none are left out.
        sizes: values of attributes that the table does not know.
        sized: what :func:`sized_modules` returns for the model, where it is known already.
    """
    for name, size in sizes.items():
        path, _, attribute = name.rpartition(".")
        module = model.get_submodule(path)
        now: Any = getattr(module, attribute, None)
        as_it_was: Any = type(now)  # a number, a list or a tuple
        if not isinstance(now, _SIZE):
            yield _place(module, attribute, module), attribute, now
        elif (value := as_it_was(size)) != now:
            yield module, attribute, value
    for module, rule, names in sized if sized is not None else sized_modules(model):
        known = {local: name for local, name in names.items() if name in new}
        before, after = ({local: shapes[name] for local, name in known.items()} for shapes in (old, new))
        if before != after:
            for attribute, wanted in rule(module, before, after).items():
                if getattr(module, attribute) != wanted:
                    yield module, attribute, wanted


class _Absent:
    """In place of a module that lacks an attribute: it lacks it again, whatever the attribute is set to."""

    def __init__(self, module: nn.Module) -> None:
        vars(self)["module"] = module

    def __getattr__(self, name: str) -> None:
        return None

    def __setattr__(self, name: str, value: object) -> None:
        vars(self.module).pop(name, None)


def as_built(model: nn.Module, built: nn.Module, names: Iterable[str]) -> None:
    """Take the attributes of these names out of a model that ran, if the model as it was built holds no size there."""
    for path, _, attribute in (name.rpartition(".") for name in names):
        value = vars(built.get_submodule(path)).get(attribute)
        if not isinstance(value, _SIZE):
            setattr(_place(built.get_submodule(path), attribute, model.get_submodule(path)), attribute, value)


_SIZE = (int, list, tuple)


def _place(module: nn.Module, attribute: str, target: nn.Module) -> nn.Module | _Absent:
    """What to set an attribute of the target on, so that it is there if it is in the module."""
    return target if attribute in vars(module) else _Absent(target)


def sized_modules(model: nn.Module) -> list[SizedModule]:
    """The modules whose attributes follow the shapes of their tensors.

    What a mask (``weight_orig``) or a parametrisation turns into a weight counts as the weight.
    """
    names = {id(t): n for n, t in tensors_of(model).items()}
    found: list[SizedModule] = []
    for module in model.modules():
        rule = next((r for kind, r in ATTRIBUTES.items() if isinstance(module, kind)), None)
        if rule is not None:
            direct = [*module._parameters.items(), *module._buffers.items()]
            if is_parametrized(module) and isinstance(module.parametrizations, nn.ModuleDict):
                direct += [(name, held._parameters.get("original")) for name, held in module.parametrizations.items()]
            local = {name.removesuffix("_orig"): t for name, t in direct if t is not None and id(t) in names}
            found.append((module, rule, {name: names[id(t)] for name, t in local.items()}))
    return found


def copy_structure(model: nn.Module, replacements: Mapping[int, object]) -> nn.Module:
    """A deep copy of a model in which tensors are replaced, by id.

    Tensors that were computed from parameters (old-style weight norm, what a module keeps of its last run) cannot be
    deep-copied; they are cloned.
    The dozen empty dictionaries of hooks of every module are made anew, which halves the time of the copy.
    """
    memo = dict(replacements)
    for module in model.modules():
        for name, value in vars(module).items():
            if type(value) is OrderedDict and not value:
                memo[id(value)] = OrderedDict()
            elif isinstance(value, Tensor | dict | list | tuple) and name not in _OWN:
                memo |= {id(t): t.detach().clone() for t in tree_leaves(value) if _has_history(t) and id(t) not in memo}
    return copy.deepcopy(model, memo)


_OWN = frozenset(vars(nn.Module())) - {"_buffers"}
"""Attributes that every module has, and that hold no tensors but its parameters."""


def _has_history(value: object) -> bool:
    return isinstance(value, Tensor) and not value.is_leaf


def resized_copy(model: nn.Module, tensors: Mapping[str, Tensor], sizes: Sizes) -> nn.Module:
    """A copy of the model that owns ``tensors`` in place of its own; attributes follow their shapes and ``sizes``.

    The model's own tensors are not copied. Tied parameters stay tied, ``requires_grad`` is kept.
    """
    mine = tensors_of(model)
    memo: dict[int, object] = {}
    for name, tensor in mine.items():
        new = tensors[name]
        if isinstance(tensor, nn.Parameter):
            new = nn.Parameter(new, requires_grad=tensor.requires_grad)
        memo[id(tensor)] = new
    small = copy_structure(model, memo)
    old = {n: t.shape for n, t in mine.items()}
    new_shapes = {n: t.shape for n, t in tensors.items()}
    for module, attribute, value in list(attribute_changes(small, old, new_shapes, sizes)):
        setattr(module, attribute, value)
    refresh(small)
    return small


def _hooks(module: nn.Module) -> list[BasePruningMethod | WeightNorm]:
    return [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, BasePruningMethod | WeightNorm)]


def _listens(module: nn.Module) -> bool:
    """Whether it does something of its own when the mode changes."""
    return type(module).train is not nn.Module.train


def derives(model: nn.Module) -> bool:
    """Whether some module keeps what it derives from its parameters, so that :func:`refresh` has something to do."""
    return any(_listens(module) or _hooks(module) for module in model.modules())


def refresh(model: nn.Module) -> None:
    """Let modules derive again what they derive from their parameters.

    When the mode changes (attention biases), or before each forward (masks of ``torch.nn.utils.prune``, weight norm).
    """
    modes = [(module, module.training) for module in model.modules()]
    if any(_listens(module) for module, _ in modes):
        model.train(not model.training)
        model.train(not model.training)
    for module, training in modes:
        module.training = training
        for hook in _hooks(module):
            with torch.no_grad():
                hook(module, ())
