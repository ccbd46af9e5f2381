"""Where the probabilities start, if not all at one: in the order of an importance."""

import torch
from jaxtyping import Float64
from torch import Tensor

from widthwise.channels import ChannelGraph

__all__ = ["by_rank"]


def by_rank(graph: ChannelGraph, importance: Float64[Tensor, "channels"], spread: float) -> Float64[Tensor, "channels"]:
    """Probabilities whose log-odds rise evenly with the rank of a channel within its group, from -spread to spread.

    From p = 1 (Algorithm 1, line 1) every channel has to be found superfluous by sampling. Which filters are small is
    known before. All groups have one mean, and a common shift of the log-odds onto a budget leaves them so, nearly.

    Args:
        graph: whose groups.
        importance: of every channel, such as :meth:`ChannelGraph.importance`.
        spread: how sure the order is; 0 is none.
    """
    places = torch.empty_like(importance)
    for group in graph.prunable:
        ranks = importance[group.ids].argsort(stable=True).argsort()
        places[group.ids] = (2 * ranks.double() + 1) / len(ranks) - 1
    return torch.sigmoid(spread * places)
