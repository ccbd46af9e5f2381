"""Reconstruction: weights of a sub-network that come nearest to what its layers computed in the full network.

When channels go, the layers that read them miss something. How much of it the channels that stay can give back is a
problem of least squares, one for each layer, solved from the inputs of some training images: He, Zhang and Sun,
"Channel Pruning for Accelerating Very Deep Neural Networks" (ICCV 2017), section 3.1, their second step. Nothing is
trained; the images need no labels.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from widthwise.channels import ChannelGraph, Subnet
from widthwise.errors import ConfigError, EmptyData
from widthwise.evaluate.calibrate import adaptive_bn
from widthwise.evaluate.least_squares import Layer, LayerSums
from widthwise.evaluate.modes import (
    Left,
    evaluating,
    images_of,
    normalising_by_batch,
    placement,
    random_state_kept,
)

__all__ = ["reconstruct_weights"]

RIDGE = 1.0
"""How strongly weights are held where they were, beside the mean square of the inputs. Weights that are held lightly
compute more of what the full network did, but learn less in the fine-tuning behind it (docs/methods.md)."""

TARGETS = 2**28
"""Outputs of the full network that are held at once."""


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
    of X. Where it has a bias or only a batch norm reads what it returns, means do not count, and the bias makes up for
    them. Batch norms of the sub-network normalise with the statistics of the images meanwhile, and have those of all
    batches at the end (:func:`adaptive_bn`). Left as they are: layers of other classes and of subclasses, and weights
    that are shared or derived.

    It takes one pass of the sub-network over all images at once, in which each layer is fitted before it runs (and one
    more for each layer that runs several times in a forward), and a pass of the full network for every 2^28 numbers
    of Y.

    Args:
        model: the full network; it is not changed.
        small: what :func:`widthwise.materialize` made of it.
        graph: the trace of the full network.
        subnet: what is left of its channels.
        batches: training images, as for :func:`adaptive_bn`; some hundred. The full network runs on one batch after
            the other, the sub-network on all: so there must be room for that many.
        ridge: see above.

    Returns:
        How many layers were fitted.

    Raises:
        EmptyData: no images.
        ConfigError: ridge is not positive.
        TrainingError: weights would not be finite; those of this layer are as they were.
    """
    if not ridge > 0:
        raise ConfigError(f"ridge is a positive number, but got {ridge}; {RIDGE} is the default.")
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
        uses = _uses(small, layers, images[0])
        kept = {path: subnet.kept_at(graph.axes[f"{path}.weight", 0]).nonzero().flatten().to(device) for path in uses}
        fitting = _Fitting(layers, uses, _Targets(model, images, kept, uses), ridge)
        everything = torch.cat(images)
        stack.enter_context(fitting.on(small))
        while fitting.left:
            with suppress(Left):
                small(everything)
                break  # it came to its end
    adaptive_bn(small, images)
    return len(uses) - len(fitting.left)


@dataclass
class _Use:
    """How a forward uses a layer."""

    calls: int = 0
    elements: int = 0
    """Of what it returns for one image, all calls together."""
    normed: int = 0
    """Calls whose result a batch norm reads, and nothing else."""


class _Fitting:
    """Fits each layer in a forward of the sub-network, right before it runs.

    A layer that runs several times is fitted when the inputs of all its calls are known. What ran in between had its
    old weights, so the forward is left then, and is to be run again.
    """

    def __init__(
        self, layers: Mapping[str, Layer], uses: Mapping[str, _Use], targets: "_Targets", ridge: float
    ) -> None:
        self.left = set(uses)
        """Those that are to be fitted yet."""
        self._layers, self._uses, self._targets, self._ridge = layers, uses, targets, ridge
        self._sums: LayerSums | None = None
        """Of the layer that is being fitted."""

    @contextmanager
    def on(self, small: nn.Module) -> Iterator[None]:
        """Forwards inside fit."""
        with ExitStack() as stack:
            for path in self._uses:
                hook = partial(self._entered, path)
                stack.enter_context(self._layers[path].register_forward_pre_hook(hook, with_kwargs=True))
            yield

    def _entered(self, path: str, _: nn.Module, args: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
        if path not in self.left or (self._sums and self._sums.path != path):
            return
        layer, calls = self._layers[path], self._uses[path].calls
        if self._sums is None:
            self._sums = LayerSums(path, layer)
        (given,) = (*args, *named.values())
        self._sums.add(given, self._targets.take(path) - layer.forward(given))
        if self._sums.calls < calls:
            return
        centred = layer.bias is not None or self._uses[path].normed == calls
        self._sums.solve(self._ridge, centred=centred)
        self._sums = None
        self.left.remove(path)
        if calls > 1:
            raise Left


class _Targets:
    """What layers return in the full network at the channels that stay, for all images, call by call.

    Several layers share a pass, up to a limit of memory.
    """

    def __init__(
        self, model: nn.Module, batches: Sequence[Tensor], kept: Mapping[str, Tensor], uses: Mapping[str, _Use]
    ) -> None:
        self._model, self._batches, self._kept, self._uses = model, batches, kept, uses
        self._held: dict[str, list[list[Tensor]]] = {}

    def take(self, path: str) -> Tensor:
        """Of the next call of a layer."""
        if path not in self._held:
            self._held = {near: [[] for _ in range(self._uses[near].calls)] for near in self._share(path)}
            for batch in self._batches:
                self._run(batch)
        calls = self._held[path]
        target = torch.cat(calls.pop(0))
        if not calls:
            del self._held[path]
        return target

    def _share(self, first: str) -> list[str]:
        """This layer and those behind it whose results there is room for."""
        behind = list(self._uses)[list(self._uses).index(first) :]
        images = sum(map(len, self._batches))
        totals = accumulate(self._uses[path].elements * images for path in behind)
        return [path for path, total in zip(behind, totals, strict=True) if path == first or total <= TARGETS]

    def _run(self, batch: Tensor) -> None:
        """Note what these layers return, and leave the forward behind the last of them."""
        missing = Counter({path: self._uses[path].calls for path in self._held})

        def ran(path: str, layer: nn.Module, _: object, output: Tensor) -> None:
            axis = 1 if isinstance(layer, nn.Conv2d) else -1
            self._held[path][-missing[path]].append(output.index_select(axis, self._kept[path]))
            missing[path] -= 1
            if not missing.total():
                raise Left

        with ExitStack() as stack:
            for path in self._held:
                stack.enter_context(self._model.get_submodule(path).register_forward_hook(partial(ran, path)))
            stack.enter_context(suppress(Left))
            self._model(batch)


def _layers(small: nn.Module) -> dict[str, Layer]:
    """What can be fitted: a forward of their own, or a weight that others use too, would make another problem."""
    uses = Counter(id(held) for module in small.modules() for held in module._parameters.values())
    return {
        path: module
        for path, module in small.named_modules()
        if type(module) in (nn.Conv2d, nn.Linear) and uses[id(module._parameters.get("weight"))] == 1
    }


def _uses(small: nn.Module, layers: Mapping[str, Layer], images: Tensor) -> dict[str, _Use]:
    """How a forward uses its layers, in the order in which they first run; those that do not run are left out."""
    uses: dict[str, _Use] = {}
    outputs: list[tuple[_Use, Tensor]] = []  # held, because an identity is taken again once its tensor is gone
    normed: set[int] = set()

    def ran(path: str, _: nn.Module, __: object, output: Tensor) -> None:
        use = uses.setdefault(path, _Use())
        use.calls += 1
        use.elements += output.numel() // len(images)
        outputs.append((use, output))
        reads.of[id(output)] = 0  # what was said of a tensor that is gone
        normed.discard(id(output))

    def entered(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        normed.update(map(id, args))

    with ExitStack() as stack:
        for path, layer in layers.items():
            stack.enter_context(layer.register_forward_hook(partial(ran, path)))
        for norm in small.modules():
            if isinstance(norm, _BatchNorm):
                stack.enter_context(norm.register_forward_pre_hook(entered))
        reads = stack.enter_context(_Reads())
        reads.note(small(images))
    for use, output in outputs:
        use.normed += id(output) in normed and reads.of[id(output)] == 1
    return uses


class _Reads(TorchFunctionMode):
    """Counts the operations that read a tensor while it is entered; asking for a size is none."""

    def __init__(self) -> None:
        super().__init__()
        self.of: Counter[int] = Counter()
        """By the tensor's identity."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            self.note((args, kwargs))
        return result

    def note(self, operands: object) -> None:
        """One reading of each of these."""
        self.of.update(id(leaf) for leaf in tree_leaves(operands) if isinstance(leaf, Tensor))


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
