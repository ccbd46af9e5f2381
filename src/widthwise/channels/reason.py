"""Why channels are pinned: in words, with the place and what one could do."""

from dataclasses import dataclass

__all__ = ["Reason"]


@dataclass(frozen=True)
class Reason:
    """Why a group is pinned; as text, a sentence that goes on from the group's name and ends with the place."""

    what: str
    """What happens to its channels: ``"is normalised together with the other channels"``."""
    remedy: str = ""
    """What one could do about it; empty where nothing should be done."""
    operation: str = ""
    """The ATen operation that ran, such as ``aten::native_layer_norm``; empty where none is to blame."""
    module: str = ""
    """Path of the module that was running; empty for the root."""

    def __str__(self) -> str:
        return self.what + f": {self.operation}" * bool(self.operation) + f" in {self.module}" * bool(self.module)
