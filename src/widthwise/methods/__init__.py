"""The published methods, and the pipeline they share: search, fine-tune, save."""

from widthwise.methods.base import Found, Method, Task
from widthwise.methods.compress import Figures, Result, compress
from widthwise.methods.fnnp import FNNP

__all__ = ["FNNP", "Figures", "Found", "Method", "Result", "Task", "compress"]
