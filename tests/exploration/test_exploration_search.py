"""The search on a network: losses of samples, workers, kills, another evaluator."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import widthwise
from widthwise import Budget, CostModel, Subnet, WidthSpace, load_data, trace
from widthwise.errors import CorruptRun
from widthwise.evaluate.modes import normalising_by_batch
from widthwise.exploration import ExplorationEstimation, ExplorationSettings, SampleLosses, explore_and_estimate
from widthwise.methods.evaluators import AdaptiveBN, inherited
from widthwise.parallel import ParallelConfig, workers
from widthwise.runs import Journal

SETTINGS = ExplorationSettings(samples=3, resamplings=1, lr=0.01)


@pytest.fixture(scope="module")
def parts():  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    data, model = load_data("digits"), widthwise.build_model("digits_net").eval()
    graph = trace(model, data.example())
    space = WidthSpace().of(graph)
    return data, model, graph, space, Budget(macs=0.5).on(CostModel(graph), space)


def run(parts, log: Journal, *, steps: int = 6, count: int = 0) -> Subnet:  # type: ignore[no-untyped-def]
    data, model, graph, space, limits = parts
    judge = SampleLosses(model, graph, data.train.subset(200, seed=0), 64, seed=1)
    searcher = ExplorationEstimation(space, limits, SETTINGS, seed=0)
    with workers(ParallelConfig(workers=count), judge) as pool:
        return explore_and_estimate(searcher, pool.map, log, steps=steps, batches=4, workers=count)


@pytest.mark.parametrize("statistics", ["batch", "global"])
def test_a_loss_is_that_of_the_gated_network_on_the_batch(parts, statistics) -> None:  # type: ignore[no-untyped-def]
    data, model, graph, *_ = parts
    images = data.train.subset(200, seed=0)
    evaluate = SampleLosses(model, graph, images, 64, seed=5, statistics=statistics)()
    generator = torch.Generator().manual_seed(0)
    keeps = torch.rand(3, graph.num_channels, generator=generator) < 0.7
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for epoch, index in ((0, 0), (0, 2), (1, 1), (0, 1)):
        batches = list(images.batches(64, seed=5 + epoch))
        x, labels = batches[index]
        for keep, (loss, accuracy) in zip(keeps, evaluate((epoch, index, keeps)), strict=True):
            with torch.no_grad():
                if statistics == "batch":
                    small = widthwise.materialize(model, graph, Subnet(keep))
                    with normalising_by_batch(small):
                        logits = small(x)
                else:
                    logits = widthwise.gated(model, graph, keep.float())(x)
            assert loss == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-4)
            assert accuracy == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_workers_and_kills_do_not_change_the_result(parts, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with Journal.open(tmp_path / "a.jsonl") as log:
        whole = run(parts, log)
        sets = [event for event in log.events if event["event"] == "samples"]
        shown = [event["step"] for event in log.events if event["event"] == "probabilities"]
    assert len(sets) == 6 * 2
    assert shown == list(range(7))
    lines = (tmp_path / "a.jsonl").read_text().splitlines(keepends=True)
    for name, keep, count in (("b", 3, 0), ("c", 9, 2), ("d", len(lines), 0)):
        (tmp_path / f"{name}.jsonl").write_text("".join(lines[:keep]))
        with Journal.open(tmp_path / f"{name}.jsonl") as log:
            assert run(parts, log, count=count) == whole
            assert [event for event in log.events if event["event"] == "samples"] == sets
            assert [event["step"] for event in log.events if event["event"] == "probabilities"] == shown


def test_the_log_of_another_search_is_refused(parts, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with Journal.open(tmp_path / "a.jsonl") as log:
        log.append({"event": "samples", "step": 0, "digest": 1, "losses": [1.0] * 3, "accuracies": [0.1] * 3})
        with pytest.raises(CorruptRun, match="new folder"):
            run(parts, log)


def test_it_runs_with_another_evaluator(parts) -> None:  # type: ignore[no-untyped-def]
    data, model, graph, space, limits = parts
    judge = AdaptiveBN(inherited(model, graph), data.train.subset(64, seed=0), data.val.subset(64, seed=0))
    searcher = ExplorationEstimation(space, limits, SETTINGS, seed=0)
    for _ in range(2 * (SETTINGS.resamplings + 1)):
        for subnet in [searcher.ask() for _ in range(SETTINGS.samples)]:
            searcher.tell(subnet, judge(subnet))
    assert searcher.steps == 2
    assert bool(limits.met(graph.widths(searcher.found())[None])[0])
