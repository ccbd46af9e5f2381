"""What follows every channel through a forward, and makes groups of what it saw."""

from widthwise.tracing.follow.build import Draft
from widthwise.tracing.follow.flow import Call, Flow, Rule
from widthwise.tracing.follow.found import Held, Split

__all__ = ["Call", "Draft", "Flow", "Held", "Rule", "Split"]
