"""Joint search-and-training: filter weights, the sampler, the threshold policy, and the rounds that train them."""

from widthwise.joint.objectives import WeightedObjective
from widthwise.joint.sampler import Draw, MassSampler
from widthwise.joint.search import Best, JointSearch, Round
from widthwise.joint.settings import RoundSettings
from widthwise.joint.thresnet import THRESHOLDS, Policy, ThresNet
from widthwise.joint.updater import put_back
from widthwise.joint.weights import FilterWeights, Placement, Weighted

__all__ = [
    "THRESHOLDS",
    "Best",
    "Draw",
    "FilterWeights",
    "JointSearch",
    "MassSampler",
    "Placement",
    "Policy",
    "Round",
    "RoundSettings",
    "ThresNet",
    "Weighted",
    "WeightedObjective",
    "put_back",
]
