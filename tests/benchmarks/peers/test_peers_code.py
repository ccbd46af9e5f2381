"""What a tool's users write: how often they prune until a limit is met, and how many lines that takes."""

import pytest
from benchmarks.peers.bisection import bisect
from benchmarks.peers.lines import count_lines
from benchmarks.peers.variants import VARIANTS
from torch import nn

from widthwise.errors import ConfigError


def _steps(limit: int, widest: int = 100, least: int = 1) -> tuple[nn.Module | None, float]:
    def prune(ratio: float) -> nn.Module:
        return nn.Linear(1, max(least, int(widest * (1 - ratio))))

    return bisect(prune, lambda model: int(model.out_features), limit)  # type: ignore[call-overload]


@pytest.mark.parametrize("limit", [1, 2, 37, 50, 99])
def test_bisection_ends_at_the_limit_where_steps_are_of_one(limit: int) -> None:
    found, ratio = _steps(limit)
    assert found is not None
    assert found.out_features == limit
    assert int(100 * (1 - ratio)) == limit


def test_bisection_stays_below_the_limit_where_the_tool_takes_larger_steps() -> None:
    def prune(ratio: float) -> nn.Module:
        return nn.Linear(1, max(1, 16 * int(8 * (1 - ratio))))

    found, _ = bisect(prune, lambda model: int(model.out_features), 60)  # type: ignore[call-overload]
    assert found is not None
    assert found.out_features == 48


def test_bisection_says_where_nothing_meets_the_limit() -> None:
    assert _steps(5, least=6)[0] is None


SOURCE = '''
"""Not counted."""
import tool  # user code
import other
import special  # user code: special

# user code
def prune(model):
    """Neither is this.

    Nor this.
    """
    # a comment

    pruner = tool.Pruner(
        model,
    )
    return """a
    value"""
# end of user code
not_counted = 1
# user code: special
special.treat(model)
# end of user code
'''


def test_lines_are_those_with_code_between_the_markers() -> None:
    assert count_lines(SOURCE) == 1 + 1 + 3 + 2
    assert count_lines(SOURCE, {"special"}) == 7 + 2
    assert count_lines(SOURCE, {"unknown"}) == 7


@pytest.mark.parametrize(
    "source", ["# user code\nx = 1\n", "x = 1\n# end of user code\n", "# user code\n# user code\n# end of user code\n"]
)
def test_markers_that_do_not_pair_are_refused(source: str) -> None:
    with pytest.raises(ConfigError, match="line"):
        count_lines(source)


def test_every_way_to_use_a_tool_has_its_lines() -> None:
    lines = {name: variant.lines for name, variant in VARIANTS.items() if variant.tool != "none"}
    assert min(lines.values()) > 0
    assert lines["torch_pruning/taylor/local"] > lines["torch_pruning/l1/local"]
    assert lines["torch_pruning/l1/local/padded"] < lines["torch_pruning/l1/local"]
    assert lines["torch_pruning/l1/local"] < lines["torch_pruning/l1/local/convolved"]
