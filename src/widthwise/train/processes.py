"""What several processes must agree on where nothing else sees to it: weights at the start, gradients at each step."""

from collections.abc import Iterable

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

__all__ = ["average_gradients", "share_tensors"]


def share_tensors(modules: Iterable[nn.Module]) -> None:
    """Gives every process the first one's parameters and buffers."""
    for module in modules:
        broadcast([t.detach() for t in (*module.parameters(), *module.buffers())])


def average_gradients(accelerator: Accelerator, parameters: Iterable[nn.Parameter]) -> None:
    """Replaces each gradient by its mean over the processes, in one exchange per floating type.

    A parameter that has a gradient in some processes only counts as zero in the others; one that has none anywhere
    keeps none, so that weight decay leaves it alone.
    """
    if accelerator.num_processes == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    if not trained:
        return
    has = torch.tensor([p.grad is not None for p in trained], dtype=torch.float32, device=accelerator.device)
    used = [p for p, any_has in zip(trained, accelerator.reduce(has, "sum").tolist(), strict=True) if any_has]
    for dtype in dict.fromkeys(p.dtype for p in used):
        same = [p for p in used if p.dtype == dtype]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in same]
        flat = accelerator.reduce(torch.cat([g.reshape(-1) for g in gradients]), "mean")
        _put_back(same, gradients, flat)


def _put_back(parameters: list[nn.Parameter], gradients: list[Tensor], flat: Tensor) -> None:
    parts = flat.split([g.numel() for g in gradients])
    for parameter, gradient, part in zip(parameters, gradients, parts, strict=True):
        parameter.grad = gradient.copy_(part.view(gradient.shape))
