"""Reconstruction: weights of a sub-network that come nearest to what its layers computed in the full network.

When channels go, the layers that read them miss something. How much of it the channels that stay can give back is a
problem of least squares, one for each layer, solved from the inputs of some training images: He, Zhang and Sun,
"Channel Pruning for Accelerating Very Deep Neural Networks" (ICCV 2017), section 3.1, their second step. Nothing is
trained; the images need no labels.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from widthwise.channels import ChannelGraph, Subnet
from widthwise.errors import ConfigError, EmptyData, TrainingError
from widthwise.evaluate.calibrate import adaptive_bn
from widthwise.evaluate.modes import (
    Left,
    evaluating,
    images_of,
    leaving,
    normalising_by_batch,
    placement,
    random_state_kept,
)

__all__ = ["reconstruct_weights"]

RIDGE = 0.1
"""How strongly weights are held where they were, beside the mean square of the inputs: few images say little of some
directions."""

ELEMENTS = 2**24
"""Of the unfolded inputs of a convolution, at once."""

_Layer = nn.Conv2d | nn.Linear


def reconstruct_weights(
    model: nn.Module,
    small: nn.Module,
    graph: ChannelGraph,
    subnet: Subnet,
    batches: Iterable[Any],
    *,
    ridge: float = RIDGE,
) -> int:
    """Fit the weights of a sub-network, layer by layer, to the outputs of the full network; in place.

    In the order in which they run, each linear layer and 2-d convolution (grouped ones too) gets the weights W that
    minimise ``|Y - X W|² + ridge s |W - W0|²``: X are its inputs in the sub-network, whose layers in front are fitted
    already, Y its outputs in the full network at the channels that stay, W0 its weights so far and s the mean square
    of X. Where it has a bias or feeds a batch norm, means do not count, and the bias makes up for them. Batch norms of
    the sub-network normalise with the statistics of the batch meanwhile, and have those of all batches at the end
    (:func:`adaptive_bn`). Left as they are: layers of other classes and of subclasses, and weights that are shared or
    derived.

    It takes two partial passes over the images for each layer, and as much again for the sums.

    Args:
        model: the full network; it is not changed.
        small: what :func:`widthwise.materialize` made of it.
        graph: the trace of the full network.
        subnet: what is left of its channels.
        batches: training images, as for :func:`adaptive_bn`; some hundred, in batches of 32 or more. Kept in memory.
        ridge: see above.

    Returns:
        How many layers were fitted.

    Raises:
        EmptyData: no images.
        ConfigError: ridge is not positive.
        TrainingError: weights would not be finite; those of this layer are as they were.
    """
    if not ridge > 0:
        raise ConfigError(f"ridge is a positive number, but got {ridge}; {RIDGE} holds the weights lightly.")
    images = [images_of(batch) for batch in batches]
    if not any(map(len, images)):
        raise EmptyData("Reconstruction needs at least one batch of images, but got none.")
    device, dtype = placement(small)
    layers = _layers(small)
    images = [batch.to(device, dtype) for batch in images if len(batch)]
    with ExitStack() as stack:
        stack.enter_context(random_state_kept(device))
        stack.enter_context(torch.no_grad())
        stack.enter_context(evaluating(model))
        stack.enter_context(_statistics_kept(small))
        stack.enter_context(normalising_by_batch(small))
        calls, free = _order(small, layers, images[0])
        for path, uses in calls.items():
            sums, kept = _Sums(layers[path]), subnet.kept_at(graph.axes[f"{path}.weight", 0]).nonzero().flatten()
            for batch in images:
                _, wanted = _seen(model, path, batch, uses)
                inputs, outputs = _seen(small, path, batch, uses)
                for x, y, target in zip(inputs, outputs, wanted, strict=True):
                    sums.add(x, target.index_select(sums.axis, kept.to(device)) - y)
            sums.solve(path, ridge, centred=path in free)
    adaptive_bn(small, images)
    return len(calls)


class _Sums:
    """Products of a layer's inputs with one another and with what its outputs lack, summed over positions.

    What is solved for is the change of its weights: where nothing is lacking, nothing changes, to the last digit.
    """

    def __init__(self, layer: _Layer) -> None:
        self.layer = layer
        self.groups, self.axis = (layer.groups, 1) if isinstance(layer, nn.Conv2d) else (1, -1)
        size, wide = layer.weight[0].numel(), len(layer.weight) // self.groups
        zeros = torch.zeros(self.groups, 1 + size, 1 + size + wide, dtype=torch.float64)
        self.products: Float64[Tensor, "groups inputs inputs_and_outputs"] = zeros
        """A one stands in front of the inputs, so that counts and means are among the products."""

    def add(self, inputs: Tensor, lacking: Tensor) -> None:
        """One call."""
        for rows, wanted in self._rows(inputs, lacking):
            both = torch.cat([torch.ones_like(rows[..., :1]), rows, wanted], dim=2).float()
            self.products += (both[..., : self.products.shape[1]].mT @ both).to("cpu", torch.float64)

    def _rows(self, x: Tensor, y: Tensor) -> Iterator[tuple[Float[Tensor, "groups n k"], Float[Tensor, "groups n o"]]]:
        layer = self.layer
        if isinstance(layer, nn.Linear):
            yield x.reshape(1, -1, x.shape[-1]), y.reshape(1, -1, y.shape[-1])
            return
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
        share = max(1, ELEMENTS // (layer.weight[0].numel() * self.groups * y[0, 0].numel()))
        for few, wanted in zip(x.split(share), y.split(share), strict=True):
            patches = F.unfold(few, layer.kernel_size, layer.dilation, stride=layer.stride)
            yield self._by_group(patches), self._by_group(wanted.flatten(2))

    def _by_group(self, values: Float[Tensor, "n channels positions"]) -> Float[Tensor, "groups rows each"]:
        parts: Tensor = values.unflatten(1, (self.groups, -1))
        return parts.permute(1, 0, 3, 2).flatten(1, 2)

    def solve(self, path: str, ridge: float, *, centred: bool) -> None:
        """Give the layer the best weights, and with a bias the best bias."""
        weight, size = self.layer.weight, self.products.shape[1] - 1
        means = self.products / self.products[:, :1, :1].clamp(min=1)
        mean, square = means[:, 0, 1:], means[:, 1:, 1:]
        if centred:
            square = square - mean[:, :size, None] * mean[:, None]
        xx, xy = square[..., :size], square[..., size:]
        scale = xx.diagonal(dim1=1, dim2=2).mean(1)
        live = (scale > 0)[:, None, None]  # inputs that never change say nothing
        hold = ridge * torch.where(live, scale[:, None, None], 1.0) * torch.eye(size, dtype=torch.float64)
        change = torch.where(live, torch.linalg.solve(xx + hold, xy), 0.0)
        offset = mean[:, size:] - (mean[:, None, :size] @ change).squeeze(1)
        if not bool(change.isfinite().all() and offset.isfinite().all()):
            raise TrainingError(
                f"Reconstructed weights must be finite, but those of {path!r} are not; look for NaN or infinity in the "
                "images and the weights of the full network."
            )
        weight += change.mT.reshape(weight.shape).to(weight)
        if self.layer.bias is not None:
            self.layer.bias += offset.flatten().to(weight)


def _layers(small: nn.Module) -> dict[str, _Layer]:
    """What can be fitted: a forward of their own, or a weight that others use too, would make another problem."""
    uses = Counter(id(held) for module in small.modules() for held in module._parameters.values())
    return {
        path: module
        for path, module in small.named_modules()
        if type(module) in (nn.Conv2d, nn.Linear) and uses[id(module._parameters.get("weight"))] == 1
    }


def _order(small: nn.Module, layers: Mapping[str, _Layer], images: Tensor) -> tuple[Counter[str], set[str]]:
    """How often each layer runs, in the order of the first time; and which are free of their mean.

    These have a bias, or all that they return goes into a batch norm first.
    """
    calls: Counter[str] = Counter()
    last: dict[int, str] = {}
    alive: list[Tensor] = []  # an identity is taken again once its tensor is gone
    normed: Counter[str] = Counter()

    def ran(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: object, output: Tensor) -> None:
            calls[path] += 1
            last[id(output)] = path
            alive.append(output)

        return hook

    def entered(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        if args and id(args[0]) in last:
            normed[last.pop(id(args[0]))] += 1

    with ExitStack() as stack:
        for path, layer in layers.items():
            stack.enter_context(layer.register_forward_hook(ran(path)))
        for norm in small.modules():
            if isinstance(norm, _BatchNorm):
                stack.enter_context(norm.register_forward_pre_hook(entered))
        small(images)
    biased = {path for path in calls if layers[path].bias is not None}
    return calls, biased | {path for path, count in calls.items() if normed[path] == count}


def _seen(model: nn.Module, path: str, images: Tensor, calls: int) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of a layer, call by call; what comes after the last call does not run."""
    layer, inputs, outputs = model.get_submodule(path), list[Tensor](), list[Tensor]()

    def ran(_: nn.Module, args: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> None:
        (given,) = (*args, *named.values())
        # Where the forward goes on, operations in place would change what was seen.
        ends = len(inputs) + 1 == calls
        inputs.append(given if ends else given.clone())
        outputs.append(output if ends else output.clone())

    with layer.register_forward_hook(ran, with_kwargs=True), leaving(layer, calls), suppress(Left):
        model(images)
    return inputs, outputs


@contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """The buffers of batch norms are as before afterwards, however it ends."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    before = [{name: b.clone() for name, b in norm.named_buffers(recurse=False)} for norm in norms]
    try:
        yield
    finally:
        for norm, buffers in zip(norms, before, strict=True):
            for name, value in buffers.items():
                norm.get_buffer(name).copy_(value)
