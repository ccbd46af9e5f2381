"""Which channels of a layer stay: their scores, from the weights alone or from training images too."""

from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from widthwise.channels.importance import Importance
from widthwise.data import at_most
from widthwise.evaluate import sensitivity
from widthwise.evaluate.devices import search_device
from widthwise.evaluate.sensitivity import SENSITIVITY_BATCH
from widthwise.methods.base import Task
from widthwise.train.placement import lent

__all__ = ["Ranking", "scores_of"]

Ranking = Literal[Importance, "sensitivity"]
"""An importance of :meth:`ChannelGraph.importance`, or :func:`widthwise.evaluate.sensitivity`."""


def scores_of(task: Task, by: Ranking, *, images: int = 1000, seed: int) -> Float64[Tensor, "channels"]:
    """The score of every channel; those with higher ones stay.

    Sensitivities are kept in the log: a derivative may differ in its last digits when it is taken again, and a search
    that is resumed has to ask for the same strategies.

    Args:
        task: what is searched.
        by: what to score by.
        images: training images for the sensitivity.
        seed: of the choice of images, or of random scores.
    """
    if by != "sensitivity":
        return task.graph.importance(by, seed=seed)
    known = next((event for event in task.log.events if event.get("event") == "sensitivity"), None)
    if known is None:
        batches = at_most(task.data.train, images, seed).batches(SENSITIVITY_BATCH, device=search_device())
        with lent(task.model, search_device()):
            scores = sensitivity(task.model, task.graph, batches, seed=seed)
        known = {"event": "sensitivity", "scores": [float(f"{score:.6g}") for score in scores.tolist()]}
        task.log.append(known)
    return torch.tensor(known["scores"], dtype=torch.float64)
