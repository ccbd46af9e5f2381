"""Where the probabilities start, if not all at one: at the widths of a good strategy, in the order of an importance."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from widthwise.channels import ChannelGraph
from widthwise.exploration.evaluate import Draw
from widthwise.exploration.search import Evaluate, digest_of, finite, known
from widthwise.search import Log, Searcher

__all__ = ["best_widths", "by_rank"]

GENERATION = 20
"""Strategies that are judged side by side."""

_HALVINGS = 60
"""Of the interval of log-odds in which a group's shift lies."""


def by_rank(
    graph: ChannelGraph,
    importance: Float64[Tensor, "channels"],
    spread: float,
    widths: Int64[Tensor, "groups"] | None = None,
) -> Float64[Tensor, "channels"]:
    """Probabilities whose log-odds rise evenly with the rank of a channel within its group, by twice the spread.

    From p = 1 (Algorithm 1, line 1) every channel has to be found superfluous by sampling. Which filters are small is
    known before.

    Args:
        graph: whose groups.
        importance: of every channel, such as :meth:`ChannelGraph.importance`.
        spread: how sure the order is; 0 is none.
        widths: what a sample keeps of each group on average (more or fewer than that many lie above 0.5, until the
            search has decided); if not given, all groups have one mean (and keep it,
            nearly, when the log-odds are shifted onto a budget).
    """
    odds = torch.empty_like(importance)
    for place, group in enumerate(graph.prunable):
        ranks = importance[group.ids].argsort(stable=True).argsort()
        own = spread * ((2 * ranks.double() + 1) / len(ranks) - 1)
        odds[group.ids] = own if widths is None else own + _shift(own, int(widths[place]))
    return torch.sigmoid(odds)


def _shift(odds: Float64[Tensor, "width"], kept: int) -> float:
    """What to add so that so many are kept on average."""
    low, high = -40.0, 40.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if float(torch.sigmoid(odds + middle).sum()) < kept else (low, middle)
    return high


def best_widths(
    searcher: Searcher,
    evaluate: Evaluate,
    graph: ChannelGraph,
    importance: Float64[Tensor, "channels"],
    log: Log,
    *,
    candidates: int,
    batches: int,
    workers: int = 1,
) -> Int64[Tensor, "groups"]:
    """The widths with the smallest loss, each group with its most important channels (ours).

    A step that moves single channels hardly moves widths, and what starts at uniform width stays near it.

    Args:
        searcher: asked for strategies under the budget.
        evaluate: runs draws.
        graph: the network.
        importance: of every channel.
        log: receives the losses; those it holds already are not computed again.
        candidates: how many strategies.
        batches: of the first pass over the images, which all of them see.
        workers: into how many parts a generation is divided.

    Raises:
        CorruptRun: the log is that of other strategies.
        NonFiniteLoss: a whole generation has no finite loss.
    """
    done = iter([event for event in log.events if event.get("event") == "widths"])
    best: tuple[float, Tensor] = (float("inf"), graph.full_widths)
    for begin in range(0, candidates, GENERATION):
        asked = [searcher.ask() for _ in range(min(GENERATION, candidates - begin))]
        keep = torch.stack([graph.top(importance, widths).keep for widths in asked])
        what, event = f"the strategies from number {begin} on", next(done, None)
        if event is None:
            parts: list[Draw] = [(0, batch, part) for batch in range(batches) for part in keep.chunk(max(1, workers))]
            found = dict(evaluate(parts))
            flat = torch.tensor([loss for place in range(len(parts)) for loss, _ in found[place]])
            losses = finite(flat.reshape(batches, len(asked)).mean(0).tolist(), what)
            event = {"event": "widths", "first": begin, "digest": digest_of(keep), "losses": losses}
            log.append(event)
        losses = known(event, keep, what, first=begin)["losses"]
        for widths, loss in zip(asked, losses, strict=True):
            searcher.tell(widths, -loss)
            best = min(best, (loss, widths), key=lambda pair: pair[0])
    return best[1]
