"""Training curves."""

from matplotlib.figure import Figure

from widthwise.report.data import Curve
from widthwise.report.figures.style import (
    BLUE,
    ORANGE,
    SERIES,
    canvas,
    figure_of,
    legend,
    logarithmic,
    styled,
    whole_numbers,
)

__all__ = ["parts_figure", "training_figure"]

MARKED = 30
"""Up to so many epochs each has a dot."""


@styled
def training_figure(curve: Curve) -> Figure:
    """Accuracy on training and validation images, above the loss, epoch by epoch."""
    top, bottom = canvas(4.0, rows=2, sharex=True, height_ratios=[3, 2])
    marker = "o" if len(curve.epochs) <= MARKED else ""
    top.plot(curve.epochs, curve.train, color=ORANGE, marker=marker, markersize=3, linewidth=1.5, label="training")
    if curve.val:
        top.plot(curve.epochs, curve.val, color=BLUE, marker=marker, markersize=3, linewidth=1.8, label="validation")
    top.set_ylabel("accuracy (%)")
    legend(top, 2)
    bottom.plot(curve.epochs, curve.loss, color=ORANGE, marker=marker, markersize=3, linewidth=1.5)
    bottom.set(xlabel="epoch", ylabel="loss")
    if min(curve.loss) > 0:
        bottom.set_ylim(0, 1.08 * max(curve.loss))
    whole_numbers(bottom)
    return figure_of(top)


@styled
def parts_figure(curve: Curve) -> Figure:
    """What the loss of a training is made of, epoch by epoch, on a logarithmic scale."""
    (panel,) = canvas(3.2)
    marker = "o" if len(curve.epochs) <= MARKED else ""
    styles = ["-", "--", ":"]
    for place, (name, values) in enumerate(curve.parts.items()):
        colour, line = SERIES[place % len(SERIES)], styles[place // len(SERIES) % len(styles)]
        panel.plot(curve.epochs, values, color=colour, linestyle=line, marker=marker, markersize=3, label=name)
    if all(value > 0 for values in curve.parts.values() for value in values):
        logarithmic(panel)
    panel.set(xlabel="epoch", ylabel="part of the loss")
    whole_numbers(panel)
    legend(panel, min(4, len(curve.parts)))
    return figure_of(panel)
