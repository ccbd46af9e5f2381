"""One map over many candidates: in this process, in worker processes of this machine, or on Ray."""

from widthwise.parallel.config import ParallelConfig
from widthwise.parallel.pool import Pool, in_order, workers

__all__ = ["ParallelConfig", "Pool", "in_order", "workers"]
