"""What Thompson sampling draws: the distribution that the regression names, and on every machine the same."""

import pytest
import torch
from sklearn.linear_model import BayesianRidge
from torch import Tensor

from widthwise.cost import Limits
from widthwise.search import ThompsonSampling, uniform_widths
from widthwise.search.thompson import _drawn
from widthwise.subnet import Space


def regression(scores: int) -> tuple[Tensor, BayesianRidge]:
    """Six features that are correlated, and a fit to some scores."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(scores, 6, generator=generator, dtype=torch.float64).cumsum(1)
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    noise = torch.randn(scores, generator=generator, dtype=torch.float64)
    return inputs, BayesianRidge().fit(inputs.numpy(), (inputs[:, 0] + 0.3 * noise).numpy())


@pytest.mark.parametrize("scores", [40, 4])
def test_draws_have_the_mean_and_the_covariance_of_the_fit(scores: int) -> None:
    inputs, fit = regression(scores)
    mean, generator = torch.as_tensor(fit.coef_), torch.Generator().manual_seed(2)
    drawn = torch.stack([_drawn(mean, inputs, fit.alpha_, fit.lambda_, generator) for _ in range(4000)])
    known = torch.linalg.inv(fit.lambda_ * torch.eye(6) + fit.alpha_ * inputs.mT @ inputs)  # sigma_, from 1.7 on
    scale = known.diagonal().sqrt()
    torch.testing.assert_close((drawn.mean(0) - mean) / scale, torch.zeros(6).double(), rtol=0, atol=0.07)
    torch.testing.assert_close(drawn.T.cov() / scale.outer(scale), known / scale.outer(scale), rtol=0, atol=0.1)


def test_rounding_draws_nothing_else_where_there_are_more_features_than_scores() -> None:
    inputs, fit = regression(4)
    mean = torch.as_tensor(fit.coef_)
    rounded = inputs * (1 + 1e-13 * torch.randn(inputs.shape, generator=torch.Generator().manual_seed(3)))
    first, second = (
        _drawn(mean, seen, fit.alpha_, fit.lambda_, torch.Generator().manual_seed(4)) for seen in (inputs, rounded)
    )
    torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-9)


def test_a_group_tried_at_one_width_does_not_outweigh_the_others(chain_space: Space, half: Limits) -> None:
    searcher = ThompsonSampling(chain_space, half, seed=0)
    uniform, generator = uniform_widths(chain_space, half), torch.Generator().manual_seed(5)
    for _ in range(20):
        tried = uniform.clone()
        tried[1:] = torch.randint(2, 9, (len(uniform) - 1,), generator=generator)
        searcher.tell(tried, float(tried[1]) / 10)
    other = uniform.clone()
    other[0] = 1
    guessed = searcher._guess(torch.stack([uniform, other]))
    assert float((guessed[0] - guessed[1]).abs()) < 100, "scores lie between 0 and 1"
