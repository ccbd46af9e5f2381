"""From a model and an example to a proved channel graph."""

from widthwise.tracing.trace import trace

__all__ = ["trace"]
