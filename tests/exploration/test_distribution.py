"""Likelihoods and weights of sampled sub-networks, in log space; reflection at the edges."""

import math

import pytest
import torch

from widthwise.exploration.distribution import EDGE, inside, log_likelihood, reflected, score, weigh


def drawn(samples: int, channels: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    p = 0.1 + 0.8 * torch.rand(channels, dtype=torch.float64, generator=generator)
    return torch.rand(samples, channels, dtype=torch.float64, generator=generator) < p, p


def test_the_likelihood_is_equation_13() -> None:
    keep, p = drawn(5, 7)
    for row, found in zip(keep, log_likelihood(keep, p), strict=True):
        product = math.prod(float(chance if kept else 1 - chance) for kept, chance in zip(row, p, strict=True))
        assert float(found.exp()) == pytest.approx(product)


def test_the_score_is_its_gradient() -> None:
    keep, p = drawn(6, 9)
    for row in range(6):
        at = p.clone().requires_grad_()
        (expected,) = torch.autograd.grad(log_likelihood(keep, at)[row], at)
        torch.testing.assert_close(score(keep, p)[row], expected)


def test_five_thousand_channels_neither_underflow_nor_collapse() -> None:
    keep, p = drawn(24, 5000)
    plain = log_likelihood(keep, p)
    assert bool((plain.exp() == 0).all()), "the product itself is zero in double precision"
    assert weigh(plain).effective < 1.5, "the paper's weights: nearly all of it on one sample"
    same = weigh(log_likelihood(keep, p) - plain, 0.5)
    assert same.effective == pytest.approx(24)
    moved = inside(p + 0.03 * torch.randn(5000, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    ratios = log_likelihood(keep, moved) - plain
    assert weigh(ratios).effective < 8
    flattened = weigh(ratios, 0.5)
    assert flattened.effective == pytest.approx(12, rel=1e-6)
    assert 0 < flattened.power < 1
    assert float(flattened.weights.sum()) == pytest.approx(1)
    assert torch.equal(flattened.weights.argsort(), ratios.argsort())


def test_weights_estimate_an_expectation_under_another_distribution() -> None:
    keep, q = drawn(40_000, 6)
    p = inside(q + 0.1)
    worth = torch.linspace(1, 2, 6, dtype=torch.float64)
    values = keep.double() @ worth
    weights = weigh(log_likelihood(keep, p) - log_likelihood(keep, q)).weights
    assert float((weights * values).sum()) == pytest.approx(float(p @ worth), rel=0.01)


def test_moves_are_mirrored_at_the_edges() -> None:
    p = torch.tensor([0.5, EDGE - 0.02, 1 - EDGE + 0.03, -3.0], dtype=torch.float64)
    momentum = torch.tensor([1.0, -1.0, 2.0, -1.0], dtype=torch.float64)
    found, turned = reflected(p, momentum)
    torch.testing.assert_close(found[:3], torch.tensor([0.5, EDGE + 0.02, 1 - EDGE - 0.03], dtype=torch.float64))
    assert bool(((found >= EDGE) & (found <= 1 - EDGE)).all())
    assert turned.tolist() == [1.0, 1.0, -2.0, 1.0]
