"""The pictures of reports: each a function from data to a matplotlib figure, for pages and notebooks."""

from widthwise.report.figures.candidates import cost_figure, finalists_figure, order_figure, rounds_figure
from widthwise.report.figures.comparison import accuracy_figure, scatter_figure, time_figure
from widthwise.report.figures.methods import (
    division_figure,
    policy_figure,
    probabilities_figure,
    samples_figure,
    stages_figure,
)
from widthwise.report.figures.training import parts_figure, training_figure
from widthwise.report.figures.widths import ROWS, macs_figure, widths_figure

__all__ = [
    "ROWS",
    "accuracy_figure",
    "cost_figure",
    "division_figure",
    "finalists_figure",
    "macs_figure",
    "order_figure",
    "parts_figure",
    "policy_figure",
    "probabilities_figure",
    "rounds_figure",
    "samples_figure",
    "scatter_figure",
    "stages_figure",
    "time_figure",
    "training_figure",
    "widths_figure",
]
