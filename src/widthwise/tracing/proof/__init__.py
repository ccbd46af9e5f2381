"""What a trace found, run and compared with the full network."""

from widthwise.tracing.proof.observe import difference
from widthwise.tracing.proof.verify import prove

__all__ = ["difference", "prove"]
