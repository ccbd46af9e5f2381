"""Exploration: from one distribution to the next by Hamiltonian moves (section 3.2, equations 7 to 11)."""

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from widthwise.exploration.budget import RandomBudget
from widthwise.exploration.distribution import reflected

__all__ = ["explored", "variance_gradient"]

Probabilities = Float64[Tensor, "channels"]


def variance_gradient(budget: RandomBudget, p: Probabilities, t_beta: float) -> Probabilities:
    """The gradient of L_v (below equation 7): of ``max(u^-T_beta - 1, 0)^2``, u the expected share of the budget.

    It is above zero where samples use less than the budget; equation 4 sees to those that use more.
    """
    used = float(budget.used(p))
    if used >= 1:
        return torch.zeros_like(p)
    slope: float = 2 * (used**-t_beta - 1) * -t_beta * used ** (-t_beta - 1)
    return slope * budget.prices(p)


def explored(
    p: Probabilities,
    energy_gradient: Callable[[Tensor], Tensor],
    moves: int,
    size: float,
    generator: torch.Generator,
) -> Probabilities:
    """Some moves of stochastic gradient Hamiltonian Monte Carlo from p, with a fresh momentum.

    Equations 10 and 11 with the friction's sign as in the source of the method (Chen et al. 2014, equation 15): the
    printed one would speed the momentum up. The noise has the variance ``2 epsilon``, which keeps the temperature at 1.

    Args:
        p: where to start.
        energy_gradient: of U, at any p.
        moves: m.
        size: epsilon.
        generator: of momentum and noise.
    """
    momentum = torch.randn(len(p), dtype=torch.float64, generator=generator)
    for _ in range(moves):
        p, momentum = reflected(p + size * momentum, momentum)
        noise = (2 * size) ** 0.5 * torch.randn(len(p), dtype=torch.float64, generator=generator)
        momentum = momentum - size * (energy_gradient(p) + momentum) + noise
    return p
