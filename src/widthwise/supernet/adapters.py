"""The 1x1 convolution behind each stage that restores the full number of channels (stage-wise pruning, section 4.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from widthwise.channels import Subnet
from widthwise.stages import Stages
from widthwise.subnet.materialize import select

__all__ = ["Adapters"]

_CONVOLUTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


class Adapters(nn.Module):
    """One linear map over channels per stage, without norm and activation; a head, whose outputs are whole, has none.

    A sub-network uses the columns of the channels that it has. They start as the identity where the target has as many
    channels as the stage, so that the full stage is its own target from the beginning.

    Args:
        stages: of the network.
        targets: for each stage the number of channels of what it is compared with; its own if not given (0 for a head).
        seed: of those that start at random, because the target has another number of channels.
    """

    def __init__(self, stages: Stages, targets: Sequence[int] | None = None, *, seed: int = 0) -> None:
        super().__init__()
        self._stages = stages
        sizes = [stage.channels for stage in stages.stages]
        self.maps = nn.ModuleList()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for size, target in zip(sizes, targets or sizes, strict=True):
                layer = nn.Linear(size, target) if size else nn.Identity()
                if isinstance(layer, nn.Linear):
                    nn.init.zeros_(layer.bias)
                    if size == target:
                        nn.init.eye_(layer.weight)
                self.maps.append(layer)

    def forward(self, index: int, features: Tensor, subnet: Subnet) -> Tensor:
        """What a sub-network's stage returned, with the target's number of channels."""
        layer, site = self.maps[index], self._stages.stages[index].leaves
        if not isinstance(layer, nn.Linear) or site is None:
            return features
        weight, left = layer.weight, self._stages.left(index, subnet)
        if left is not None:
            weight = select(weight, {1: left})
        if site[0] == 1 and features.ndim in _CONVOLUTIONS:
            window = (1,) * (features.ndim - 2)
            return _CONVOLUTIONS[features.ndim](features, weight.reshape(*weight.shape, *window), layer.bias)
        return F.linear(features.movedim(site[0], -1), weight, layer.bias).movedim(-1, site[0])
