"""What a sub-network costs, and what it may cost."""

from widthwise.cost.analytic import CostModel
from widthwise.cost.budget import Budget, Limits

__all__ = ["Budget", "CostModel", "Limits"]
