"""What else changes in a module when its tensors become smaller: the sizes that it keeps in attributes.

One visible table, used for good (materialise, load) and for a moment (shared).
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

__all__ = ["ATTRIBUTES", "attribute_changes", "call_with", "copy_structure", "refresh", "resized_copy", "tensors_of"]

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


def _layer_norm(module: nn.LayerNorm, old: Shapes, new: Shapes) -> dict[str, object]:
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


ATTRIBUTES: dict[type[nn.Module], Callable[..., dict[str, object]]] = {
    _ConvNd: _convolution,
    nn.Linear: _linear,
    _NormBase: _norm,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.PReLU: _prelu,
    nn.Embedding: _embedding,
}
"""Attributes of each type of module as a function of the old and new shapes of its tensors."""


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, then buffers, by name; a tensor with several names appears under the first."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def call_with(model: nn.Module, tensors: Mapping[str, Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run a model with some of its tensors replaced, wherever they stand; the model is as before after.

    Every place is named once: given two names of one place (a module that is registered twice), ``functional_call``
    puts its replacement back in the end instead of the model's own tensor.
    """
    names = {id(t): n for n, t in tensors_of(model).items()}
    places: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        direct = [*module.named_parameters(recurse=False, remove_duplicate=False)]
        direct += [*module.named_buffers(recurse=False, remove_duplicate=False)]
        for local, tensor in direct:
            if names[id(tensor)] in tensors:
                places[f"{path}.{local}" if path else local] = tensors[names[id(tensor)]]
    return functional_call(model, places, args, dict(kwargs), tie_weights=False)


Sizes = Mapping[str, int | list[int]]
"""Values of further attributes by ``"module.attribute"``, as ``ChannelGraph.sizes_of`` gives them."""


def attribute_changes(
    model: nn.Module, old: Shapes, new: Shapes, sizes: Sizes
) -> Iterator[tuple[nn.Module, str, object]]:
    """Every attribute of every module that no longer fits: (module, attribute, new value).

    Args:
        model: the model whose modules are looked at.
        old: shape of each tensor as built, by full name.
        new: shape of each tensor now.
        sizes: values of attributes that the table does not know.
    """
    for name, size in sizes.items():
        path, _, attribute = name.rpartition(".")
        module = model.get_submodule(path)
        value = type(getattr(module, attribute))(size)  # an int, a list or a tuple, as it was
        if getattr(module, attribute) != value:
            yield module, attribute, value
    names = {id(t): n for n, t in tensors_of(model).items()}
    for module in model.modules():
        rule = next((r for kind, r in ATTRIBUTES.items() if isinstance(module, kind)), None)
        if rule is None:
            continue
        direct = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
        local = {n: names[id(t)] for n, t in direct.items() if names.get(id(t)) in old}
        before, after = ({n: shapes[full] for n, full in local.items()} for shapes in (old, new))
        if before != after:
            for attribute, value in rule(module, before, after).items():
                if getattr(module, attribute) != value:
                    yield module, attribute, value


def copy_structure(model: nn.Module, replacements: Mapping[int, object]) -> nn.Module:
    """A deep copy of a model in which tensors are replaced, by id.

    Tensors that a hook computes before each forward (old-style weight norm) cannot be deep-copied; they are cloned.
    The dozen empty dictionaries of hooks of every module are made anew, which halves the time of the copy.
    """
    memo = dict(replacements)
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
            elif type(value) is OrderedDict and not value:
                memo[id(value)] = OrderedDict()
    return copy.deepcopy(model, memo)


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


def refresh(model: nn.Module) -> None:
    """Let modules derive again what they derive from their parameters when the mode changes (attention biases)."""
    modes = [(module, module.training) for module in model.modules()]
    model.train(not model.training)
    model.train(not model.training)
    for module, training in modes:
        module.training = training
