"""Strategies under a budget, checked by enumeration."""

from itertools import product

import pytest
import torch

from widthwise import Budget, CostModel, WidthSpace, build_model, trace
from widthwise.cost.budget import TOLERANCE
from widthwise.errors import InfeasibleBudget
from widthwise.search import draw_rates, fill, first_widths, project, shared_widths, uniform_widths


def test_random_rates_follow_the_definition(chain_space, half):
    """Rejection keeps exactly the strategies that a plain draw keeps: each width as often, up to chance."""
    draws = draw_rates(chain_space, half, 0.8, 4000, torch.Generator().manual_seed(0))
    used = half.used(draws.widths)
    assert float(used.max()) <= 1
    assert float(used.min()) >= 1 - TOLERANCE
    generator = torch.Generator().manual_seed(1)
    full = chain_space.full
    rates = torch.rand(400_000, 4, generator=generator) * 0.8
    plain = ((1 - rates) * full).round().clamp(min=1).to(torch.int64)
    share = half.used(plain)
    plain = plain[(share <= 1) & (share >= 1 - TOLERANCE)]
    assert draws.drawn / 4000 == pytest.approx(400_000 / len(plain), rel=0.15)
    for group in range(4):
        a = torch.bincount(draws.widths[:, group], minlength=13) / 4000
        b = torch.bincount(plain[:, group], minlength=13) / len(plain)
        assert float((a - b).abs().max()) < 0.04


def test_rates_that_can_never_meet_the_budget_are_refused(chain_space, half):
    with pytest.raises(InfeasibleBudget, match="raise max_rate"):
        draw_rates(chain_space, half, 0.1, 5, torch.Generator().manual_seed(0))


def test_coarse_widths_are_filled_up_instead(chain_cost):
    space = WidthSpace(ratios=(0.5, 1.0)).of(chain_cost.graph)
    limits = Budget(macs=0.55).on(chain_cost, space)
    draws = draw_rates(space, limits, 0.9, 5, torch.Generator().manual_seed(0), max_draws=3_000_000)
    assert bool(limits.met(draws.widths).all())
    for row in draws.widths:  # nothing more fits
        for group in range(4):
            wider = row.clone()
            wider[group] = space.full[group]
            assert bool((wider == row).all()) or not bool(limits.met(wider[None])[0])


def test_fill_stops_within_the_tolerance_or_when_nothing_fits(chain_space, half):
    for start in product((1, 3), repeat=4):
        widths = fill(chain_space, half, torch.tensor(start))
        assert bool(half.met(widths[None])[0])
        if float(half.used(widths[None])[0]) < 1 - TOLERANCE:
            for group in range(4):
                wider = widths.clone()
                wider[group] += 1
                assert wider[group] > chain_space.full[group] or not bool(half.met(wider[None])[0])


def test_two_constraints_hold_at_once(chain_cost, chain_space):
    limits = Budget(macs=0.6, params=0.4).on(chain_cost, chain_space)
    rows = project(chain_space, limits, torch.rand(20, 4) + 0.1)
    full = chain_cost.full
    assert bool((chain_cost.macs(rows) <= 0.6 * full["macs"]).all())
    assert bool((chain_cost.params(rows) <= 0.4 * full["params"]).all())


def test_uniform_is_even_and_just_under_the_budget(chain_space, half):
    ratios = uniform_widths(chain_space, half) / chain_space.full
    assert float(ratios.max() - ratios.min()) < 0.25
    assert float(half.used(uniform_widths(chain_space, half)[None])[0]) > 0.9


@pytest.mark.parametrize("budget", [0.5, 0.3])
def test_a_residual_stream_stays_nearly_whole_where_widths_follow_how_many_layers_share_them(budget):
    graph = trace(build_model("resnet20"), torch.zeros(1, 3, 32, 32))
    space = WidthSpace().of(graph)
    limits = Budget(macs=budget).on(CostModel(graph), space)
    widths = shared_widths(space, limits)
    assert 1 - TOLERANCE <= float(limits.used(widths[None])[0]) <= 1
    ratios = widths / space.full
    (stream,) = (graph.makers > 1).nonzero()[0].tolist()
    inner = [i for i in range(len(ratios)) if i != stream]
    assert ratios[stream] > 0.85
    assert float(ratios[inner].max()) < budget * 1.2
    assert torch.equal(widths, shared_widths(space, limits))
    uniform = uniform_widths(space, limits)
    assert [w.tolist() for w in first_widths(space, limits)] == [uniform.tolist(), widths.tolist()]


def test_a_chain_has_one_start(chain_space, half):
    assert [w.tolist() for w in first_widths(chain_space, half)] == [uniform_widths(chain_space, half).tolist()]


def test_widths_that_are_shared_meet_a_budget_that_hardly_anything_meets(chain_cost, chain_space):
    least = int(chain_cost.macs(chain_space.smallest[None])[0])
    limits = Budget(macs=least).on(chain_cost, chain_space)
    assert torch.equal(shared_widths(chain_space, limits), chain_space.smallest)
