"""Annotations are checked while tests run, but where a test says otherwise."""

import pytest
import torch

from typecheck import annotations
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
