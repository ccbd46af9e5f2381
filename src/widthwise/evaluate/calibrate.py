"""Adaptive batch norm: the statistics that a sub-network would have, without training it.

FNNP (section 3, equations 2-4): removing filters changes the distribution of what reaches each batch norm,
so the statistics of the full network (the paper's "global BN") rank sub-networks badly. `adaptive_bn` freezes
all weights and recomputes mean and variance over a small part of the training set.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from widthwise.errors import ConfigError, EmptyData, TrainingError
from widthwise.evaluate.modes import Precision, autocast, evaluating, images_of, placement, random_state_kept

__all__ = ["CalibrationResult", "adaptive_bn"]


@dataclass(frozen=True)
class CalibrationResult:
    """What `adaptive_bn` did."""

    layers: int
    """Batch-norm layers whose running mean and variance were recomputed."""
    images: int
    """Images seen; 0 where the network has no batch norm, for then nothing is run."""
    message: str
    """The same in words, with what was left alone and why."""


def adaptive_bn(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    precision: Precision = "fp32",
    channels_last: bool = False,
) -> CalibrationResult:
    """Replaces the running statistics of every batch norm of `model` by those of `batches`, in place.

    One pass. Each batch norm normalises with its own batch's statistics, as in training, while everything
    else (dropout, stochastic depth) is in evaluation mode; nothing needs gradients. The running mean and
    variance become the mean and the unbiased variance (equation 3) of *all* values that entered the layer,
    pooled in float64 with the batches' counts: no moving average (equation 4), no mean of variances. What
    reaches the first batch norm does not depend on how the images are split into batches, so nor do its
    statistics; a deeper layer's input does depend on it, through the normalisation in front of it.

    The moments of one batch are those that the layer itself computes to normalise, so collecting them costs
    next to nothing. They are float32 at least, also in half-precision models: on CPU these get their own
    float64 sums, because PyTorch's kernels lose digits there (in channels_last or under autocast on CPU
    expect a relative error of 1e-4, otherwise of 1e-6).

    A layer that is used several times pools all its inputs. A layer that the pass does not reach (auxiliary
    heads) keeps its statistics, as do layers without running statistics. `num_batches_tracked` stays: this
    is not training. Training flags, momentum, hooks and the random state are as before afterwards; when
    anything fails, so are the statistics.

    Args:
        model: any module; batch norms are found by class (BatchNorm1d/2d/3d, SyncBatchNorm, subclasses).
        batches: tensors of images, or tuples, lists or mappings whose first element is one. They are moved
            to the model's device and, where floating, to its type.
        precision: mixed precision of the pass.
        channels_last: run the images in that memory format (faster on most hardware).

    Raises:
        EmptyData: no batch, or only empty ones.
        ConfigError: a batch gives a layer one value per channel, which has no variance.
        TrainingError: a statistic is not finite.
    """
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, _BatchNorm) and _is_tracking(m)]
    if not layers:
        return CalibrationResult(0, 0, "the network has no batch norm with running statistics: nothing to do")
    device, dtype = placement(model)
    pools = _pools(layers)
    images = 0
    with ExitStack() as stack:
        stack.enter_context(random_state_kept(device))
        stack.enter_context(torch.no_grad())
        stack.enter_context(evaluating(model))
        for pool in pools:
            pool.attach(stack)
        for batch in batches:
            x = _prepare(images_of(batch), device, dtype, channels_last)
            if len(x) == 0:
                continue
            with autocast(device, precision):
                model(x)
            for pool in pools:
                pool.flush()
            images += len(x)
    if images == 0:
        raise EmptyData("adaptive batch norm needs at least one batch of images, but got none")
    return _commit(pools, images)


class _Pool:
    """Pooled moments of the batch norms of one device and type.

    During the pass the layers write into slices of one flat tensor (`scratch`) instead of their buffers, with
    momentum 1: after a call a slice holds exactly that batch's mean and unbiased variance. One flat tensor
    makes pooling a handful of operations per batch, however many layers there are.
    """

    def __init__(self, layers: list[tuple[str, _BatchNorm]], dtype: torch.dtype) -> None:
        self.layers = layers
        widths = [layer.num_features for _, layer in layers]
        stops = torch.tensor(widths).cumsum(0).tolist()
        self.slices = [slice(stop - width, stop) for width, stop in zip(widths, stops, strict=True)]
        device = _mean(layers[0][1]).device
        self.scratch = torch.zeros(2, stops[-1], dtype=dtype, device=device)
        home = "cpu" if device.type == "mps" else device  # there is no float64 on mps
        self.widths = torch.tensor(widths, device=home)
        self.count, self.mean, self.m2 = torch.zeros(3, stops[-1], dtype=torch.float64, device=home)
        self.pending = [0] * len(layers)
        self.reached = [False] * len(layers)
        self.half = [_is_half(layer) for _, layer in layers]

    def attach(self, stack: ExitStack) -> None:
        """Redirects every layer's statistics to the scratch; leaving `stack` undoes it."""
        for index, (_, layer) in enumerate(self.layers):
            part = self.scratch[:, self.slices[index]]
            buffers = {"running_mean": part[0], "running_var": part[1]}
            if layer.num_batches_tracked is not None:
                buffers["num_batches_tracked"] = layer.num_batches_tracked.clone()
            parameters = _raised(layer) if self.half[index] else {}
            stack.callback(layer._buffers.update, {name: layer._buffers[name] for name in buffers})
            stack.callback(layer._parameters.update, {name: layer._parameters[name] for name in parameters})
            stack.callback(setattr, layer, "momentum", layer.momentum)
            layer._buffers.update(buffers)
            layer._parameters.update(parameters)
            layer.momentum, layer.training = 1.0, True
            hook = layer.register_forward_pre_hook(self._hook(index), with_kwargs=True)
            stack.callback(hook.remove)

    def flush(self) -> None:
        """Pools what the layers hold from the batch that has just run."""
        counts = torch.tensor(self.pending, device=self.widths.device, dtype=torch.float64)
        n = counts.repeat_interleave(self.widths, output_size=self.scratch.shape[1])
        mean, variance = self.scratch.to(device=n.device, dtype=torch.float64)
        self._pool(slice(None), n, mean, variance * (n - 1).clamp(min=0))
        self.pending = [0] * len(self.layers)

    def _hook(self, index: int) -> Any:
        name, layer = self.layers[index]
        # See the docstring of `adaptive_bn`: only there are the layer's own moments too coarse.
        own_sums = self.half[index] and self.scratch.device.type == "cpu"

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x: Tensor = args[0] if args else next(iter(kwargs.values()))
            count = x.numel() // layer.num_features
            _check_count(name, x, count)
            self.reached[index] = True
            if own_sums:
                self._pool(self.slices[index], *_moments(x, count))
                return
            if self.pending[index]:  # a second use within one batch would overwrite the first
                n = torch.tensor(float(self.pending[index]), device=self.count.device, dtype=torch.float64)
                part = self.scratch[:, self.slices[index]].to(device=n.device, dtype=torch.float64)
                self._pool(self.slices[index], n, part[0], part[1] * (n - 1))
            self.pending[index] = count

        return before

    def _pool(self, at: slice, n: Tensor, mean: Tensor, m2: Tensor) -> None:
        """Adds `n` values of that mean and sum of squared deviations (Chan, Golub and LeVeque, 1979)."""
        total = self.count[at] + n
        share = n / total.clamp(min=1)
        delta = mean - self.mean[at]
        self.m2[at] += m2 + delta.square() * self.count[at] * share
        self.mean[at] += delta * share
        self.count[at] = total


def _pools(layers: list[tuple[str, _BatchNorm]]) -> list[_Pool]:
    groups: dict[tuple[torch.device, torch.dtype], list[tuple[str, _BatchNorm]]] = {}
    for name, layer in layers:
        mean = _mean(layer)
        dtype = torch.float64 if mean.dtype == torch.float64 else torch.float32
        groups.setdefault((mean.device, dtype), []).append((name, layer))
    return [_Pool(group, dtype) for (_, dtype), group in groups.items()]


def _commit(pools: list[_Pool], images: int) -> CalibrationResult:
    """Writes all statistics, or none if one of them is not finite."""
    writes: list[tuple[Tensor, Tensor]] = []
    skipped: list[str] = []
    for pool in pools:
        variance = pool.m2 / (pool.count - 1).clamp(min=1)
        for index, (name, layer) in enumerate(pool.layers):
            if not pool.reached[index]:
                skipped.append(name)
                continue
            at = pool.slices[index]
            assert layer.running_mean is not None
            assert layer.running_var is not None
            writes.append((layer.running_mean, pool.mean[at].to(layer.running_mean)))
            writes.append((layer.running_var, variance[at].to(layer.running_var)))
            _check_finite(name, writes[-2][1], writes[-1][1])
    for buffer, value in writes:
        buffer.data.copy_(value)
    layers = len(writes) // 2
    message = f"recomputed the statistics of {layers} batch-norm layers over {images} images"
    if skipped:
        message += f"; the pass did not reach {', '.join(skipped)}, which keep theirs"
    return CalibrationResult(layers, images, message)


def _moments(x: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean and sum of squared deviations per channel (axis 1), each from float64 sums."""
    dims = [0, *range(2, x.ndim)]
    n = torch.tensor(float(count), dtype=torch.float64)
    mean = x.sum(dims, dtype=torch.float64) / n
    squares = torch.linalg.vector_norm(x, dim=dims, dtype=torch.float64).square()
    return n, mean, (squares - n * mean.square()).clamp(min=0)


def _raised(layer: _BatchNorm) -> dict[str, nn.Parameter | None]:
    """Float32 copies of the affine parameters: half-precision inputs need all of a layer's tensors alike."""
    affine = {name: layer._parameters.get(name) for name in ("weight", "bias")}
    return {n: nn.Parameter(p.detach().float(), False) for n, p in affine.items() if p is not None}


def _prepare(x: Tensor, device: torch.device, dtype: torch.dtype, channels_last: bool) -> Tensor:
    x = x.to(device, dtype if x.is_floating_point() else x.dtype)
    return x.contiguous(memory_format=torch.channels_last) if channels_last and x.ndim == 4 else x


def _is_tracking(layer: _BatchNorm) -> bool:
    return layer.running_mean is not None and layer.running_var is not None


def _is_half(layer: _BatchNorm) -> bool:
    return _mean(layer).dtype in (torch.float16, torch.bfloat16)


def _mean(layer: _BatchNorm) -> Tensor:
    assert layer.running_mean is not None  # `_is_tracking` selected it
    return layer.running_mean


def _check_count(name: str, x: Tensor, count: int) -> None:
    if count < 2:
        raise ConfigError(
            f"adaptive batch norm needs two or more values per channel in every batch, but layer {name!r} "
            f"was given shape {tuple(x.shape)}; use larger batches, or leave out a last batch of one image"
        )


def _check_finite(name: str, mean: Tensor, variance: Tensor) -> None:
    for what, value in (("mean", mean), ("variance", variance)):
        if not bool(value.isfinite().all()):
            raise TrainingError(
                f"batch-norm statistics must be finite, but the {what} of layer {name!r} is not in "
                f"{str(value.dtype).removeprefix('torch.')}; look for NaN or infinity in the images and the "
                "weights, or keep the layer in float32 where float16 overflows"
            )
