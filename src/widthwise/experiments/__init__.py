"""Experiments that a user runs on their own model: methods side by side, and what predicts the final accuracy."""

from widthwise.experiments.compare import compare
from widthwise.experiments.comparison import Arm, Comparison
from widthwise.experiments.correlate import CorrelateConfig, correlate
from widthwise.experiments.correlations import Correlations, Judged
from widthwise.experiments.rows import baselines, every_method
from widthwise.experiments.table import Spread, Table

__all__ = [
    "Arm",
    "Comparison",
    "CorrelateConfig",
    "Correlations",
    "Judged",
    "Spread",
    "Table",
    "baselines",
    "compare",
    "correlate",
    "every_method",
]
