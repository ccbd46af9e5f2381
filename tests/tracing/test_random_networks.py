"""Random networks: whatever is offered for pruning can be pruned, or the trace says why not. Never a wrong network.

Ten thousand, in two processes (each prints its counts at the end)::

    for i in 0 1; do OMP_NUM_THREADS=1 WIDTHWISE_RANDOM_SEED=$i WIDTHWISE_RANDOM_NETWORKS=5000 \
        python -m pytest -m slow -s tests/tracing/test_random_networks.py -k many & done; wait
"""

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from random_networks import heads, shapes, specs
from random_networks.checks import Case, check_network, failure, shortest
from random_networks.reach import every_step
from typecheck import annotations

cases = given(st.tuples(specs, heads, shapes, st.integers(0, 3)))
common = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@settings(max_examples=40, derandomize=True, **common)
@cases
def test_random_networks_are_exact_or_refused(case: Case) -> None:
    with annotations(checked=False):
        check_network(case, Counter())


class Hunt:
    """Looks at one network after another; all that are wrong are wanted, each with as few steps as it takes."""

    def __init__(self) -> None:
        self.tally: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._different: set[str] = set()

    def look(self, case: Case) -> None:
        self._different.add(repr(case))
        if failure(case, self.tally) is not None:
            least = shortest(case)
            self.wrong.append(f"{least}: {failure(least, Counter())}")
            print("disagreement", self.wrong[-1], flush=True)

    def end(self) -> None:
        self.tally["different networks"], self.tally["disagreements"] = len(self._different), len(self.wrong)
        print(dict(self.tally), flush=True)
        assert not self.wrong, "\n".join(self.wrong)


@pytest.mark.slow
def test_many_random_networks_are_exact_or_refused() -> None:
    hunt = Hunt()
    count, start = (int(os.environ.get(f"WIDTHWISE_RANDOM_{n}", d)) for n, d in (("NETWORKS", "1500"), ("SEED", "0")))

    @seed(start)
    @settings(max_examples=count, **common)
    @cases
    def look(case: Case) -> None:
        hunt.look(case)

    look()
    hunt.end()


@pytest.mark.slow
def test_every_step_alone_is_exact_or_refused() -> None:
    hunt = Hunt()
    for i, spec in enumerate(every_step()):
        hunt.look((spec, i % 5, i % 3, i % 4))
    hunt.end()
