"""ThresNet: its shape, its gradient, and that it finds the best thresholds of problems with a known optimum."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from typecheck import annotations
from widthwise import ChannelGraph, build_model, trace
from widthwise.errors import ConfigError
from widthwise.joint import FilterWeights, Policy, RoundSettings, ThresNet


def graph_of(*widths: int) -> ChannelGraph:
    layers: list[nn.Module] = []
    for before, after in zip((3, *widths), (*widths, 2), strict=True):
        layers += [nn.Conv2d(before, after, 1), nn.ReLU()]
    return trace(nn.Sequential(*layers), torch.randn(1, 3, 2, 2))


def test_expansions_double_to_128() -> None:
    """The paper's example: 3, 2 and 1 layers for 16, 32 and 64 channels."""
    model = build_model("resnet20", num_classes=10)
    net = ThresNet(trace(model, torch.randn(1, 3, 8, 8)))
    sizes = {
        name: [layer.weight.shape for layer in parts if isinstance(layer, nn.Linear)]
        for name, parts in net.expansions.items()
        if isinstance(parts, nn.Sequential)
    }
    assert sizes == {"16": [(32, 16), (64, 32), (128, 64)], "32": [(64, 32), (128, 64)], "64": [(128, 64)]}


def test_probabilities_of_a_threshold_for_every_group() -> None:
    graph = graph_of(5, 300, 5)
    net = ThresNet(graph, (0.5, 0.9))
    logs = net(FilterWeights(graph).alpha)
    assert logs.shape == (3, 2)
    torch.testing.assert_close(logs.exp().sum(1), torch.ones(3))


def expected_reward(net: ThresNet, alpha: Tensor, rewards: Tensor) -> Tensor:
    """J(Phi) by enumeration: rewards [choices, choices] of two groups."""
    chances = net(alpha).exp()
    return torch.einsum("a,b,ab->", chances[0], chances[1], rewards)


def test_the_policy_gradient_is_the_gradient_of_the_expected_reward() -> None:
    """Equation 4 averaged over all outcomes with their probabilities, and finite differences of J."""
    graph = graph_of(4, 6)
    alpha = FilterWeights(graph).alpha.detach().double()
    net = ThresNet(graph, (0.2, 0.5, 0.8)).double()
    rewards = torch.randn(3, 3, dtype=torch.float64)
    parameters = list(net.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    for a, b in product(range(3), range(3)):
        chance = net(alpha).exp().detach()
        objective = Policy.objective(net(alpha), torch.tensor([[a, b]]), rewards[a, b][None])
        for sum_, part in zip(total, torch.autograd.grad(objective, parameters), strict=True):
            sum_ += chance[0, a] * chance[1, b] * part
    generator = torch.Generator().manual_seed(0)
    for parameter, analytic in zip(parameters, total, strict=True):
        index = tuple(int(torch.randint(size, (), generator=generator)) for size in parameter.shape)
        with torch.no_grad():
            parameter[index] += 1e-6
            above = expected_reward(net, alpha, rewards)
            parameter[index] -= 2e-6
            below = expected_reward(net, alpha, rewards)
            parameter[index] += 1e-6
        assert float(analytic[index]) == pytest.approx(float((above - below) / 2e-6), rel=1e-5, abs=1e-9)


def test_the_baseline_is_the_moving_mean_of_rewards() -> None:
    graph = graph_of(4)
    alpha, policy = FilterWeights(graph).alpha.detach(), Policy(ThresNet(graph), memory=0.75)
    choices = torch.zeros(2, 1, dtype=torch.int64)
    for rewards, baseline in (((1.0, 3.0), 2.0), ((4.0, 8.0), 3.0)):
        policy.learn(alpha, choices, torch.tensor(rewards))
        assert policy.baseline == pytest.approx(baseline)


def test_a_rising_reward_does_not_stop_the_policy_from_learning() -> None:
    """As while the network trains: half a step of reward more in each step of the policy."""
    graph = graph_of(8, 16, 16)
    found = 0
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        best = torch.randint(5, (3,), generator=generator)
        alpha, policy = FilterWeights(graph, seed=seed).alpha.detach(), Policy(ThresNet(graph, seed=seed))
        for step in range(150):
            with annotations(checked=seed == 0):
                choices = policy.choose(alpha, 8, seed=1000 * seed + step)
                noise = torch.randn(8, generator=generator)
                policy.learn(alpha, choices, -(choices - best).abs().sum(1).float() + noise + 0.5 * step)
        found += int(torch.equal(policy.likeliest(alpha), best))
    assert found >= 9


def test_a_baseline_does_not_change_the_expected_gradient() -> None:
    graph = graph_of(4, 6)
    alpha, net = FilterWeights(graph).alpha.detach().double(), ThresNet(graph, (0.2, 0.8)).double()
    every = torch.tensor(list(product(range(2), range(2))))
    chances = net(alpha).exp().detach()
    weights = chances[0, every[:, 0]] * chances[1, every[:, 1]] * len(every)
    constant = Policy.objective(net(alpha), every, weights * 7.0)
    for gradient in torch.autograd.grad(constant, list(net.parameters())):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)


def test_the_best_thresholds_of_a_known_problem_are_found() -> None:
    """The reward falls with the distance to a hidden choice for each group, with noise as large as one step."""
    graph = graph_of(8, 16, 16)
    found, rounds = 0, RoundSettings()
    assert rounds.rounds * rounds.policy_steps == 150  # what a search has by default
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        best = torch.randint(5, (3,), generator=generator)
        alpha = FilterWeights(graph, seed=seed).alpha.detach()
        policy = Policy(ThresNet(graph, seed=seed), lr=rounds.policy_lr, entropy=rounds.entropy)
        for step in range(150):
            with annotations(checked=seed == 0):
                choices = policy.choose(alpha, rounds.episodes, seed=1000 * seed + step)
                noise = torch.randn(rounds.episodes, generator=generator)
                policy.learn(alpha, choices, -(choices - best).abs().sum(1).float() + noise)
        found += int(torch.equal(policy.likeliest(alpha), best))
    assert found >= 19


def test_entropy_falls_from_undecided_to_decided() -> None:
    graph = graph_of(8)
    alpha, policy = FilterWeights(graph).alpha.detach(), Policy(ThresNet(graph), lr=1e-2, entropy=0)
    before = policy.entropy(alpha)
    assert before == pytest.approx(torch.tensor(5.0).log().item(), abs=0.1)
    for step in range(60):
        choices = policy.choose(alpha, 8, seed=step)
        policy.learn(alpha, choices, (choices[:, 0] == 2).float())
    assert policy.entropy(alpha) < 0.3
    assert policy.likeliest(alpha).tolist() == [2]
    torch.testing.assert_close(policy.thresholds(policy.likeliest(alpha)), torch.tensor([0.7], dtype=torch.float64))


@pytest.mark.parametrize("thresholds", [(), (0.0, 0.5), (0.5, 1.1)])
def test_thresholds_outside_their_range_are_refused(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="Thresholds"):
        ThresNet(graph_of(4), thresholds)
