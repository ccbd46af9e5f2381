"""Three ways to run a sub-network (a copy, slices of the parent, gates), and the widths it may have."""

from widthwise.subnet.gated import gated
from widthwise.subnet.materialize import materialize
from widthwise.subnet.shared import SuperNet, shared
from widthwise.subnet.space import Space, WidthSpace

__all__ = ["Space", "SuperNet", "WidthSpace", "gated", "materialize", "shared"]
