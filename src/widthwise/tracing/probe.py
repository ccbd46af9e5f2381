"""A private copy of the user's model to run, so that nothing of the model itself can change.

The copy has random parameters and statistics: a trace and its proof then do not depend on what the weights happen to
be (a scale of zero hides every mistake behind it), and double precision tells a wrong network from rounding.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_map_only

from widthwise.errors import UntraceableModel
from widthwise.subnet.resize import copy_structure
from widthwise.tracing.flow import tensors_in

__all__ = ["Example", "Probe", "as_example", "make_probe"]


@dataclass(frozen=True)
class Example:
    """Example inputs: positional and keyword arguments."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def as_example(inputs: Any) -> Example:
    """A tensor is one argument, a tuple or list positional arguments, a mapping keyword arguments."""
    if isinstance(inputs, Mapping):
        return Example((), dict(inputs))
    return Example(tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,), {})


@dataclass
class Probe:
    """A runnable copy of a model, and example inputs of its type."""

    model: nn.Module
    example: Example
    tolerance: float
    """Largest relative difference that rounding explains."""
    outputs: list[Tensor] = field(default_factory=list)
    """What the copy returns for the example."""
    trains: bool = False
    """Whether training mode runs another forward, which must keep running too."""
    training_error: str = ""
    """Why it cannot be run."""

    def run_in_training(self, model: nn.Module | None = None) -> list[Tensor]:
        """What a forward returns in training mode; nothing where the example does not allow one."""
        model = model or self.model
        model.train()
        try:
            with _quiet(0):
                args, kwargs = tree_map_only(Tensor, _twice, (self.example.args, dict(self.example.kwargs)))
                outputs = tensors_in(model(*args, **kwargs))
        except Exception as error:
            if self.trains:
                raise
            self.training_error = str(error).partition("\n")[0]
            return []
        finally:
            model.eval()
        self.trains = True
        return outputs

    def run(self, model: Callable[..., Any] | None = None, seed: int = 0) -> list[Tensor]:
        """Every tensor that a forward returns, in evaluation mode, without gradients and with fixed randomness."""
        example = _cast(self.example, None)  # a forward may change its input in place
        with _quiet(seed):
            return tensors_in((model or self.model)(*example.args, **example.kwargs))


@contextmanager
def _quiet(seed: int) -> Iterator[None]:
    """No gradients, no autocast, and random numbers (torch's, numpy's, Python's) that leave no trace."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    cpu, cuda = torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False)
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=list(devices)), torch.no_grad(), cpu, cuda:
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _random_like(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Weights of unit gain; scales and biases of either size, none of them zero."""
    if tensor.ndim > 1:
        fan_in = max(1, math.prod(tensor.shape[1:]))
        return torch.randn(tensor.shape, generator=generator, dtype=torch.float32) / math.sqrt(fan_in)
    uniform = torch.rand(tensor.shape, generator=generator, dtype=torch.float32)
    return uniform - 0.5 if name.endswith("bias") else uniform + 0.5


def _copy(model: nn.Module, dtype: torch.dtype | None, randomise: bool) -> nn.Module:
    """A structural copy whose tensors are new."""
    generator = torch.Generator().manual_seed(0)
    memo: dict[int, object] = {}
    for name, parameter in model.named_parameters():
        value = parameter.detach()
        if parameter.is_floating_point():
            value = _random_like(name, value, generator).to(value.device) if randomise else value.clone()
            value = value.to(dtype or parameter.dtype)
        memo[id(parameter)] = nn.Parameter(value, requires_grad=False)
    for _, buffer in model.named_buffers():
        memo[id(buffer)] = buffer.clone().to(dtype) if dtype and buffer.is_floating_point() else buffer.clone()
    probe = copy_structure(model, memo)
    if randomise:
        for module in probe.modules():
            if isinstance(module, _NormBase) and module.running_mean is not None and module.running_var is not None:
                for statistic, low in ((module.running_mean, -0.5), (module.running_var, 0.5)):
                    random = torch.rand(statistic.shape, generator=generator)
                    statistic.copy_(random + low)
    return probe.eval()


def _twice(tensor: Tensor) -> Tensor:
    """A batch of two: batch norm cannot train on one value per channel."""
    return torch.cat([tensor, tensor]) if tensor.ndim else tensor


def _cast(example: Example, dtype: torch.dtype | None) -> Example:
    def cast(tensor: Tensor) -> Tensor:
        tensor = tensor.detach().clone()
        return tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor

    args, kwargs = tree_map_only(Tensor, cast, (example.args, dict(example.kwargs)))
    return Example(args, kwargs)


_ATTEMPTS: tuple[tuple[torch.dtype | None, bool, float], ...] = (
    (torch.float64, True, 1e-8),
    (torch.float32, True, 1e-4),
    (None, False, 1e-3),
)
"""Type, whether parameters are random, and tolerance; the first that runs is used. ``None`` is the model's own."""


def make_probe(model: nn.Module, example: Example) -> Probe:
    """A copy of the model that runs on the example.

    Raises:
        UntraceableModel: the model cannot be copied, does not run on the example, or returns no tensor.
    """
    if any(t.is_meta for t in [*model.parameters(), *model.buffers()]):
        raise UntraceableModel(
            "A trace runs the model, but its parameters are on the meta device and hold no numbers. Build the model on "
            "a real device first (model.to_empty(device='cpu') and initialise it)."
        )
    failure: Exception | None = None
    for dtype, randomise, tolerance in _ATTEMPTS:
        try:
            probe = Probe(_copy(model, dtype, randomise), _cast(example, dtype), tolerance)
            probe.outputs = outputs = probe.run()
            if any(bool(t.isnan().any()) for t in outputs):
                raise ArithmeticError("the outputs are not numbers (NaN)")  # random weights do not suit every model
        except Exception as error:
            failure = error
            continue
        if not outputs:
            raise UntraceableModel(
                "A model's forward must return tensors (also inside tuples, mappings or objects), but none was found "
                "in what this one returns. Wrap it in a module that returns a tensor."
            )
        return probe
    shapes = [list(t.shape) for t in tensors_in((example.args, dict(example.kwargs)))]
    raise UntraceableModel(
        f"The model must run on the example inputs (tensors of shapes {shapes}), but it raised "
        f"{type(failure).__name__}: {failure}. Pass inputs that `model(*inputs)` accepts (a tensor or tuple for "
        "positional, a dict for keyword arguments), on the model's device."
    ) from failure
