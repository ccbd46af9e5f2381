"""What every look at the operations of a forward has in common."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Watching", "changes_operands", "operation_name"]


class Watching(TorchDispatchMode):
    """A dispatch mode that is also shown operators that call functions (``torch.cond``, ``flex_attention``).

    What runs inside one of those is not shown; without this PyTorch would refuse to run them.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]


def operation_name(func: Any) -> str:
    """Such as ``aten::relu``, or ``cond`` for an operator that calls functions, which has no schema."""
    schema = getattr(func, "_schema", None)
    return str(func.name() if schema is None else schema.name)


def changes_operands(func: Any) -> bool:
    """Whether it writes to some of its arguments."""
    schema = getattr(func, "_schema", None)
    return schema is not None and bool(schema.is_mutable)
