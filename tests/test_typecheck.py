"""Annotations are checked while tests run, but where a test says otherwise."""

from collections.abc import Callable

import jaxtyping
import pytest
import torch

from typecheck import DEFINITIONS, annotations, checked
from widthwise import Subnet


def test_a_wrong_type_is_seen_unless_it_is_not_looked_for() -> None:
    wrong = torch.ones(2, 2, dtype=torch.float32)
    with pytest.raises(Exception, match="keep"):
        Subnet(wrong)
    with annotations(checked=False):
        Subnet(wrong)
    with pytest.raises(Exception, match="keep"), annotations(checked=True):
        Subnet(wrong)
    with pytest.raises(Exception, match="keep"):
        Subnet(wrong)


def test_a_function_inside_a_function_is_checked_when_it_is_defined_first() -> None:
    def outer() -> Callable[[int], int]:
        @jaxtyping.jaxtyped(typechecker=checked)
        def inner(number: int) -> int:
            return number

        return inner

    for _ in range(DEFINITIONS):
        inner = outer()
        with pytest.raises(Exception, match="number"):
            inner("no number")  # type: ignore[arg-type]
    assert outer()("no number") == "no number"  # type: ignore[arg-type]
