"""Latency as arithmetic: a fit to times that are known, and budgets of it."""

import json

import pytest
import torch
from torch import Tensor, nn

from widthwise import Budget, ChannelGraph, CostModel, WidthSpace, build_model, trace
from widthwise.cost import Latency
from widthwise.cost.latency import TICKS, fit_latency, latency_terms
from widthwise.errors import CorruptRun, InfeasibleBudget, InvalidBudget, SubnetMismatch
from widthwise.search import Evolution, RandomRates, uniform_widths


@pytest.fixture(scope="module", params=["resnet20", "mobilenet_v1"])
def graph(request: pytest.FixtureRequest) -> ChannelGraph:
    return trace(build_model(request.param), torch.zeros(1, 3, 32, 32))


def made_up(graph: ChannelGraph) -> Latency:
    """Coefficients of every size, many of them zero."""
    paths = tuple(dict.fromkeys(layer.module for layer in graph.layers))
    generator = torch.Generator().manual_seed(0)
    modules = {}
    for path, terms in latency_terms(graph, paths).items():
        chances = torch.rand(len(terms), 2, generator=generator, dtype=torch.float64)
        sizes = [10**5 if not rows else 10**5 if rows == 1 else 10**3 for rows in (len(rows) for _, rows in terms)]
        modules[path] = tuple(
            int(size * (0.1 + chance)) if drawn < 0.6 else 0
            for size, (drawn, chance) in zip(sizes, chances.tolist(), strict=True)
        )
    return Latency(modules=modules, graph=graph.fingerprint, shape=(1, 3, 32, 32), device="none", networks=0, error=0.0)


def drawn(graph: ChannelGraph, count: int) -> Tensor:
    share = torch.rand(count, len(graph.prunable), generator=torch.Generator().manual_seed(1))
    return (share * graph.full_widths).long() + 1


def seconds_of(latency: Latency, graph: ChannelGraph, widths: Tensor) -> dict[str, Tensor]:
    """By hand."""
    found = {path: torch.zeros(len(widths), dtype=torch.float64) for path in latency.modules}
    for path, coefficient, (fixed, rows) in latency.terms(graph):
        for place, row in enumerate(widths.tolist()):
            value = float(coefficient)
            for offset, per_channel in zip(fixed, rows.tolist(), strict=True):
                value *= offset + sum(a * b for a, b in zip(per_channel, row, strict=True))
            found[path][place] += value / TICKS
    return found


def test_the_cost_is_the_sum_of_the_terms(graph: ChannelGraph) -> None:
    latency, widths = made_up(graph), drawn(graph, 5)
    total = torch.stack(list(seconds_of(latency, graph, widths).values())).sum(0)
    cost = CostModel(graph, latency=latency)
    torch.testing.assert_close(cost.measure("latency", widths).double() / TICKS, total)
    assert cost.full["latency"] == cost.measure("latency", graph.subnet())
    zero = torch.zeros(5, len(graph.prunable), dtype=torch.float64)
    expected = cost.expected("latency", widths.double(), zero)
    torch.testing.assert_close(expected, cost.measure("latency", widths).double())


def test_the_costs_of_parts_add_up_exactly(graph: ChannelGraph) -> None:
    cost, widths = CostModel(graph, latency=made_up(graph)), drawn(graph, 20)
    paths = sorted(cost.modules)
    halves = [cost.part(paths[::2].__contains__), cost.part(paths[1::2].__contains__)]
    total = sum(half.measure("latency", widths) for half in halves)
    assert torch.equal(torch.as_tensor(total), torch.as_tensor(cost.measure("latency", widths)))


def test_a_fit_finds_times_that_are_of_its_form(graph: ChannelGraph) -> None:
    latency = made_up(graph)
    widths, others = drawn(graph, 40), drawn(graph, 60)[40:]
    fitted = fit_latency(graph, widths, seconds_of(latency, graph, widths), shape=(4, 3, 32, 32), device="here")
    assert (fitted.batch, fitted.device, fitted.networks) == (4, "here", 40)
    assert fitted.error < 1e-4
    torch.testing.assert_close(
        CostModel(graph, latency=fitted).measure("latency", others).double(),
        CostModel(graph, latency=latency).measure("latency", others).double(),
        rtol=1e-4,
        atol=0,
    )


def test_the_error_is_that_of_networks_the_fit_had_not_seen(graph: ChannelGraph) -> None:
    widths = drawn(graph, 40)
    seconds = seconds_of(made_up(graph), graph, widths)
    for times in seconds.values():
        times[3::4] *= 1.25
    assert fit_latency(graph, widths, seconds, shape=(1, 3, 32, 32), device="").error == pytest.approx(0.2, rel=1e-3)


def test_a_wider_network_is_never_said_to_be_faster(graph: ChannelGraph) -> None:
    widths, noise = drawn(graph, 24), torch.Generator().manual_seed(2)
    seconds = {
        path: torch.rand(24, generator=noise, dtype=torch.float64) for path in latency_terms(graph, _paths(graph))
    }
    cost = CostModel(graph, latency=fit_latency(graph, widths, seconds, shape=(1, 3, 32, 32), device=""))
    wider = torch.minimum(widths + drawn(graph, 24), graph.full_widths)
    assert bool((cost.measure("latency", wider) >= cost.measure("latency", widths)).all())


def _paths(graph: ChannelGraph) -> tuple[str, ...]:
    return tuple(dict.fromkeys(layer.module for layer in graph.layers))


def test_files(graph: ChannelGraph) -> None:
    latency = made_up(graph)
    data = latency.to_json()
    assert Latency.from_json(data, "a file") == latency
    assert list(Latency.from_json(data, "a file").modules) == list(latency.modules)
    assert Latency.from_json(json.loads(json.dumps(data)), "a file") == latency
    for damaged in ({**data, "modules": 3}, {**data, "more": 1}, {"shape": [1]}, [], None):
        with pytest.raises(CorruptRun, match="those in a file do not fit"):
            Latency.from_json(damaged, "a file")


def test_the_times_of_another_network_are_refused(graph: ChannelGraph) -> None:
    for name in ("resnet32", "vgg16_bn"):  # the one has all modules of ResNet-20
        other = trace(build_model(name), torch.zeros(1, 3, 32, 32))
        with pytest.raises(SubnetMismatch, match="Measure its own"):
            CostModel(other, latency=made_up(graph))


def test_times_are_for_one_size_of_batch(graph: ChannelGraph) -> None:
    cost, space = CostModel(graph, latency=made_up(graph)), WidthSpace().of(graph)
    with pytest.raises(InvalidBudget, match="latency_batch=1"):
        Budget(latency=0.5, latency_batch=2).on(cost, space)


class Between(nn.Module):
    """Computes something itself after one of its modules, and before the next."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.weight = nn.Conv2d(3, 16, 1), nn.Parameter(torch.randn(24, 16, 1, 1))
        self.last = nn.Conv2d(24, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.nn.functional.conv2d(self.first(x).relu(), self.weight).relu()).mean((2, 3))


def test_what_a_module_computes_itself_counts_with_what_began_before(graph: ChannelGraph) -> None:
    own = trace(Between(), torch.zeros(1, 3, 4, 4))
    assert [layer.module for layer in own.layers] == ["first", "", "last"]
    widths = drawn(own, 40)
    inside = (widths[:, 0] * widths[:, 1]).double() * 1e-6
    seconds = {"": torch.full((40,), 1e-5).double(), "first": 1e-6 * widths[:, 0].double() + inside}
    seconds["last"] = 1e-6 * widths[:, 1].double()
    assert fit_latency(own, widths, seconds, shape=(1, 3, 4, 4), device="").error < 1e-6


def test_budgets(graph: ChannelGraph) -> None:
    cost, space = CostModel(graph, latency=made_up(graph)), WidthSpace().of(graph)
    full = cost.full["latency"]
    milliseconds = full / TICKS * 1000
    assert Budget(latency=0.5).on(cost, space).limits == {"latency": full // 2}
    absolute = Budget(latency_ms=0.45 * milliseconds).on(cost, space).limits["latency"]
    assert absolute == pytest.approx(0.45 * full, abs=2)
    both = Budget(latency=0.5, latency_ms=0.45 * milliseconds, macs=0.5).on(cost, space)
    assert both.limits == {"macs": cost.full["macs"] // 2, "latency": absolute}
    with pytest.raises(InvalidBudget, match=r"takes .* ms"):
        Budget(latency_ms=2 * milliseconds).on(cost, space)
    with pytest.raises(InvalidBudget, match="measure_latency"):
        Budget(latency=0.5).on(CostModel(graph), space)
    with pytest.raises(InfeasibleBudget, match=r"latency \(ms\)"):
        Budget(latency=1e-6).on(cost, space)


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency": 1.5},
        {"latency": 0},
        {"latency_ms": -1},
        {"latency": 0.5, "latency_batch": 0},
        {"latency": 0.5, "latency_batch": True},
    ],
)
def test_what_cannot_be_a_budget(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidBudget, match=list(wrong)[-1]):
        Budget(**wrong)  # type: ignore[arg-type]


def test_searchers_stay_within_it(graph: ChannelGraph) -> None:
    cost, space = CostModel(graph, latency=made_up(graph)), WidthSpace().of(graph)
    limits = Budget(latency=0.5).on(cost, space)
    searchers = (RandomRates(space, limits, max_rate=0.8, seed=0), Evolution(space, limits, seed=0))
    rows = torch.stack([uniform_widths(space, limits), *(searcher.ask() for searcher in searchers for _ in range(20))])
    used = limits.used(rows)
    assert float(used.max()) <= 1
    assert float(used.min()) > 0.98
