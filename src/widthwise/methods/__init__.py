"""The published methods, and the pipeline they share: search, fine-tune, save."""

from widthwise.methods.base import Found, Method, Task, Trainer
from widthwise.methods.compress import Figures, Result, compress
from widthwise.methods.exploration import Exploration
from widthwise.methods.fnnp import FNNP
from widthwise.methods.joint import Joint
from widthwise.methods.stagewise import Stagewise

__all__ = [
    "FNNP",
    "Exploration",
    "Figures",
    "Found",
    "Joint",
    "Method",
    "Result",
    "Stagewise",
    "Task",
    "Trainer",
    "compress",
]
