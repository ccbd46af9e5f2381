"""Equation 14, its gradient, the surrogate, and moves by the energy."""

import pytest
import torch
from exploration_toys import additive

from widthwise.exploration import RandomBudget
from widthwise.exploration.distribution import inside, log_likelihood, weigh
from widthwise.exploration.estimate import along, divergence, objective, objective_gradient
from widthwise.exploration.explore import explored, variance_gradient
from widthwise.exploration.samples import Samples, loss_gradient
from widthwise.exploration.surrogate import LinearSurrogate


def samples(count: int, channels: int, seed: int = 0) -> tuple[Samples, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    p = 0.2 + 0.6 * torch.rand(channels, dtype=torch.float64, generator=generator)
    keep = torch.rand(count, channels, dtype=torch.float64, generator=generator) < p
    worth = torch.randn(channels, dtype=torch.float64, generator=generator)
    losses = keep.double() @ worth + (keep[:, 0] & keep[:, 1]).double()
    return Samples(keep, p.expand(count, -1), losses), p


@pytest.mark.parametrize("power", [1.0, 0.4])
def test_the_gradient_of_equation_14_is_that_of_autograd(power: float) -> None:
    found, before = samples(8, 6)
    p = inside(before + 0.05).requires_grad_()
    (expected,) = torch.autograd.grad(objective(p, before, found, proximity=0.7, power=power), p)
    torch.testing.assert_close(objective_gradient(p.detach(), before, found, proximity=0.7, power=power), expected)


def test_equation_14_by_hand() -> None:
    found, before = samples(3, 2)
    p = before + 0.1
    ratios = (log_likelihood(found.keep, p) - log_likelihood(found.keep, before)).exp()
    mean = float((ratios * found.losses).sum() / ratios.sum())
    assert float(objective(p, before, found)) == pytest.approx(float(divergence(p, before)) + mean)
    assert float(divergence(before, before)) == 0


def test_samples_give_the_gradient_of_the_expected_loss() -> None:
    found, p = samples(200_000, 4)
    steps = torch.eye(4, dtype=torch.float64) * 1e-4
    every = torch.tensor([[bool(n >> i & 1) for i in range(4)] for n in range(16)])
    table = {tuple(row.tolist()): float(loss) for row, loss in zip(found.keep, found.losses, strict=True)}
    losses = torch.tensor([table[tuple(row.tolist())] for row in every], dtype=torch.float64)

    def expected(at: torch.Tensor) -> torch.Tensor:
        return (log_likelihood(every, at).exp() * losses).sum()

    slope = torch.stack([(expected(p + step) - expected(p - step)) / 2e-4 for step in steps])
    torch.testing.assert_close(loss_gradient(found, p), slope, atol=0.05, rtol=0)
    surrogate = LinearSurrogate(4)
    surrogate.slope = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(surrogate.gradient(found, p), slope, atol=0.05, rtol=0)


def test_a_surrogate_that_has_learned_gives_a_steadier_gradient() -> None:
    surrogate = LinearSurrogate(40)
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        keep = torch.rand(16, 40, dtype=torch.float64, generator=generator) < 0.5
        losses = keep.double() @ torch.linspace(-1, 1, 40, dtype=torch.float64)
        found = Samples(keep, torch.full((16, 40), 0.5, dtype=torch.float64), losses)
        surrogate.learn(found)
    p = torch.full((40,), 0.5, dtype=torch.float64)
    truth = torch.linspace(-1, 1, 40, dtype=torch.float64)
    plain, better = loss_gradient(found, p), surrogate.gradient(found, p)
    assert float((better - truth).norm()) < 0.1 * float((plain - truth).norm())


def test_a_gradient_along_the_budget_does_not_change_the_cost() -> None:
    generator = torch.Generator().manual_seed(0)
    p = 0.1 + 0.8 * torch.rand(9, dtype=torch.float64, generator=generator)
    prices = torch.rand(9, dtype=torch.float64, generator=generator)
    gradient = -torch.rand(9, dtype=torch.float64, generator=generator)  # every channel lowers the loss
    found = along(gradient, prices, p)
    assert float((p * (1 - p) * found * prices).sum()) == pytest.approx(0, abs=1e-12)
    assert torch.equal(along(-gradient, prices, p), -gradient), "what is not wanted needs no price"


def test_the_variance_term_pulls_up_what_is_below_the_budget() -> None:
    toy = additive(12, 0)
    budget = RandomBudget(toy.space, toy.limits)
    low, high = (torch.full((12,), value, dtype=torch.float64) for value in (0.3, 0.8))
    assert bool((variance_gradient(budget, low, 3.0) < 0).all())
    assert bool((variance_gradient(budget, high, 3.0) == 0).all())


def test_moves_follow_the_energy_and_stay_inside() -> None:
    start = torch.full((2000,), 0.5, dtype=torch.float64)
    found = explored(start, lambda p: torch.full_like(p, 40.0), 300, 0.02, torch.Generator().manual_seed(0))
    assert float(found.mean()) < 0.15
    assert bool(((found >= 0.01) & (found <= 0.99)).all())
    free = explored(start, torch.zeros_like, 1, 0.05, torch.Generator().manual_seed(0))
    assert float((free - start).std()) == pytest.approx(0.05, rel=0.1)
    assert weigh(torch.zeros(4, dtype=torch.float64)).effective == pytest.approx(4)
