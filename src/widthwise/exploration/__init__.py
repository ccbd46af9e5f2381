"""Exploration and estimation: a keep probability for every channel, found by sampling sub-networks."""

from widthwise.exploration.budget import RandomBudget
from widthwise.exploration.evaluate import SampleLosses, Statistics, batches_per_epoch
from widthwise.exploration.finish import binarised
from widthwise.exploration.prior import best_widths, by_rank
from widthwise.exploration.search import explore_and_estimate
from widthwise.exploration.searcher import ExplorationEstimation, StepRecord
from widthwise.exploration.settings import ExplorationSettings

__all__ = [
    "ExplorationEstimation",
    "ExplorationSettings",
    "RandomBudget",
    "SampleLosses",
    "Statistics",
    "StepRecord",
    "batches_per_epoch",
    "best_widths",
    "binarised",
    "by_rank",
    "explore_and_estimate",
]
