"""The problem of least squares that a layer is fitted by."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn import functional as F

from widthwise.errors import TrainingError

__all__ = ["Layer", "LayerSums"]

ELEMENTS = 2**24
"""Of the unfolded inputs of a convolution, at once."""

Layer = nn.Conv2d | nn.Linear


class LayerSums:
    """Products of a layer's inputs with one another and with what its outputs lack, summed over positions.

    What is solved for is the change of its weights: where nothing is lacking, nothing changes.

    Args:
        path: the layer's name.
        layer: whose weights are to be fitted.
    """

    def __init__(self, path: str, layer: Layer) -> None:
        self.path, self.layer = path, layer
        self.calls = 0
        self.groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
        size, wide = layer.weight[0].numel(), len(layer.weight) // self.groups
        zeros = torch.zeros(self.groups, 1 + size, 1 + size + wide, dtype=torch.float64)
        self.products: Float64[Tensor, "groups inputs inputs_and_outputs"] = zeros
        """A one stands in front of the inputs, so that counts and means are among the products."""

    def add(self, inputs: Tensor, lacking: Tensor) -> None:
        """One call."""
        self.calls += 1
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

    def solve(self, ridge: float, *, centred: bool) -> None:
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
                f"Reconstructed weights must be finite, but those of {self.path!r} are not; look for NaN or infinity "
                "in the images and the weights of the full network."
            )
        weight += change.mT.reshape(weight.shape).to(weight)
        if self.layer.bias is not None:
            self.layer.bias += offset.flatten().to(weight)
