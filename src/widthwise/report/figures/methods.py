"""The pictures that belong to one method: policies, probabilities, samples, stages."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from widthwise.report.data import Box, Division, Policy, Probabilities, Samples, Stage
from widthwise.report.figures.style import (
    BLUE,
    GHOST,
    GREEN,
    INK,
    LEGEND,
    MUTED,
    ORANGE,
    SIZE,
    SURFACE,
    canvas,
    dress,
    figure_of,
    large_numbers,
    legend,
    logarithmic,
    shortened,
    styled,
    thinned,
    whole_numbers,
)
from widthwise.report.words import METRICS, percent

__all__ = ["division_figure", "policy_figure", "probabilities_figure", "samples_figure", "stages_figure"]

WIDE_RANGE = 30
"""Losses that span more than this factor are drawn on a logarithmic scale."""


@styled
def policy_figure(policy: Policy) -> Figure:
    """Joint: the mean reward of each round's episodes, above the entropy of the policy."""
    top, bottom = canvas(3.8, rows=2, sharex=True)
    for panel, values, label, colour in (
        (top, policy.reward, "mean reward", BLUE),
        (bottom, policy.entropy, "entropy (nats)", GREEN),
    ):
        panel.plot(policy.rounds, values, color=colour, linewidth=1.6, marker="o", markersize=3)
        panel.set_ylabel(label)
    bottom.set_ylim(0, 1.1 * max(policy.entropy))
    whole_numbers(bottom)
    bottom.set_xlabel("round")
    return figure_of(top)


@styled
def probabilities_figure(probabilities: Probabilities) -> Figure:
    """Exploration: a box plot of the keep probabilities of each group, at the start, in the middle and at the end."""
    groups, snapshots = probabilities.groups, probabilities.snapshots
    panels = canvas(0.95 + 0.26 * max(2, len(groups)), columns=len(snapshots), sharey=True, sharex=True)
    for place, (panel, snapshot) in enumerate(zip(panels, snapshots, strict=True)):
        dress(panel, "x")
        panel.axvline(0.5, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        panel.bxp(
            [_statistics(box) for box in snapshot.boxes],
            positions=np.arange(len(groups)),
            orientation="horizontal",
            widths=0.62,
            patch_artist=True,
            showfliers=False,
            manage_ticks=False,
            boxprops={"facecolor": (BLUE, 0.35), "edgecolor": BLUE, "linewidth": 1},
            medianprops={"color": INK, "linewidth": 1.8},
            whiskerprops={"color": BLUE, "linewidth": 1.1},
            capprops={"color": BLUE, "linewidth": 1.1},
        )
        panel.set_title(f"step {snapshot.step:,}")
        panel.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        if place:
            panel.tick_params(axis="y", labelleft=False)
    panels[0].set_yticks(np.arange(len(groups)), [shortened(name, 20) for name in groups])
    panels[0].set(ylim=(len(groups) - 0.4, -0.6), xlim=(-0.04, 1.04))
    panels[len(panels) // 2].set_xlabel("probability to keep a channel")
    return figure_of(panels[0])


def _statistics(box: Box) -> dict[str, float]:
    return {"whislo": box.least, "q1": box.lower, "med": box.median, "q3": box.upper, "whishi": box.most}


@styled
def samples_figure(samples: Samples) -> Figure:
    """Exploration: mean loss of each step's samples, above the expected cost and the undecided channels."""
    top, bottom = canvas(4.2, rows=2, sharex=True)
    shown = thinned(len(samples.steps), set())
    steps, losses = [samples.steps[i] for i in shown], [samples.loss[i] for i in shown]
    width = len(losses) // 20
    top.plot(steps, losses, color=GHOST if width > 1 else BLUE, linewidth=1, label="each step")
    if width > 1:
        mean = np.convolve(losses, np.ones(width) / width, mode="valid")
        top.plot(steps[width - 1 :], mean, color=BLUE, linewidth=1.8, label=f"mean of {width} steps")
        legend(top, 2)
    top.set_ylabel("loss of samples")
    bottom.plot(samples.shown, samples.used, color=BLUE, linewidth=1.6, label="expected cost, % of budget")
    bottom.plot(samples.shown, samples.undecided, color=ORANGE, linewidth=1.6, label="undecided channels, %")
    bottom.set_ylim(0, None)
    bottom.set_xlabel("step")
    whole_numbers(bottom)
    legend(bottom, 2)
    return figure_of(top)


@styled
def stages_figure(division: Division) -> Figure:
    """Stage-wise: for each stage the loss of everything that was looked at against its cost, the front, the choice."""
    columns = 2 if len(division.stages) > 1 else 1
    rows = -(-len(division.stages) // columns)
    panels = canvas(0.7 + 2.3 * rows, rows=rows, columns=columns)
    for panel, stage in zip(panels, division.stages, strict=False):
        _fronts(panel, stage)
    for panel in panels[len(division.stages) :]:
        panel.set_visible(False)
    for panel in panels[::columns]:
        panel.set_ylabel("loss")
    handles, labels = panels[0].get_legend_handles_labels()
    figure = figure_of(panels[0])
    figure.supxlabel(f"{METRICS[division.metric]} of the stage", fontsize=SIZE, color=MUTED)
    figure.legend(
        handles,
        labels,
        loc="outside upper right",
        ncols=4,
        **LEGEND,
    )
    return figure


def _fronts(panel: Axes, stage: Stage) -> None:
    genes = [gene for gene in stage.genes if gene.cost is not None]
    panel.set_title(shortened(stage.name))
    shown = thinned(len(genes), {place for place, gene in enumerate(genes) if gene.front or gene.chosen})
    points = [(genes[i].cost or 0, genes[i].loss) for i in shown]
    panel.scatter([x for x, _ in points], [y for _, y in points], s=11, color=GHOST, linewidths=0, label="looked at")
    front = sorted((gene.cost or 0, gene.loss) for gene in genes if gene.front)
    panel.plot(
        [x for x, _ in front], [y for _, y in front], color=BLUE, linewidth=1.4, drawstyle="steps-post", label="front"
    )
    for gene in genes:
        if gene.chosen:
            panel.scatter(
                [gene.cost or 0],
                [gene.loss],
                s=170,
                marker="*",
                color=ORANGE,
                edgecolors=SURFACE,
                linewidths=0.8,
                zorder=5,
                label="chosen",
            )
    losses = [gene.loss for gene in genes if gene.loss > 0]
    if len(losses) == len(genes) and losses and max(losses) > WIDE_RANGE * min(losses):
        logarithmic(panel)
    large_numbers(panel.xaxis)
    panel.xaxis.set_major_locator(MaxNLocator(nbins=3, steps=[1, 2, 5, 10]))
    panel.set_xlim(0, None)


@styled
def division_figure(division: Division) -> Figure:
    """Stage-wise: what each stage costs in the full network and in the one that was found."""
    stages = [stage for stage in division.stages if stage.before is not None and stage.after is not None]
    (panel,) = canvas(0.95 + 0.36 * max(2, len(stages)))
    dress(panel, "x")
    panel.spines["bottom"].set_visible(False)
    before, after = [stage.before or 0 for stage in stages], [stage.after or 0 for stage in stages]
    places = np.arange(len(stages))
    panel.barh(places, before, height=0.66, color=GHOST, alpha=0.55, label="full network")
    panel.barh(places, after, height=0.66, color=BLUE, label="small network")
    for place, (full, small) in enumerate(zip(before, after, strict=True)):
        panel.annotate(
            percent(small / full, 0),
            (full, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=SIZE - 1,
            color=INK,
        )
    panel.set_yticks(places, [shortened(stage.name, 20) for stage in stages])
    panel.set_ylim(len(stages) - 0.5, -0.5)
    large_numbers(panel.xaxis)
    panel.set_xlabel(METRICS[division.metric])
    panel.set_xlim(0, 1.16 * max(before))
    legend(panel, 2)
    return figure_of(panel)
