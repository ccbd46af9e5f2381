"""Random networks: whatever is offered for pruning can be pruned, or the trace says why not. Never a wrong network."""

import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import oracle
import widthwise
from random_networks import RandomNet, Spec, specs
from widthwise.errors import NothingToPrune, UntraceableModel

TALLY = {"networks": 0, "prunable": 0, "subnets": 0}


def check_network(spec: Spec, head: int, seed: int) -> None:
    torch.manual_seed(seed)
    model = oracle.randomise(RandomNet(spec, head).double(), seed)
    example = RandomNet.example().double()
    TALLY["networks"] += 1
    try:
        graph = widthwise.trace(model, example)
    except (UntraceableModel, NothingToPrune):
        return
    if not graph.num_channels:
        return
    TALLY["prunable"] += 1
    keeps = [oracle.random_keep(graph, seed), oracle.random_keep(graph, seed + 1)]
    keeps += [keep for _, keep in list(oracle.edge_keeps(graph, seed))[:5]]
    for keep in keeps:
        TALLY["subnets"] += 1
        oracle.check_subnet(model, graph, keep, example, 1e-9)


arguments = given(spec=specs, head=st.integers(0, 2), seed=st.integers(0, 3))
common = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck), "database": None}


@settings(max_examples=40, **common)
@arguments
def test_random_networks_are_exact_or_refused(spec: Spec, head: int, seed: int) -> None:
    check_network(spec, head, seed)


@pytest.mark.slow
@settings(max_examples=int(os.environ.get("WIDTHWISE_RANDOM_NETWORKS", "1500")), **common)
@arguments
def test_many_random_networks_are_exact_or_refused(spec: Spec, head: int, seed: int) -> None:
    check_network(spec, head, seed)
