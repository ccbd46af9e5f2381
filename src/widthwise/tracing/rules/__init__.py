"""What each operation does with channels: one rule each, in one table."""

from widthwise.tracing.rules.table import MODULE_RULES, RULES, pointwise, unknown

__all__ = ["MODULE_RULES", "RULES", "pointwise", "unknown"]
