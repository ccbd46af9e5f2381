"""How well one evaluator of sub-networks predicts another: correlation figures with confidence intervals."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy  # its parts are imported when they are used first
from jaxtyping import Float

from widthwise.errors import ConfigError

__all__ = ["Correlation", "Estimate", "correlation", "kendall", "pearson", "phi", "spearman"]

Values = Sequence[float] | Sequence[int] | np.ndarray
Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % bootstrap interval; nan where the data do not determine it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return "-" if math.isnan(self.value) else f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Correlation:
    """Agreement of two evaluators on the same models."""

    models: int
    k: int
    """The k of phi."""
    pearson: Estimate
    kendall: Estimate
    spearman: Estimate
    phi: Estimate


def pearson(x: Values, y: Values) -> float:
    """Pearson's linear correlation of `x` and `y`, in [-1, 1]; nan if either is constant."""
    return _pearson(*_paired(x, y))


def spearman(x: Values, y: Values) -> float:
    """Spearman's rank correlation (ties share their mean rank), in [-1, 1]; nan if either is constant."""
    return _spearman(*_paired(x, y))


def kendall(x: Values, y: Values) -> float:
    """Kendall's tau-b, in [-1, 1]; nan if either is constant."""
    return _kendall(*_paired(x, y))


def phi(x: Values, y: Values, k: int) -> float:
    """FNNP, equation 5: how high the `k` best models by `y` stand in the ranking by `x`; in (0, 1].

    ``phi = 1/k * sum over i = 1..k of min(k / find(X, Y[i]), 1)``, where ``find(X, Y[i])`` is the rank by `x`
    (1 is the best) of the model that is i-th best by `y`. It is 1 where both have the same k best, in any
    order.

    The paper says nothing about ties. Here the result is the mean over all ways to break them, in `x` and in
    `y`: an evaluator that cannot tell models apart gets what guessing would get, and the order in which the
    models are listed does not matter.

    Args:
        x: accuracies by the evaluator in question, one per model.
        y: accuracies of the same models by the one to predict, such as fine-tuned accuracy.
        k: how many of the best count.

    Raises:
        ConfigError: `k` is not in 1..number of models, or the inputs do not pair up.
    """
    a, b = _paired(x, y)
    if not 1 <= k <= len(a):
        raise ConfigError(f"k must lie in 1..{len(a)}, the number of models, but got k={k}")
    return _phi(a, b, k)


def correlation(x: Values, y: Values, k: int = 5, *, resamples: int = 1000, seed: int = 0) -> Correlation:
    """All figures, each with its 95 % percentile bootstrap interval over the models.

    Args:
        x: scores by one evaluator, one per model.
        y: scores of the same models by another.
        k: the k of `phi`; lowered to the number of models where there are fewer.
        resamples: bootstrap samples; those in which a figure is not defined (constant values) are left out.
        seed: of the resampling.

    Raises:
        ConfigError: the inputs do not pair up, there are none, or `k` or `resamples` is below 1.
    """
    a, b = _paired(x, y)
    if k < 1 or resamples < 1:
        raise ConfigError(f"k and resamples must be at least 1, but got k={k}, resamples={resamples}")
    k = min(k, len(a))
    draws = np.random.default_rng(seed).integers(len(a), size=(resamples, len(a)))
    figures = (_pearson, _kendall, _spearman, partial(_phi, k=k))
    return Correlation(len(a), k, *(_estimate(figure, a, b, draws) for figure in figures))


def _estimate(figure: Callable[[Vector, Vector], float], x: Vector, y: Vector, draws: np.ndarray) -> Estimate:
    if _is_constant(x) or _is_constant(y):  # phi would be that of guessing, and look like a finding
        return Estimate(math.nan, math.nan, math.nan)
    values = np.array([figure(x[draw], y[draw]) for draw in draws])
    values = values[~np.isnan(values)]
    value = figure(x, y)
    if math.isnan(value) or len(values) == 0:
        return Estimate(value, math.nan, math.nan)
    low, high = np.quantile(values, (0.025, 0.975))
    return Estimate(value, float(low), float(high))


def _pearson(x: Vector, y: Vector) -> float:
    if _is_constant(x) or _is_constant(y):
        return math.nan
    a, b = x - x.mean(), y - y.mean()
    return float(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1))


def _spearman(x: Vector, y: Vector) -> float:
    return _pearson(scipy.stats.rankdata(x), scipy.stats.rankdata(y))


def _kendall(x: Vector, y: Vector) -> float:
    if _is_constant(x) or _is_constant(y):
        return math.nan
    return float(scipy.stats.kendalltau(x, y).statistic)


def _phi(x: Vector, y: Vector, k: int) -> float:
    # gains[r] sums what ranks 1..r would bring; models that tie share the ranks from `first` to `final`.
    gains = np.concatenate([[0.0], np.minimum(k / np.arange(1, len(x) + 1), 1).cumsum()])
    first, final = (scipy.stats.rankdata(-x, method=method).astype(int) for method in ("min", "max"))
    gain = (gains[final] - gains[first - 1]) / (final - first + 1)
    last = np.sort(y)[-k]
    above, tied = y > last, y == last
    places = (k - above.sum()) / tied.sum()
    return float((gain[above].sum() + places * gain[tied].sum()) / k)


def _is_constant(values: Vector) -> bool:
    return bool((values == values[0]).all())


def _paired(x: Values, y: Values) -> tuple[Vector, Vector]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        raise ConfigError(
            "two evaluators are compared on the same models, one score for each, "
            f"but got shapes {a.shape} and {b.shape}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ConfigError("scores must be finite, but some are NaN or infinite; leave those models out")
    return a, b
