"""Rows of the comparison, and the goal that they are held against."""

from dataclasses import replace

import pytest
from benchmarks.peers.checks import checks_of
from benchmarks.peers.rows import Row, Summary, row_of, summaries
from benchmarks.peers.variants import VARIANTS
from benchmarks.report import Check
from made_rows import OURS, ROW, rows_of, value_of

from widthwise.methods import METHODS


def test_rows_are_grouped_by_budget_and_the_best_comes_first() -> None:
    low = rows_of("widthwise/l1", 0.7, 0.8)
    found = summaries([*low, ROW, replace(ROW, budget=0.3, test=None)])
    assert list(found) == [0.5, 0.3]
    assert [summary.name for summary in found[0.5]] == ["Widthwise FNNP", "uniform width, L1"]
    assert found[0.5][1].mean("test") == pytest.approx(0.75)
    assert found[0.5][1].spread("test") == pytest.approx(0.5**0.5 / 10)
    assert found[0.5][0].spread("test") is None, "one seed"
    assert (found[0.3][0].metric, found[0.3][0].score) == ("val", 0.9)
    assert ROW.seconds == 30.0


def test_the_command_of_a_row_names_all_but_the_paths() -> None:
    rows = rows_of("widthwise/joint", 0.7, 0.8, budget=0.3, model="resnet56")
    start = "python -m benchmarks.peers run --settings cpu --model resnet56 --only full widthwise/joint"
    assert Summary(tuple(rows)).command == f"{start} --budgets 0.3 --seeds 0 1 --data DATA --weights WEIGHTS"
    afresh = tuple(replace(row, weights=False) for row in rows)
    assert Summary(afresh).command == f"{start} --budgets 0.3 --seeds 0 1 --data DATA"


def test_kinds_are_methods_baselines_and_peers() -> None:
    of = {kind: {n for n, v in VARIANTS.items() if v.kind == kind} for kind in ("method", "baseline", "peer")}
    again = {f"widthwise/{name}/reconstructed" for name in ("fnnp", "exploration", "l1", "shared", "balanced")}
    again |= {"widthwise/fnnp/balanced", "widthwise/fnnp/balanced/reconstructed"}
    assert of["method"] - again == {f"widthwise/{name}" for name in METHODS}
    assert (of["method"] | of["baseline"]) - again == {f"widthwise/{name}" for name in OURS}
    assert {VARIANTS[name].tool for name in of["peer"]} == {"torch_pruning", "fastnas", "none"}
    row = row_of(value_of("widthwise/random", 0), "digits_net", weights=False)
    assert row is not None
    assert row.kind == "baseline"
    assert row_of(value_of("full", 0), "digits_net", weights=False) is None


def _goal(*rows: Row) -> list[Check]:
    checks = checks_of(summaries(rows), None)
    return [check for check in checks if check.prediction.startswith("goal")]


FNNP = rows_of("widthwise/fnnp", 0.90, 0.91)
AHEAD = rows_of("torch_pruning/l1/local", 0.80, 0.81, search_seconds=11.0)


def test_the_goal_is_ahead_of_every_peer_and_faster() -> None:
    accuracy, time = _goal(*FNNP, *AHEAD)
    assert accuracy.held
    assert "Widthwise FNNP +10.00 points beside Torch-Pruning L1, local, the nearest" in accuracy.measured
    assert "spread is 0.71" in accuracy.measured
    assert time.held
    assert time.measured == "Widthwise FNNP 30 s, Torch-Pruning L1, local 31 s"


def test_the_goal_needs_a_method_and_a_peer() -> None:
    assert not _goal(*rows_of("widthwise/l1", 0.98, 0.99), *AHEAD)
    assert not _goal(*FNNP)
    better_baseline = rows_of("widthwise/l1", 0.98, 0.99)
    assert "Widthwise FNNP" in _goal(*better_baseline, *FNNP, *AHEAD)[0].measured


def test_the_goal_needs_two_seeds_of_each() -> None:
    assert not _goal(FNNP[0], *AHEAD)
    assert not _goal(*FNNP, AHEAD[0])
    assert not _goal(*FNNP, *AHEAD, *rows_of("fastnas/8", 0.5))


def test_the_goal_is_missed_at_a_second_peer_whose_spread_is_wide() -> None:
    """The best peer is beaten; one with a lower mean is not, by the spread."""
    wide = rows_of("fastnas/8", 0.60, 0.95)
    accuracy, _ = _goal(*FNNP, *AHEAD, *wide)
    assert not accuracy.held
    assert "beside FastNAS, divisor 8, the nearest; the larger spread is 24.75" in accuracy.measured
    assert accuracy.measured.endswith("not ahead of FastNAS, divisor 8")


def test_the_spread_is_that_of_what_is_scored() -> None:
    """Without test images the validation accuracy, here with a spread that the (absent) test accuracy has not."""
    ours = [replace(row, test=None, val=val) for row, val in zip(FNNP, (0.85, 0.95), strict=True)]
    theirs = [replace(row, test=None, val=0.85) for row in AHEAD]
    accuracy, _ = _goal(*ours, *theirs)
    assert "the larger spread is 7.07" in accuracy.measured
    assert not accuracy.held


def test_the_time_is_compared_with_every_peer() -> None:
    fast = rows_of("torch_pruning/taylor/local", 0.5, 0.5, search_seconds=1.0)
    _, time = _goal(*FNNP, *AHEAD, *fast)
    assert not time.held
    assert time.measured == "Widthwise FNNP 30 s, Torch-Pruning Taylor, local 21 s"


def test_reconstruction_is_held_against_the_same_without() -> None:
    fitted = rows_of("widthwise/fnnp/reconstructed", 0.91, 0.915)
    checks = [c for c in checks_of(summaries((*FNNP, *fitted, *AHEAD)), None) if "reconstruction" in c.prediction]
    assert [(c.prediction, c.measured, c.held) for c in checks] == [
        ("reconstruction helps Widthwise FNNP after fine-tuning too (50%)", "+0.75 points", True)
    ]
