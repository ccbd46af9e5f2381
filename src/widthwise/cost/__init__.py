"""What a sub-network costs, and what it may cost."""

from widthwise.cost.analytic import CostModel
from widthwise.cost.budget import Budget, Limits
from widthwise.cost.latency import Latency

__all__ = ["Budget", "CostModel", "Latency", "Limits"]
