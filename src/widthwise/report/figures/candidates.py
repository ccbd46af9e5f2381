"""The search over whole networks: score against cost, score over time, and what finalists became."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from widthwise.report.data import Candidates
from widthwise.report.figures.style import (
    BLUE,
    GHOST,
    INK,
    MUTED,
    ORANGE,
    SIZE,
    SURFACE,
    canvas,
    dress,
    figure_of,
    large_numbers,
    legend,
    styled,
    thinned,
    whole_numbers,
)
from widthwise.report.words import METRICS

__all__ = ["cost_figure", "finalists_figure", "order_figure", "rounds_figure"]

MANY = 200
"""Above so many, points are drawn smaller."""


@styled
def cost_figure(candidates: Candidates) -> Figure:
    """Every candidate's score against its cost, the front, the finalists and the choice."""
    assert candidates.metric is not None
    (panel,) = canvas(3.5)
    shown = _shown(candidates, {place for place, c in enumerate(candidates.items) if c.front})
    costs = [candidates.cost(c) or 0 for c in candidates.items]
    scores = [c.score for c in candidates.items]
    panel.scatter(
        [costs[i] for i in shown],
        [scores[i] for i in shown],
        s=_area(candidates),
        color=GHOST,
        linewidths=0,
        label=f"{candidates.noun}s",
    )
    front = sorted((costs[i], scores[i]) for i, c in enumerate(candidates.items) if c.front)
    x, y = [cost for cost, _ in front], [score for _, score in front]
    panel.plot(x, y, color=BLUE, linewidth=1.4, drawstyle="steps-post", label="front", zorder=3)
    panel.scatter(x, y, s=22, color=BLUE, linewidths=0, zorder=3.1)
    _mark(panel, candidates, [float(cost) for cost in costs])
    _budget(panel, candidates, [float(cost) for cost in costs])
    large_numbers(panel.xaxis)
    panel.set(xlabel=METRICS[candidates.metric], ylabel=_score(candidates))
    legend(panel, 4)
    return figure_of(panel)


@styled
def order_figure(candidates: Candidates) -> Figure:
    """Scores in the order of the search, and the best so far."""
    (panel,) = canvas(3.2)
    _over_time(panel, candidates)
    panel.set(xlabel=candidates.noun, ylabel=_score(candidates))
    legend(panel, 4)
    return figure_of(panel)


@styled
def rounds_figure(candidates: Candidates) -> Figure:
    """Accuracy of every sampled network over the rounds, above its size as a share of the full network's."""
    top, bottom = canvas(4.6, rows=2, sharex=True, height_ratios=[3, 2])
    _over_time(top, candidates)
    top.set_ylabel(_score(candidates))
    legend(top, 3)
    places = [c.index for c in candidates.items]
    if candidates.full:
        for metric, colour in (("macs", BLUE), ("params", ORANGE)):
            shares = [100 * getattr(c, metric) / candidates.full[metric] for c in candidates.items]
            bottom.plot(places, shares, color=colour, linewidth=1.5, label=METRICS[metric])
        legend(bottom, 2)
    else:  # of an unfinished run only the absolute cost is known
        bottom.plot(places, [candidates.cost(c) or 0 for c in candidates.items], color=BLUE, linewidth=1.5)
        large_numbers(bottom.yaxis)
    bottom.set(xlabel="round", ylabel="% of the full\nnetwork" if candidates.full else METRICS[candidates.metric or ""])
    bottom.set_ylim(0, None)
    return figure_of(top)


@styled
def finalists_figure(candidates: Candidates) -> Figure:
    """Score before the training against validation accuracy after it, for every finalist."""
    (panel,) = canvas(3.2)
    known = [c for c in candidates.finalists if c.trained is not None]
    for c in known:
        colour = ORANGE if c.chosen else BLUE
        panel.scatter([c.score], [c.trained or 0], s=64 if c.chosen else 40, color=colour, zorder=3)
        panel.annotate(
            f"{candidates.noun} {c.index}" + (", chosen" if c.chosen else ""),
            (c.score, c.trained or 0),
            (0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=SIZE - 0.5,
            color=INK,
        )
    dress(panel, "both")
    panel.margins(0.22, 0.25)
    panel.set(xlabel=_score(candidates), ylabel="after training (%)")
    return figure_of(panel)


def _over_time(panel: Axes, candidates: Candidates) -> None:
    places = [float(c.index) for c in candidates.items]
    shown = _shown(candidates, set())
    panel.scatter(
        [places[i] for i in shown],
        [candidates.items[i].score for i in shown],
        s=_area(candidates),
        color=GHOST,
        linewidths=0,
        label=f"{candidates.noun}s",
    )
    panel.plot(places, candidates.best, color=BLUE, linewidth=1.6, drawstyle="steps-post", label="best so far")
    _mark(panel, candidates, places)
    whole_numbers(panel)


def _mark(panel: Axes, candidates: Candidates, at: Sequence[float]) -> None:
    """Rings around the finalists, and the choice in a colour of its own."""
    others = [(x, c) for x, c in zip(at, candidates.items, strict=True) if c.finalist is not None and not c.chosen]
    if others:
        panel.scatter(
            [x for x, _ in others],
            [c.score for _, c in others],
            s=70,
            facecolors="none",
            edgecolors=INK,
            linewidths=1.2,
            zorder=4,
            label="finalists",
        )
    for x, c in zip(at, candidates.items, strict=True):
        if c.chosen:
            panel.scatter(
                [x],
                [c.score],
                s=190,
                marker="*",
                color=ORANGE,
                edgecolors=SURFACE,
                linewidths=0.8,
                zorder=5,
                label="chosen",
            )


def _budget(panel: Axes, candidates: Candidates, costs: Sequence[float]) -> None:
    """A line at the budget, where it lies near the candidates."""
    limit = candidates.limits.get(candidates.metric or "")
    if limit is None or not min(costs) <= limit <= 1.1 * max(costs):
        return
    panel.axvline(limit, color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)))
    panel.annotate(
        "budget",
        (limit, 0.02),
        (-4, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="bottom",
        fontsize=SIZE - 1,
        color=MUTED,
    )


def _shown(candidates: Candidates, also: set[int]) -> list[int]:
    marked = {place for place, c in enumerate(candidates.items) if c.finalist is not None}
    return thinned(len(candidates.items), marked | also)


def _area(candidates: Candidates) -> float:
    return 26 if len(candidates.items) <= MANY else 11


def _score(candidates: Candidates) -> str:
    """The label of the scores, on two lines where it is long."""
    if candidates.noun == "round":
        return "validation accuracy (%)"
    words, unit = candidates.score, " (%)" if candidates.percent else ""
    head, joint, tail = words.partition(" with ")
    return f"{head}\n{joint.strip()} {tail}{unit}" if joint else words + unit
