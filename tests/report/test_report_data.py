"""The numbers of a report, recomputed from the runs they are about."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from report_runs import Made, Make

import widthwise
from widthwise.errors import ConfigError, CorruptRun
from widthwise.methods import RunRecord
from widthwise.report.data import (
    Candidate,
    RunReport,
    candidates_of,
    curves_of,
    division_of,
    layers_of,
    policy_of,
    probabilities_of,
    read_runs,
    run_report,
    samples_of,
    summarise,
)


def read(run: Made) -> RunRecord:
    return RunRecord.read(run.path)


@pytest.mark.parametrize("name", ["fnnp", "l1", "stagewise", "joint", "exploration"])
def test_the_summary_has_the_figures_of_the_result(made: Make, name: str) -> None:
    run = made(name)
    before, after = run.result.metrics["before"], run.result.metrics["after"]
    summary = summarise(read(run))
    assert (summary.name, summary.model, summary.data, summary.finished) == (name, "DigitsNet", "digits", True)
    assert summary.budget == "50% of the multiply-adds"
    assert summary.macs is not None
    assert summary.params is not None
    assert summary.val is not None
    assert summary.test is not None
    assert summary.macs.dropped == 1 - after.macs / before.macs
    assert (summary.params.before, summary.params.after) == (before.params, after.params)
    assert summary.val.gain == pytest.approx(100 * (after.val_accuracy - before.val_accuracy))
    assert summary.test.after == pytest.approx(100 * (after.test_accuracy or 0))
    assert list(summary.latency) == [1, 64]
    assert summary.latency[64].speedup == before.latency_ms[64] / after.latency_ms[64]
    assert summary.total == pytest.approx(sum(read(run).seconds.values()))
    assert not summary.at_least
    within = {"stagewise": ["supernet"], "joint": ["coarse"]}.get(name, [])
    assert list(summary.within) == within
    assert all(0 < seconds < summary.seconds["search"] for seconds in summary.within.values())


@pytest.mark.parametrize("name", ["fnnp", "joint"])
def test_widths_and_macs_are_those_of_the_network_that_was_saved(made: Make, name: str) -> None:
    run, layers = made(name), layers_of(read(made(name)))
    assert layers is not None
    small = widthwise.load(run.path)
    graph = widthwise.trace(small, torch.zeros(1, 1, 8, 8))
    assert [row.after for row in layers.groups] == graph.full_widths.tolist()
    assert [row.before for row in layers.groups] == run.result.graph.full_widths.tolist()
    assert [(row.name, row.after) for row in layers.macs] == widthwise.CostModel(graph).per_layer(graph.subnet())
    assert sum(row.before for row in layers.macs) == run.result.metrics["before"].macs


def test_a_checkpoint_that_a_running_search_deletes_is_passed_over(
    made: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(made("fnnp").path, tmp_path / "run"))
    going = run / "checkpoints" / "round-3-network.pt"
    going.touch()
    with pytest.raises(CorruptRun, match="round-3"):
        assert RunRecord.read(run).trainings
    listed = sorted((run / "checkpoints").glob("*.pt"))
    going.unlink()
    monkeypatch.setattr(Path, "glob", lambda self, pattern: listed)
    assert RunRecord.read(run).trainings == read(made("fnnp")).trainings


def test_a_checkpoint_that_is_being_written_is_none(made: Make, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made("fnnp").path, tmp_path / "run"))
    (run / "checkpoints" / ".finalist-1.77.tmp.pt").touch()
    assert RunRecord.read(run).trainings == read(made("fnnp")).trainings


def test_whose_figures_those_before_are_is_known_without_checkpoints(made: Make, tmp_path: Path) -> None:
    for name, parent in (("stagewise", "supernet"), ("joint", "coarse"), ("fnnp", None)):
        run = Path(shutil.copytree(made(name).path, tmp_path / name))
        shutil.rmtree(run / "checkpoints")
        assert RunRecord.read(run).parent == parent


def test_candidates_have_their_scores_costs_front_and_end(made: Make) -> None:
    run, record = made("fnnp"), read(made("fnnp"))
    candidates = candidates_of(record)
    assert candidates is not None
    cost = widthwise.CostModel(run.result.graph)
    events = record.of("trial")
    assert [c.score for c in candidates.items] == [100 * e["score"] for e in events]
    widths = torch.tensor([e["widths"] for e in events])
    assert [c.macs for c in candidates.items] == cost.macs(widths).tolist()
    assert [c.params for c in candidates.items] == cost.params(widths).tolist()
    assert candidates.metric == "params"  # the budget is on the multiply-adds, which are nearly the same of all
    assert candidates.limits == {"macs": run.result.metrics["before"].macs / 2}
    assert candidates.best == tuple(np.maximum.accumulate([c.score for c in candidates.items]).tolist())
    ranked = list(dict.fromkeys(c.widths for c in sorted(candidates.items, key=lambda c: (-c.score, c.index))))
    assert [c.widths for c in candidates.finalists] == ranked[:2]
    reached = [record.trainings[f"finalist-{place}"].val_accuracy for place in (1, 2)]
    assert [c.trained for c in candidates.finalists] == [100 * (accuracy or 0) for accuracy in reached]
    assert candidates.chosen is not None
    assert candidates.chosen.widths == tuple(run.result.graph.widths(run.result.subnet).tolist())
    assert candidates.chosen.trained == max(c.trained or 0 for c in candidates.finalists)


def beaten(c: Candidate, others: tuple[Candidate, ...]) -> bool:
    assert c.params is not None
    mine = (c.params, -c.score)
    return any(
        o.params is not None and o.params <= mine[0] and -o.score <= mine[1] and (o.params, -o.score) != mine
        for o in others
    )


@pytest.mark.parametrize("name", ["fnnp", "joint"])
def test_nothing_beats_the_front(made: Make, name: str) -> None:
    candidates = candidates_of(read(made(name)))
    assert candidates is not None
    assert candidates.metric == "params"
    fronts = [c for c in candidates.items if c.front]
    assert fronts
    for c in candidates.items:
        same = any((c.params, c.score) == (f.params, f.score) for f in fronts)
        assert same == (not beaten(c, candidates.items))


def test_rounds_of_joint_and_the_policy(made: Make) -> None:
    record = read(made("joint"))
    candidates, policy = candidates_of(record), policy_of(record)
    assert candidates is not None
    assert policy is not None
    rounds = record.of("round")
    assert [(c.index, c.score, c.macs) for c in candidates.items] == [
        (e["index"], 100 * e["accuracy"], e["macs"]) for e in rounds
    ]
    assert candidates.chosen is not None
    assert candidates.chosen.index == max(rounds, key=lambda e: e["accuracy"])["index"]
    assert policy.rounds == (0, 1, 2)
    assert policy.reward == tuple(e["reward"] for e in rounds)


def test_box_plots_are_quantiles_of_the_channels_of_each_group(made: Make) -> None:
    run, record = made("exploration"), read(made("exploration"))
    found = probabilities_of(record)
    assert found is not None
    events = {e["step"]: torch.tensor(e["p"], dtype=torch.float64) for e in record.of("probabilities")}
    assert [s.step for s in found.snapshots] == [0, 2, 4]
    for snapshot in found.snapshots:
        for group, box in zip(run.result.graph.prunable, snapshot.boxes, strict=True):
            p = events[snapshot.step][group.ids]
            five = torch.quantile(p, torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64)).tolist()
            assert [box.least, box.lower, box.median, box.upper, box.most] == pytest.approx(five)
            assert box.likely == int((p > 0.5).sum())
    assert found.groups == tuple(group.name for group in run.result.graph.prunable)


def test_samples_are_means_of_each_step(made: Make) -> None:
    record = read(made("exploration"))
    found = samples_of(record)
    assert found is not None
    sets = record.of("samples")
    assert found.count == sum(len(e["losses"]) for e in sets) == 4 * 2 * 3
    assert found.steps == (0, 1, 2, 3)
    for step, loss, accuracy in zip(found.steps, found.loss, found.accuracy, strict=True):
        mine = [e for e in sets if e["step"] == step]
        assert loss == pytest.approx(np.mean([e["losses"] for e in mine]))
        assert accuracy == pytest.approx(100 * np.mean([e["accuracies"] for e in mine]))
    records = {e["step"]: e["record"] for e in record.of("probabilities") if e["record"]}
    assert found.used == tuple(100 * records[step]["used"] for step in found.shown)


def test_stages_add_up_to_the_network(made: Make) -> None:
    run, record = made("stagewise"), read(made("stagewise"))
    division = division_of(record)
    assert division is not None
    (end,) = record.of("division")
    before, after = run.result.metrics["before"], run.result.metrics["after"]
    assert [stage.name for stage in division.stages] == ["block1", "block2"]
    assert sum(stage.before or 0 for stage in division.stages) == before.macs
    assert sum(stage.after or 0 for stage in division.stages) == after.macs
    assert division.looked_at == len(record.of("stage_loss"))
    assert [stage.loss for stage in division.stages] == pytest.approx(end["chosen"]["losses"])
    assert division.loss == pytest.approx(sum(end["found"]["losses"]))
    for stage in division.stages:
        (chosen,) = [gene for gene in stage.genes if gene.chosen]
        assert chosen.loss == pytest.approx(stage.loss)
        costs = np.array([gene.cost for gene in stage.genes])
        losses = np.array([gene.loss for gene in stage.genes])
        for gene, cost, loss in zip(stage.genes, costs, losses, strict=True):
            better = (costs <= cost) & (losses <= loss) & ((costs < cost) | (losses < loss))
            assert gene.front <= (not better.any())
        assert {(g.cost, g.loss) for g in stage.genes if g.front}


def test_curves_are_the_histories(made: Make) -> None:
    record = read(made("stagewise"))
    curves = {curve.name: curve for curve in curves_of(record)}
    assert list(curves) == ["supernet", "finalist-1"]
    for name, curve in curves.items():
        epochs = record.trainings[name].epochs
        assert curve.loss == tuple(epoch.train_loss for epoch in epochs)
        assert curve.val == tuple(100 * (epoch.val_accuracy or 0) for epoch in epochs)
    assert set(curves["supernet"].parts) == {"task", "block1", "block2"}
    assert [curve.name for curve in curves_of(read(made("joint")))] == ["coarse", "finalist-1"]  # joint.pt is none


def test_nothing_is_there_that_a_method_does_not_have(made: Make) -> None:
    found: RunReport = run_report(read(made("l1")))
    assert (found.candidates, found.division, found.probabilities, found.samples, found.policy) == (None,) * 5


def test_runs_are_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one or more runs"):
        read_runs([])
    with pytest.raises(CorruptRun, match="journal"):
        read_runs([tmp_path])
