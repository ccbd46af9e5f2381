"""From a model and an example to a proved channel graph; and what a rule for something new needs."""

from widthwise.tracing.follow import Call, Flow, Rule
from widthwise.tracing.follow.labels import place
from widthwise.tracing.rules import MODULE_RULES, RULES, pointwise
from widthwise.tracing.trace import Layers, trace

__all__ = ["MODULE_RULES", "RULES", "Call", "Flow", "Layers", "Rule", "place", "pointwise", "trace"]
