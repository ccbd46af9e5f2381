"""A private copy of the user's model to run, so that nothing of the model itself can change.

The copy has random parameters and statistics: a trace and its proof then do not depend on what the weights happen to
be (a scale of zero hides every mistake behind it). It is in single precision, which is fast; where rounding leaves a
doubt, it is turned into double precision for a moment.
"""

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd

from widthwise.errors import UntraceableModel
from widthwise.subnet.resize import copy_structure, refresh, tensors_of
from widthwise.tracing.probe.example import Example, Kind
from widthwise.tracing.probe.independent import independent_of
from widthwise.tracing.probe.modes import Watching
from widthwise.tracing.probe.nested import results_in
from widthwise.tracing.probe.refuse import check_inputs, check_outputs, did_not_copy, did_not_run
from widthwise.tracing.probe.surroundings import buffers_kept, in_parts, making_on, quiet, random_state, widened

__all__ = ["DOUBLE", "Probe", "is_number", "make_probe"]


@dataclass
class Probe:
    """A runnable copy of a model, and example inputs of its type."""

    model: nn.Module
    example: Example
    tolerance: float
    """Largest relative difference that rounding explains."""
    home: torch.device
    """The caller's default device: where a forward makes tensors without a device."""
    dice: "_Dice"
    """What the weights were drawn with."""
    outputs: list[Tensor] = field(default_factory=list)
    """What the copy returns for the example."""
    trains: bool = False
    """Whether the example runs in training mode, where sub-networks must keep running too."""
    branches: bool = False
    """Whether training uses weights or returns tensors that evaluation does not; then each sub-network runs in it."""
    draws_numbers: bool = False
    """Whether training mode draws random numbers beside those of dropout, so that it cannot be compared."""
    training_error: str = ""
    """Why it cannot be run."""
    coarse: Literal["", "by module", "throughout"] = ""
    """How double precision has already shown that a difference was rounding: then single precision need not be asked
    again."""
    widens: bool = False
    """Whether each module's tensors are in double precision while it runs, and only then."""

    @contextmanager
    def in_double(self, *, by_module: bool) -> Iterator[None]:
        """Compute in double precision inside, and in the present one again after.

        Args:
            by_module: double the tensors of each module only while it runs: the memory is that of one module more. A
                tensor that is used elsewhere stays as it is; then the forward does not run, or its rounding stays.
        """
        before = {name: t.dtype for name, t in tensors_of(self.model).items()}
        example, tolerance = self.example, self.tolerance
        if not by_module:
            refresh(self.model.double())
        self.widens, self.example, self.tolerance = by_module, example.cast(torch.float64), DOUBLE
        try:
            yield
        finally:
            for name, tensor in tensors_of(self.model).items():
                tensor.data = tensor.data.to(before.get(name, tensor.dtype))
            refresh(self.model)
            self.widens, self.example, self.tolerance = False, example, tolerance

    def draws(self, name: str, weight: Tensor) -> bool:
        """Whether :meth:`draw` can give a weight of the model its values back."""
        return name in self.dice.starts and weight.is_contiguous()

    def draw(self, name: str, weight: Tensor) -> None:
        """Write the values that a weight had at first over what it has now."""
        self.dice.fill(name, weight.data)

    def run_in_training(self, model: nn.Module | None = None, *, calm: bool = False) -> list[Tensor]:
        """What a forward returns in training mode; nothing where the example does not allow one.

        What it keeps in buffers is as before afterwards.

        Args:
            model: the copy if not given.
            calm: leave dropout and batch norm in evaluation mode. What the latter does with a batch of two says nothing
                about channels (it blows up rounding), and mixes those that lie in the batch.
        """
        model = self.model if model is None else model
        model.train()
        for module in model.modules():
            if calm and isinstance(module, _DropoutNd | _BatchNorm):
                module.training = False
        try:
            with quiet(0), in_parts(model), making_on(self.home), buffers_kept(model):
                example, before = self.example.twice(), random_state()
                outputs = results_in(model(*example.args, **example.kwargs))
                self.draws_numbers |= calm and random_state() != before
        except Exception as error:
            if self.trains:
                raise
            self.training_error = str(error).partition("\n")[0]
            return []
        finally:
            model.eval()
        self.trains = True
        return outputs

    def run(self, model: nn.Module | None = None) -> list[Tensor]:
        """What a forward returns, as tensors, in evaluation mode, without gradients and with fixed randomness."""
        model = self.model if model is None else model
        example = self.example.cast()  # a forward may change its input in place
        wide = widened(model) if self.widens else nullcontext()
        with quiet(0), in_parts(model), making_on(self.home), wide:
            return results_in(model(*example.args, **example.kwargs))


def is_number(tensor: Tensor) -> bool:
    """Whether a tensor holds results that rounding changes a little; others (a class, a mask) are decisions."""
    return tensor.is_floating_point() or tensor.is_complex()


class _Dice:
    """Random tensors at the speed of a copy: drawing each number of a large network takes as long as many forwards."""

    LENGTH = 262_139
    """Numbers drawn once and used again and again; prime, so that no two rows of a weight are alike."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(0)
        self._pool = torch.randn(self.LENGTH, generator=self._generator)
        self.starts: dict[str, int] = {}
        """Where in the pool each weight begins."""

    def like(self, name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """Weights of unit gain; scales and biases of either size, none of them zero."""
        if tensor.ndim <= 1:
            low = -0.5 if name.endswith("bias") else 0.5
            return self.uniform(tensor.shape, low).to(tensor.device, dtype)
        self.starts[name] = int(torch.randint(self.LENGTH, (), generator=self._generator))
        weight = torch.empty(tensor.shape, dtype=dtype, device=tensor.device)
        self.fill(name, weight)
        return weight

    def uniform(self, shape: torch.Size, low: float) -> Tensor:
        """Uniform in [low, low + 1)."""
        return torch.rand(shape, generator=self._generator) + low

    def fill(self, name: str, weight: Tensor) -> None:
        """Write the numbers of a weight, the same ones each time, into a contiguous tensor."""
        gain = float(np.float32(math.prod(weight.shape[1:]) ** -0.5)) if weight.numel() else 0.0  # in any type the same
        flat, start, done = weight.view(-1), self.starts[name], 0
        while done < len(flat):
            piece = self._pool[start : start + len(flat) - done]
            flat[done : done + len(piece)].copy_(piece).mul_(gain)
            start, done = 0, done + len(piece)


def _copy(model: nn.Module, dtype: torch.dtype | None, dice: _Dice) -> nn.Module:
    """A structural copy whose tensors are new: random ones of a type, or clones."""
    memo: dict[int, object] = {}
    for name, parameter in model.named_parameters():
        value = parameter.detach()
        value = dice.like(name, value, dtype) if dtype and parameter.is_floating_point() else value.clone()
        memo[id(parameter)] = nn.Parameter(value, requires_grad=False)
    for _, buffer in model.named_buffers():
        memo[id(buffer)] = buffer.clone().to(dtype) if dtype and buffer.is_floating_point() else buffer.clone()
    try:
        probe = copy_structure(model, memo)
    except Exception as error:
        raise did_not_copy(model, error) from error
    if dtype:
        for module in probe.modules():
            if isinstance(module, _NormBase) and module.running_mean is not None and module.running_var is not None:
                module.running_mean.copy_(dice.uniform(module.running_mean.shape, -0.5))
                module.running_var.copy_(dice.uniform(module.running_var.shape, 0.5))
    probe.eval()
    refresh(probe)
    return probe


DOUBLE = 1e-8
"""Tolerance in double precision."""

_ATTEMPTS: tuple[tuple[torch.dtype | None, float], ...] = ((torch.float32, 2e-5), (torch.float64, DOUBLE), (None, 1e-3))
"""Type and tolerance; the first that runs is used. ``None`` is the model's own type and weights, not random ones."""

_DRAWN: tuple[frozenset[Kind], ...] = (
    frozenset({"numbers", "bytes", "masks"}),
    frozenset({"numbers", "bytes"}),
    frozenset({"numbers"}),
    frozenset(),
)
"""Which inputs are noise, in each type; the first that the forward takes."""


def _attempts(example: Example) -> Iterator[tuple[torch.dtype | None, Collection[Kind], float]]:
    """Type, what is drawn, and tolerance of each attempt, without those that are the same for this example."""
    there = example.kinds()
    for dtype, tolerance in _ATTEMPTS:
        for drawn in dict.fromkeys(kinds & there for kinds in _DRAWN if dtype or not kinds):
            yield dtype, drawn, tolerance


class _Sizes(Watching):
    """Notes whether what runs inside asks tensors how large others are to be, or what to do."""

    _TAGS = (torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output)

    def __init__(self) -> None:
        super().__init__()
        self.decided = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.decided |= any(tag in getattr(func, "tags", ()) for tag in self._TAGS)
        return func(*args, **(kwargs or {}))


def make_probe(model: nn.Module, example: Example, home: torch.device) -> Probe:
    """A copy of the model that runs on the example.

    Raises:
        UntraceableModel: the model cannot be copied, does not run on the example, or returns no tensor.
    """
    inputs = (example.args, dict(example.kwargs))
    check_inputs(inputs)
    failure: Exception | None = None
    rounded: Probe | None = None
    for dtype, drawn, tolerance in _attempts(example):
        if dtype is None and rounded is not None:
            break
        try:
            given, dice = example.noise(drawn).cast(dtype), _Dice()
            probe = Probe(_copy(model, dtype, dice), given, tolerance, home, dice)
            with independent_of(model, probe.model), _Sizes() as sizes:
                probe.outputs = outputs = probe.run()
            if "masks" in drawn and sizes.decided:
                raise ArithmeticError("a mask may say how much there is to compute, or what")  # so it is not drawn
            if any(bool(t.isnan().any()) for t in outputs):
                raise ArithmeticError("the outputs are not numbers (NaN)")  # random weights do not suit every model
        except UntraceableModel:
            raise
        except Exception as error:
            failure = error
            continue
        check_outputs(outputs)
        if dtype is not torch.float32 or all(is_number(t) for t in outputs):
            return probe
        rounded = rounded or probe  # it chooses (the best boxes), and rounding would make it choose otherwise
    if rounded is not None:
        return rounded
    raise did_not_run(model, inputs, failure) from failure
