"""Correlation figures against hand-computed values, scipy and brute force."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from widthwise.errors import ConfigError
from widthwise.evaluate import correlation, kendall, pearson, phi, spearman


def test_phi_by_hand() -> None:
    y = [0.9, 0.8, 0.7, 0.6, 0.5]  # models 0 and 1 are the best two
    x = [0.3, 0.1, 0.5, 0.4, 0.2]  # ranks 3, 5, 1, 2, 4
    assert phi(x, y, 1) == pytest.approx(1 / 3)
    assert phi(x, y, 2) == pytest.approx((2 / 3 + 2 / 5) / 2)
    assert phi(x, y, 3) == pytest.approx((3 / 3 + 3 / 5 + 1) / 3)
    assert phi(x, y, 5) == 1
    assert phi(y, y, 1) == 1


def equation_5(x: np.ndarray, y: np.ndarray, k: int) -> float:
    """The paper's words: sort both in descending order, find the i-th best of Y in X."""
    by_x, by_y = np.argsort(-x).tolist(), np.argsort(-y).tolist()
    return sum(min(k / (by_x.index(by_y[i]) + 1), 1) for i in range(k)) / k


@given(st.permutations(range(8)), st.permutations(range(8)), st.integers(1, 8))
def test_phi_is_equation_5_where_nothing_ties(x: list[int], y: list[int], k: int) -> None:
    assert phi(x, y, k) == pytest.approx(equation_5(np.array(x), np.array(y), k))


scores = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=3, max_size=7)


@given(scores, st.randoms())
def test_phi_with_ties_does_not_depend_on_the_listing(pairs: list[tuple[int, int]], random: object) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert phi(*zip(*pairs, strict=True), 2) == pytest.approx(phi(*zip(*shuffled, strict=True), 2))


def test_phi_ties_share_places() -> None:
    y = [3.0, 2.0, 2.0, 2.0, 1.0]  # three models share places 2 to 4; k = 2 leaves one place for them
    x = [5.0, 4.0, 3.0, 2.0, 1.0]
    assert phi(x, y, 2) == pytest.approx((1 + (2 / 2 + 2 / 3 + 2 / 4) / 3) / 2)
    assert phi([1.0] * 5, x, 2) == pytest.approx((1 + 1 + 2 / 3 + 2 / 4 + 2 / 5) / 5)


@given(scores)
def test_phi_with_ties_is_the_mean_over_all_ways_to_break_them(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs[:4], dtype=float).T
    breaks = [0.01 * np.array(order) for order in itertools.permutations(range(len(x)))]
    values = [equation_5(x + a, y + b, 2) for a, b in itertools.product(breaks, breaks)]
    assert phi(x, y, 2) == pytest.approx(np.mean(values))


def test_against_scipy() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=30)
    y = np.round(x + rng.normal(size=30), 1)
    assert pearson(x, y) == pytest.approx(scipy.stats.pearsonr(x, y).statistic)
    assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert kendall(x, y) == pytest.approx(tau_b(x, y))


def tau_b(x: np.ndarray, y: np.ndarray) -> float:
    pairs = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i, j in itertools.combinations(range(len(x)), 2)]
    concordance = sum(a * b for a, b in pairs)
    return concordance / math.sqrt(sum(a * a for a, _ in pairs) * sum(b * b for _, b in pairs))


def test_constant_inputs_have_no_correlation() -> None:
    for figure in (pearson, spearman, kendall):
        assert math.isnan(figure([1, 1, 1], [1, 2, 3]))
        assert math.isnan(figure([1, 2, 3], [0.1, 0.1, 0.1]))
        assert math.isnan(figure([1], [2]))
    result = correlation([0.1] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], resamples=20)
    assert math.isnan(result.pearson.value)
    assert math.isnan(result.kendall.low)
    assert math.isnan(result.phi.value)  # that of guessing would look like a finding


def test_correlation_intervals() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(size=25)
    close, loose = y + 0.1 * rng.normal(size=25), rng.normal(size=25)
    good, poor = correlation(close, y, resamples=300), correlation(loose, y, resamples=300)
    assert (good.models, good.k) == (25, 5)
    for estimate in (good.pearson, good.kendall, good.spearman, good.phi):
        assert estimate.low <= estimate.value <= estimate.high
    assert good.pearson.low > 0.9
    assert poor.pearson.low < 0 < poor.pearson.high
    assert correlation(close, y, resamples=300) == good  # seeded
    assert str(good.pearson).startswith(f"{good.pearson.value:.2f} [")


def test_the_interval_has_the_textbook_width() -> None:
    """Fisher's z: for bivariate normal data the standard error of atanh(r) is 1 / sqrt(n - 3)."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=200)
    y = 0.6 * x + 0.8 * rng.normal(size=200)
    found = correlation(x, y, resamples=500).pearson
    width = math.atanh(found.high) - math.atanh(found.low)
    assert width == pytest.approx(2 * 1.96 / math.sqrt(197), rel=0.2)


def test_few_models() -> None:
    assert correlation([0.1, 0.2], [0.3, 0.4]).k == 2
    assert correlation([0.1, 0.2], [0.3, 0.4]).pearson.value == pytest.approx(1)


@pytest.mark.parametrize(
    ("x", "y", "k", "message"),
    [
        ([1, 2], [1, 2], 3, r"k must lie in 1\.\.2"),
        ([1, 2], [1, 2], 0, r"k must lie in 1\.\.2"),
        ([1, 2], [1, 2, 3], 1, r"shapes \(2,\) and \(3,\)"),
        ([], [], 1, "compared on the same models"),
        ([1, float("nan")], [1, 2], 1, "finite"),
    ],
)
def test_bad_input(x: list[float], y: list[float], k: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        phi(x, y, k)
