"""What the learned adapter of a stage leaves undone for one sub-network, by ridge regression over channels."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["RIDGE", "fitted_part", "refitted"]

RIDGE = 1e-3
"""Weight of the correction's size, as a share of the mean square of the channels. It keeps correlated and dead channels
from deciding, and leaves the learned adapter as it is where there are fewer positions than channels."""


def fitted_part(images: int) -> int:
    """How many images of a batch the regression sees, the first ones; the others are scored."""
    return images // 2


def refitted(found: Sequence[Tensor], adapted: Sequence[Tensor], targets: Sequence[Tensor], dim: int) -> list[Tensor]:
    """The adapter's results, each plus a linear map of the stage's own channels that brings it nearer to the target.

    One adapter serves all widths of a stage, and training shows it narrow ones only, so it is right for none: the full
    stage seems to lose something too. What it misses is regressed on the channels of this sub-network, over all
    positions of the first half of each batch.

    Args:
        found: what the stage returned for each batch, with the channels that it keeps.
        adapted: the same behind the learned adapter.
        targets: what these should be.
        dim: where the channels lie.
    """
    parts = [fitted_part(len(batch)) for batch in found]
    grams, crosses = [], []
    for batch, near, target, part in zip(found, adapted, targets, parts, strict=True):
        rows = _rows(batch[:part], dim)
        missing = _rows(target[:part], dim, ones=False) - _rows(near[:part], dim, ones=False)
        grams.append((rows.T @ rows).double())
        crosses.append((rows.T @ missing).double())
    solved = _solve(torch.stack(grams).sum(0), torch.stack(crosses).sum(0))
    return [
        near + (_rows(batch, dim) @ solved).unflatten(0, near.movedim(dim, -1).shape[:-1]).movedim(-1, dim).to(near)
        for batch, near in zip(found, adapted, strict=True)
    ]


def _rows(batch: Tensor, dim: int, *, ones: bool = True) -> Float[Tensor, "positions channels"]:
    """Every position of every image as a row; behind its channels a one, for the bias."""
    rows = batch.movedim(dim, -1).flatten(0, -2).float()
    return torch.cat([rows, rows.new_ones(len(rows), 1)], 1) if ones else rows


def _solve(
    gram: Float[Tensor, "channels channels"], cross: Float[Tensor, "channels targets"]
) -> Float[Tensor, "channels targets"]:
    """In double precision: the Gram matrix of a stage's channels is badly conditioned. The bias is not held back."""
    weight = RIDGE * gram.diagonal()[:-1].mean().clamp(min=torch.finfo(torch.float32).tiny)
    gram.diagonal()[:-1] += weight
    gram.diagonal()[-1] += torch.finfo(torch.float32).tiny  # a batch of one image has no row
    solved: Tensor = torch.linalg.solve(gram, cross)
    return solved.float()
