"""The front of points, against the comparison of all pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from widthwise.search.division.pareto import undominated

POINTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), max_size=40)


@pytest.mark.parametrize("metrics", [1, 2])
@given(points=POINTS)
def test_undominated_is_what_comparing_all_pairs_finds(metrics: int, points: list[tuple[int, ...]]) -> None:
    table = np.array(points, dtype=np.int64).reshape(len(points), 4)
    keys, losses, costs = table[:, 0], table[:, 1] * 0.5, table[:, 2 : 2 + metrics]
    front = undominated(keys, losses, costs)
    rows = [(k, x, *c) for k, x, c in zip(keys.tolist(), losses.tolist(), costs.tolist(), strict=True)]
    beaten = [
        any(a[0] == b[0] and a != b and all(x <= y for x, y in zip(a[1:], b[1:], strict=True)) for a in rows)
        for b in rows
    ]
    assert sorted(rows[i] for i in front) == sorted({row for row, lost in zip(rows, beaten, strict=True) if not lost})
    assert [rows[i][0] for i in front] == sorted(rows[i][0] for i in front)
