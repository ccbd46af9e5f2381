"""Torch-Pruning as its documentation uses it; the ratio that meets the budget is found by bisection.

``BasePruner`` with an importance, which is what its README shows, and what its pruners for L1, group norm and BN scale
are without sparse training ("optional", says the README; none is done here, for no tool). Isomorphic pruning is global,
as the package wants it.

Its graph takes a zero-padded shortcut for one that keeps channels in their places, so what it returns then is another
function than the full network without those channels, and it does not say so. There are three ways to deal with that
(the option ``shortcuts``): ``ignored`` leaves the layers that write to the residual stream alone, by the documented
``ignored_layers``; ``convolved`` first rewrites the shortcuts as convolutions that compute the same; ``padded`` does
nothing about it.
"""

import copy  # user code
from fnmatch import fnmatch

import torch
import torch_pruning as tp  # user code
from torch import Tensor, nn
from torch.nn import functional as F  # user code: taylor

from benchmarks.peers.bisection import bisect
from benchmarks.peers.task import Job, Pruned
from widthwise.zoo.resnet_cifar import BasicBlock

__all__ = ["convolve_shortcuts", "prune"]

IMPORTANCES = {
    "l1": lambda: tp.importance.GroupMagnitudeImportance(p=1),  # user code: l1
    "group_norm": lambda: tp.importance.GroupMagnitudeImportance(p=2),  # user code: group_norm
    "bn_scale": lambda: tp.importance.BNScaleImportance(),  # user code: bn_scale
    "taylor": lambda: tp.importance.GroupTaylorImportance(),  # user code: taylor
}


def prune(job: Job) -> Pruned:
    """The largest network under the budget that a single ratio gives."""
    model, scope = job.model, str(job.task.options["scope"])
    importance = IMPORTANCES[str(job.task.options["importance"])]()
    shortcuts = job.task.options["shortcuts"]
    if shortcuts == "convolved":
        convolve_shortcuts(model)
    patterns = job.task.settings.residual if shortcuts == "ignored" else ()
    if job.task.options["importance"] == "taylor":
        _take_gradients(job)
    # user code
    ignored = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1:]
    # end of user code
    # user code: ignored
    ignored += [name for name, _ in model.named_modules() if any(fnmatch(name, pattern) for pattern in patterns)]
    # end of user code

    def pruned(ratio: float) -> nn.Module:  # user code
        small = copy.deepcopy(model)  # user code
        # user code: taylor
        for parameter, full in zip(small.parameters(), model.parameters(), strict=True):
            parameter.grad = None if full.grad is None else full.grad.clone()
        # end of user code
        # user code
        pruner = tp.pruner.BasePruner(
            small,
            job.example,
            importance=importance,
            pruning_ratio=ratio,
            global_pruning=scope != "local",
            isomorphic=scope == "isomorphic",
            ignored_layers=[small.get_submodule(name) for name in ignored],
        )
        pruner.step()
        return small
        # end of user code

    found, ratio = bisect(pruned, job.macs, job.limit)  # user code
    if found is None:
        raise RuntimeError(f"no pruning ratio up to {ratio:.4f} meets the budget")
    found.zero_grad()
    theirs = float(tp.utils.count_ops_and_params(found, job.example)[0])
    return Pruned(found, {"ratio": ratio, "ignored layers": len(ignored), "their count": theirs})


# user code: convolved
class Convolved(BasicBlock):
    """A block whose shortcut is a convolution."""

    def _shortcut(self, x: Tensor) -> Tensor:
        projected: Tensor = self.get_submodule("shortcut")(x)
        return projected


def convolve_shortcuts(model: nn.Module) -> None:
    """Zero-padded shortcuts as convolutions that compute the same, in place."""
    for block in [module for module in model.modules() if isinstance(module, BasicBlock) and module.pad_before]:
        weight = torch.zeros_like(block.conv1.weight[:, :, :1, :1])
        copied = torch.arange(weight.shape[1])
        weight[block.pad_before + copied, copied] = 1
        shortcut = nn.Conv2d(weight.shape[1], weight.shape[0], 1, block.stride, bias=False)
        shortcut.weight = nn.Parameter(weight)
        block.shortcut = shortcut
        block.__class__ = Convolved


# end of user code


def _take_gradients(job: Job) -> None:
    """Leave the gradient of the loss on some training images in the model."""
    model, settings = job.model, job.task.settings
    batches = job.train.batches(settings.gradient_batch, device=job.example.device, seed=job.task.seed)
    # user code: taylor
    for _, (images, labels) in zip(range(settings.gradient_batches), batches, strict=False):
        F.cross_entropy(model(images), labels).backward()
    # end of user code
