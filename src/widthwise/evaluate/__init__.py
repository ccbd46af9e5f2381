"""How good and how fast a sub-network is: adaptive batch norm, accuracy, latency, and how well one proxy predicts."""

from widthwise.evaluate.accuracy import Score, accuracy, score
from widthwise.evaluate.calibrate import CalibrationResult, adaptive_bn
from widthwise.evaluate.latency import latencies, module_times
from widthwise.evaluate.modes import Precision
from widthwise.evaluate.ranking import Correlation, Estimate, correlation, kendall, pearson, phi, spearman
from widthwise.evaluate.reconstruct import reconstruct_weights
from widthwise.evaluate.sensitivity import sensitivity

__all__ = [
    "CalibrationResult",
    "Correlation",
    "Estimate",
    "Precision",
    "Score",
    "accuracy",
    "adaptive_bn",
    "correlation",
    "kendall",
    "latencies",
    "module_times",
    "pearson",
    "phi",
    "reconstruct_weights",
    "score",
    "sensitivity",
    "spearman",
]
