"""Training: one loop for full networks, super-nets, fine-tuning and retraining."""

from widthwise.train.config import TrainConfig
from widthwise.train.distill import Supervised
from widthwise.train.fit import fit
from widthwise.train.history import EpochRecord, History
from widthwise.train.objective import Objective, Outcome, Step
from widthwise.train.progress import Plan, Reporter, RichReporter, SilentReporter, StepStatus
from widthwise.train.reinitialise import reinitialise

__all__ = [
    "EpochRecord",
    "History",
    "Objective",
    "Outcome",
    "Plan",
    "Reporter",
    "RichReporter",
    "SilentReporter",
    "Step",
    "StepStatus",
    "Supervised",
    "TrainConfig",
    "fit",
    "reinitialise",
]
