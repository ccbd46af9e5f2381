"""Numbers in words."""

from collections.abc import Callable

import pytest

from widthwise.report.words import amount, counted, duration, ordinal, percent, points, tick


@pytest.mark.parametrize(
    ("say", "value", "text"),
    [
        (amount, 0, "0"),
        (amount, 9_999, "9,999"),
        (amount, 10_000, "10.0 k"),
        (amount, 592_992, "593 k"),
        (amount, 999_499, "999 k"),
        (amount, 999_500, "1.00 M"),
        (amount, 1_193_952, "1.19 M"),
        (amount, 9_996_000, "10.0 M"),
        (amount, 4_089_000_000, "4.09 G"),
        (tick, 50_000, "50 k"),
        (tick, 1_500_000, "1.5 M"),
        (tick, 64, "64"),
        (percent, 0.4967, "49.7%"),
        (percent, -0.5, "\N{MINUS SIGN}50.0%"),
        (percent, -0.0, "0.0%"),
        (percent, -0.0001, "0.0%"),
        (points, 1.204, "+1.20"),
        (points, -0.28, "\N{MINUS SIGN}0.28"),
        (points, -0.001, "0.00"),
        (duration, 8.2, "8.2 s"),
        (duration, 59.96, "1 min 00 s"),
        (duration, 185, "3 min 05 s"),
        (duration, 7_620, "2 h 07 min"),
        (ordinal, 1, "1st"),
        (ordinal, 13, "13th"),
        (ordinal, 22, "22nd"),
    ],
)
def test_numbers(say: Callable[[float], str], value: float, text: str) -> None:
    assert say(value).replace("\N{NO-BREAK SPACE}", " ") == text


def test_one_and_many() -> None:
    assert (counted(1, "round"), counted(1_000, "round")) == ("1 round", "1,000 rounds")
