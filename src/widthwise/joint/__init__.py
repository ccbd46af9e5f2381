"""Joint search-and-training: filter weights, the sampler, the threshold policy, and the rounds that train them."""

from widthwise.joint.sampler import Draw, MassSampler
from widthwise.joint.thresnet import THRESHOLDS, Policy, ThresNet
from widthwise.joint.weights import FilterWeights, Placement, Weighted

__all__ = ["THRESHOLDS", "Draw", "FilterWeights", "MassSampler", "Placement", "Policy", "ThresNet", "Weighted"]
