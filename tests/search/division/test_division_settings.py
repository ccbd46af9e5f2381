"""Settings of a division that make no sense."""

import pytest

from widthwise.errors import ConfigError
from widthwise.search import DivisionSettings, EvolutionSettings


@pytest.mark.parametrize(
    "wrong", [{"population": 0}, {"iterations": 0}, {"parents": 0}, {"mutation": 1.5}, {"fill": -1}]
)
def test_an_evolution_out_of_range(wrong) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        EvolutionSettings(**wrong)


@pytest.mark.parametrize("wrong", [{"evaluations": 0}, {"exhaustive": -1}, {"max_labels": 0}])
def test_a_division_out_of_range(wrong) -> None:
    with pytest.raises(ConfigError, match="evaluations"):
        DivisionSettings(**wrong)
