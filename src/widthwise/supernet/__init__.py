"""Super-nets: networks that are trained so that any of their sub-networks works, or can be judged."""

from widthwise.supernet.accuracy import Expectation, expected_accuracy
from widthwise.supernet.adapters import Adapters
from widthwise.supernet.evaluate import FeatureLosses
from widthwise.supernet.features import AdapterUse, Positions, StageLoss, StoredBatch, stored_features
from widthwise.supernet.meta import PruningNet
from widthwise.supernet.sampling import Sampler
from widthwise.supernet.single_path import SinglePathObjective
from widthwise.supernet.slimmable import SlimmableObjective
from widthwise.supernet.stagewise import StagewiseObjective, Teacher, feature_loss, head_loss

__all__ = [
    "AdapterUse",
    "Adapters",
    "Expectation",
    "FeatureLosses",
    "Positions",
    "PruningNet",
    "Sampler",
    "SinglePathObjective",
    "SlimmableObjective",
    "StageLoss",
    "StagewiseObjective",
    "StoredBatch",
    "Teacher",
    "expected_accuracy",
    "feature_loss",
    "head_loss",
    "stored_features",
]
