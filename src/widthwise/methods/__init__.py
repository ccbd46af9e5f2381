"""The published methods, and the pipeline they share: search, fine-tune, save."""

from widthwise.methods.base import Found, Method, Task, Trainer
from widthwise.methods.baseline import Baseline
from widthwise.methods.compress import compress
from widthwise.methods.exploration import Exploration
from widthwise.methods.fnnp import FNNP
from widthwise.methods.joint import Joint
from widthwise.methods.latency import measure_latency
from widthwise.methods.record import RunRecord
from widthwise.methods.result import Figures, Result
from widthwise.methods.stagewise import Stagewise

METHODS: dict[str, type[Method]] = {
    "fnnp": FNNP,
    "stagewise": Stagewise,
    "joint": Joint,
    "exploration": Exploration,
}
"""The published methods by the names that they have on the command line and in tables."""

__all__ = [
    "FNNP",
    "METHODS",
    "Baseline",
    "Exploration",
    "Figures",
    "Found",
    "Joint",
    "Method",
    "Result",
    "RunRecord",
    "Stagewise",
    "Task",
    "Trainer",
    "compress",
    "measure_latency",
]
