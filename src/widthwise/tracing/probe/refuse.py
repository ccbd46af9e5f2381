"""What a model and an example must be before a trace can say anything true: every check, in one place.

A layer that cannot be pruned is pinned, with a reason. Refused is only what cannot be traced at all, or what would
give a network that is not what it seems: wrapped, quantised, without numbers, or (``independent.py``) not independent
of the model. Every message states the rule, then what was got, then the remedy.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from widthwise.errors import UntraceableModel
from widthwise.subnet.resize import tensors_of
from widthwise.tracing.probe.nested import tensors_in

__all__ = [
    "check_inputs",
    "check_made",
    "check_model",
    "check_outputs",
    "did_not_copy",
    "did_not_run",
    "did_not_run_again",
]

_UNWRAP = "Pass {inner}, and wrap the small network instead."
_SHARDED = "Trace the model before it is sharded, and shard the small network."

WRAPPERS: dict[str, tuple[str, str]] = {
    "torch.nn.parallel.data_parallel.DataParallel": ("module", _UNWRAP),
    "torch.nn.parallel.distributed.DistributedDataParallel": ("module", _UNWRAP),
    "torch._dynamo.eval_frame.OptimizedModule": ("_orig_mod", "Pass {inner}, and compile the small network instead."),
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": ("module", _SHARDED),
    "torch.distributed.fsdp.FSDPModule": ("", _SHARDED),
}
"""Modules that stand around a model, by the name of their class: where the model is inside, and the remedy.

By name, because a build of PyTorch without distributed training has no such classes to import.
"""

OBSERVERS = frozenset({"ObserverBase", "FakeQuantizeBase"})
"""Base classes of what quantisation puts into a model to look at it; torch.ao and torchao each have their own."""


def check_model(model: object) -> None:
    """Refuse what is not a plain model with numbers in it.

    Raises:
        UntraceableModel: no module, scripted, wrapped, sharded, quantised, or with parameters that are not plain
            tensors with values.
    """
    if isinstance(model, type):
        raise UntraceableModel(
            f"A trace takes a module, but got the class {model.__name__}. Make an instance of it first."
        )
    if not isinstance(model, nn.Module):
        raise UntraceableModel(
            f"A trace takes a module, but got a {type(model).__name__}. Call it from the forward of an nn.Module that "
            "holds its layers."
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise UntraceableModel(
            f"A model is traced as the Python code that it is, but got a {type(model).__name__}, whose code and sizes "
            "torch.jit has compiled. Pass the module that it was made from, and compile the small network instead."
        )
    for path, module in model.named_modules():
        _check_module(path, module)
    for name, tensor in tensors_of(model).items():
        _check_tensor(name, tensor)


def _check_module(path: str, module: nn.Module) -> None:
    it, kind = f"its part {path!r}" if path else "it", type(module).__name__
    for base in type(module).__mro__:
        inner, remedy = WRAPPERS.get(f"{base.__module__}.{base.__qualname__}", ("", ""))
        if remedy:
            plain = f"a model with the {inner} of {path!r} in its place" if path else f"model.{inner}"
            raise UntraceableModel(
                f"A model is traced without a wrapper around it or its parts, but {it} is of class {base.__name__}. "
                + remedy.format(inner=plain)
            )
    packed = any(isinstance(v, torch.ScriptObject) for v in vars(module).values())
    observed = OBSERVERS & {base.__name__ for base in type(module).__mro__}
    if observed or (packed and not isinstance(module, torch.jit.ScriptModule)):
        raise UntraceableModel(
            f"Channels are removed before a model is quantised, because scales and packed weights belong to the full "
            f"network, but {it} is of class {kind}. Trace the float model, and quantise the small network."
        )


def _check_tensor(name: str, tensor: Tensor) -> None:
    if is_lazy(tensor):
        raise UntraceableModel(
            f"A trace needs every parameter to have its shape, but {name!r} is lazy and has not been initialised. Run "
            "model(*inputs) once before the trace."
        )
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__ or tensor.is_quantized:
        kind = "quantised tensor" if tensor.is_quantized else type(tensor).__name__
        raise UntraceableModel(
            f"Parameters and buffers must be plain tensors, but {name!r} is a {kind}. Trace the model before it is "
            "sharded, quantised or faked, and do that to the small network."
        )
    if isinstance(tensor, nn.Parameter) and tensor.layout != torch.strided:
        raise UntraceableModel(
            f"A parameter must be a dense tensor, but {name!r} is {str(tensor.layout).removeprefix('torch.')}. Put "
            "its to_dense() in its place for the trace, and make that of the small network sparse again."
        )
    if tensor.is_meta:
        raise UntraceableModel(
            f"A trace runs the model, but {name!r} is on the meta device and holds no numbers. Build the model on a "
            "real device first (model.to_empty(device='cpu'), then initialise it), or remove what offloads it."
        )


def check_made(model: nn.Module, ran: nn.Module) -> None:
    """Refuse a model that has made layers while it ran: the model itself has not, and costs are counted on it.

    Raises:
        UntraceableModel: a copy that ran has more parameters.
    """
    made = {name for name, _ in ran.named_parameters()} - {name for name, _ in model.named_parameters()}
    if made:
        raise UntraceableModel(
            f"A trace needs every layer to be there, but the first forward makes {', '.join(sorted(made)[:3])}. Run "
            "model(*inputs) once before the trace."
        )


def check_inputs(inputs: Any) -> None:
    """Refuse an example that cannot show anything.

    Raises:
        UntraceableModel: a tensor without values, or nothing in any of them.
    """
    tensors = tensors_in(inputs)
    if any(t.is_meta for t in tensors):
        raise UntraceableModel(
            f"A trace runs the model on the example, but got {_text(tensors)}. Pass inputs with numbers in them, on "
            "the model's device."
        )
    if tensors and not any(t.numel() for t in tensors):
        raise UntraceableModel(
            f"A trace compares what networks compute for the example, but got {_text(tensors)}, in which there is "
            "nothing to compute. Pass a batch of at least one."
        )


def check_outputs(outputs: list[Tensor]) -> None:
    """Refuse a forward that returns nothing to compare.

    Raises:
        UntraceableModel: no tensor, or only empty ones.
    """
    if not outputs:
        raise UntraceableModel(
            "A model's forward must return tensors (also inside tuples, mappings or objects), but none was found in "
            "what this one returns. Wrap it in a module that returns a tensor."
        )
    if not any(t.numel() for t in outputs) and all(t.is_floating_point() or t.is_complex() for t in outputs):
        raise UntraceableModel(
            f"A trace compares what a model returns, but this one returns {_text(outputs)}, in which there is nothing "
            "to compare. Pass an example for which it returns numbers, or a module that returns them earlier."
        )


def _text(tensors: list[Tensor]) -> str:
    shapes = ["nested" if t.is_nested else list(t.shape) for t in tensors]
    kinds = [
        f"{str(t.dtype).removeprefix('torch.')} {shape} on {t.device}" for t, shape in zip(tensors, shapes, strict=True)
    ]
    return ", ".join(kinds) or "no tensors"


def did_not_run(model: nn.Module, inputs: Any, failure: Exception | None) -> UntraceableModel:
    """The error for a forward that failed on the example."""
    tensors = tensors_in(inputs)
    here, there = ({str(t.device) for t in found} for found in (tensors, tensors_of(model).values()))
    remedy = (
        "Pass inputs that `model(*inputs)` accepts (a tensor or tuple for positional, a dict for keyword arguments), "
        "on the model's device."
    )
    if here and there and not here & there:
        remedy = f"Move them to where the model is (inputs.to({min(there)!r})), or the model to them."
    return UntraceableModel(
        f"The model must run on the example inputs ({_text(tensors)}), but it raised {type(failure).__name__}: "
        f"{failure}. {remedy}"
    )


def did_not_run_again(failure: Exception) -> UntraceableModel:
    """The error for a forward that failed when it was called once more."""
    return UntraceableModel(
        "A model must run as often as it is called, but the second forward of a copy raised "
        f"{type(failure).__name__}: {failure}. Let its forward begin by resetting what it keeps from call to call."
    )


def did_not_copy(model: nn.Module, failure: Exception) -> UntraceableModel:
    """The error for a model that cannot be copied."""
    return UntraceableModel(
        f"A trace runs a private copy of the model, but copy.deepcopy raised {type(failure).__name__}: {failure} "
        f"({_uncopyable(model)}). Keep what cannot be copied (locks, files, tensors with a history) out of the model, "
        "or give its class a __deepcopy__."
    )


def _uncopyable(model: nn.Module) -> str:
    """Which attribute of which module is to blame."""
    known: dict[int, object] = {id(t): t for t in tensors_of(model).values()}
    known.update((id(module), module) for module in model.modules())
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            try:
                copy.deepcopy(value, dict(known))
            except Exception:
                return f"because of attribute {name!r} of {path or 'the model'!r}, a {type(value).__name__}"
    return "because of its own __deepcopy__"
