"""Every error that Widthwise raises on purpose.

The tree, broad classes to catch first::

    WidthwiseError
    ├── TraceError
    │   ├── UntraceableModel     the model does not run on the example, or returns nothing we can follow
    │   ├── NothingToPrune       the model runs, but no group of channels may be removed
    │   └── NoStages             the model is no chain of stages, or not of those that were named
    ├── SubnetMismatch           a keep vector, width or file does not belong to this graph or model
    ├── BudgetError
    │   ├── InvalidBudget        a number that cannot be a budget
    │   └── InfeasibleBudget     a budget that no sub-network of the space can meet
    ├── ConfigError              a setting outside its range
    ├── ModelError
    │   ├── UnknownModel         a model name that nothing can build
    │   ├── WeightsMismatch      a weight file that does not fit the model
    │   └── ExportFailed         a model that cannot be written in a format, or whose file computes something else
    ├── DataError
    │   ├── EmptyData            no example, or too few for a split
    │   ├── UnreadableData       a path, file or image that cannot be read
    │   └── LabelOutOfRange      a label outside the model's classes
    ├── TrainingError
    │   └── NonFiniteLoss        the loss became NaN or infinite
    ├── WorkerError
    │   ├── WorkerDied           a worker ended before it answered, as often as the settings allow
    │   └── TaskFailed           a task raised an error that cannot travel between processes
    └── RunError
        ├── RunMismatch          the folder belongs to another configuration
        ├── CorruptRun           a file in the folder is damaged
        └── SaveFailed           a file could not be written; the previous one is intact

A message states the rule, then the values, then the remedy. The command line prints it without a traceback
and exits with code 2.
"""

__all__ = [
    "BudgetError",
    "ConfigError",
    "CorruptRun",
    "DataError",
    "EmptyData",
    "ExportFailed",
    "InfeasibleBudget",
    "InvalidBudget",
    "LabelOutOfRange",
    "ModelError",
    "NoStages",
    "NonFiniteLoss",
    "NothingToPrune",
    "RunError",
    "RunMismatch",
    "SaveFailed",
    "SubnetMismatch",
    "TaskFailed",
    "TraceError",
    "TrainingError",
    "UnknownModel",
    "UnreadableData",
    "UntraceableModel",
    "WeightsMismatch",
    "WidthwiseError",
    "WorkerDied",
    "WorkerError",
]


class WidthwiseError(Exception):
    """Base of every error that Widthwise raises on purpose."""


class TraceError(WidthwiseError):
    """A model cannot be turned into a channel graph."""


class UntraceableModel(TraceError):
    """The model does not run on the example inputs, or returns nothing that can be followed."""


class NothingToPrune(TraceError):
    """Every group of channels of the model is pinned."""


class NoStages(TraceError):
    """The model is no chain of stages, or not one of those that were named."""


class SubnetMismatch(WidthwiseError):
    """A keep vector, a width or a saved sub-network does not belong to this graph or model."""


class BudgetError(WidthwiseError):
    """A budget cannot be used."""


class InvalidBudget(BudgetError):
    """A number that cannot be a budget."""


class InfeasibleBudget(BudgetError):
    """No sub-network of the space meets the budget."""


class ConfigError(WidthwiseError):
    """A setting is outside its range."""


class ModelError(WidthwiseError):
    """A model cannot be built or loaded."""


class UnknownModel(ModelError):
    """Nothing can build a model of that name."""


class WeightsMismatch(ModelError):
    """A weight file does not fit the model."""


class ExportFailed(ModelError):
    """A model cannot be written in a format, or its file computes something else."""


class DataError(WidthwiseError):
    """Data cannot be used."""


class EmptyData(DataError):
    """There is no example, or too few for a split."""


class UnreadableData(DataError):
    """A path, file or image cannot be read."""


class LabelOutOfRange(DataError):
    """A label lies outside the model's classes."""


class TrainingError(WidthwiseError):
    """Training cannot go on."""


class NonFiniteLoss(TrainingError):
    """The loss became NaN or infinite."""


class WorkerError(WidthwiseError):
    """A candidate could not be evaluated by a worker."""


class WorkerDied(WorkerError):
    """A worker ended before it answered, as often as the settings allow."""


class TaskFailed(WorkerError):
    """A task raised an error that cannot travel between processes; this one has its text."""


class RunError(WidthwiseError):
    """A run folder cannot be used."""


class RunMismatch(RunError):
    """The run folder belongs to another configuration."""


class CorruptRun(RunError):
    """A file in the run folder is damaged."""


class SaveFailed(RunError):
    """A file could not be written; what was there before is intact."""
