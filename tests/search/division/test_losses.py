"""The memory of stage losses: each evaluated once, written down, replayed, in an order that chance cannot change."""

import pytest
import torch
from search_memory import Memory
from stage_toys import Bench, Killed, Padded, Toy, arbitrary, toy

from widthwise.errors import CorruptRun, NonFiniteLoss, RunError
from widthwise.runs import Journal
from widthwise.search import StageLosses, StageProblem

GENES = [(0, (2, 1, 3)), (1, (6, 2, 4)), (0, (6, 3, 1)), (0, (2, 1, 3)), (2, (4, 9, 9))]


@pytest.fixture(scope="module")
def padded() -> Toy:
    return toy(Padded())


@pytest.fixture(scope="module")
def problem(padded: Toy) -> StageProblem:
    return padded.problem(macs=10**9)


def test_each_gene_is_evaluated_once_as_a_network_that_is_whole_elsewhere(problem: StageProblem) -> None:
    bench, log, batches = Bench(problem, arbitrary(problem, 0)), Memory(), []

    def evaluate(batch):
        batches.append([(stage, widths.tolist()) for stage, widths in batch])
        return bench(batch)

    losses = StageLosses(problem, evaluate, log)
    losses.ask(GENES)
    losses.ask(GENES[::-1])
    assert batches == [
        [
            (0, [2, 1, 3, 6, 6, 9, 9]),
            (1, [6, 3, 3, 2, 4, 9, 9]),
            (0, [6, 3, 1, 6, 6, 9, 9]),
            (2, [4, 3, 3, 6, 6, 9, 9]),
        ]
    ]
    assert [losses.count(stage) for stage in range(3)] == [2, 1, 1]
    assert len(bench.seen) == losses.total == len(log.events) == 4
    archive = losses.archive(0)
    assert archive.genes.tolist() == [[2, 1, 3], [6, 3, 1]]  # as asked, whatever came first
    assert archive.losses.tolist() == [losses.loss(0, (2, 1, 3)), losses.loss(0, (6, 3, 1))]
    assert archive.losses[0] == bench.loss(0, archive.genes[0])
    event = next(e for e in log.events if e["stage"] == 1)
    assert event == {
        "event": "stage_loss",
        "stage": 1,
        "widths": [6, 2, 4],
        "loss": losses.loss(1, (6, 2, 4)),
        "cost": {"macs": int(problem.cost(1, torch.tensor([[6, 3, 3, 2, 4, 9, 9]])).sum())},
        "seconds": event["seconds"],
    }


def test_what_the_journal_holds_is_not_evaluated_but_asked_for_again(problem: StageProblem, tmp_path) -> None:
    loss = arbitrary(problem, 0)
    with Journal.open(tmp_path / "journal.jsonl") as journal, pytest.raises(Killed):
        StageLosses(problem, Bench(problem, loss, die_after=2), journal).ask(GENES)
    with Journal.open(tmp_path / "journal.jsonl") as journal:
        bench = Bench(problem, loss)
        losses = StageLosses(problem, bench, journal)
        assert losses.total == 0
        losses.ask(GENES)
        assert len(bench.seen) == 2
        assert losses.archive(0).genes.tolist() == [[2, 1, 3], [6, 3, 1]]
    with Journal.open(tmp_path / "journal.jsonl") as journal:
        again = StageLosses(problem, Bench(problem, loss, die_after=0), journal)
        again.ask(GENES)
        assert again.loss(2, (4, 9, 9)) == losses.loss(2, (4, 9, 9))


def test_the_losses_of_a_network_ask_for_what_is_missing(problem: StageProblem) -> None:
    bench = Bench(problem, arbitrary(problem, 0))
    losses = StageLosses(problem, bench, Memory())
    losses.ask(GENES[:1])
    widths = torch.tensor([2, 1, 3, 4, 6, 3, 9])
    expected = [(0, (2, 1, 3)), (1, (2, 4, 6)), (2, (2, 3, 9))]  # a stage owns the stream and its own two
    assert losses.of(widths) == tuple(bench.loss(stage, torch.tensor(gene)) for stage, gene in expected)
    assert bench.batches == [1, 2]
    assert set(bench.seen) == set(expected)
    assert losses.of(widths) == tuple(losses.loss(*gene) for gene in expected)
    assert bench.batches == [1, 2]


@pytest.mark.parametrize(("most", "turns", "quota"), [(10, 1, 8), (10, 3, 3), (2, 5, 0), (1, 1, 0)])
def test_quotas_share_out_what_is_left_rounded_up(problem: StageProblem, most: int, turns: int, quota: int) -> None:
    losses = StageLosses(problem, Bench(problem, arbitrary(problem, 0)), Memory())
    losses.ask(GENES)
    assert losses.quota(0, most, turns) == quota


def test_progress_counts_the_batch(problem: StageProblem) -> None:
    told = []
    losses = StageLosses(
        problem, Bench(problem, arbitrary(problem, 0)), Memory(), on_loss=lambda *facts: told.append(facts)
    )
    losses.ask(GENES)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("answer", [[(0, 1.0)], [(0, 1.0), (0, 1.0)], [(0, 1.0), (2, 1.0)]])
def test_an_evaluator_that_answers_wrongly_is_refused(problem: StageProblem, answer) -> None:
    with pytest.raises(RunError, match="one loss"):
        StageLosses(problem, lambda batch: iter(answer), Memory()).ask(GENES[:2])


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_search(problem: StageProblem, loss: float) -> None:
    log = Memory()
    with pytest.raises(NonFiniteLoss, match="stage 0"):
        StageLosses(problem, lambda batch: iter([(0, loss)]), log).ask(GENES[:1])
    assert log.events == ()


@pytest.mark.parametrize(("stage", "widths"), [(0, [2, 1]), (3, [2]), (0, [2, 1, 4]), (-1, [2, 1, 3])])
def test_a_journal_of_another_problem_is_refused(problem: StageProblem, stage: int, widths: list[int]) -> None:
    event = {"event": "stage_loss", "stage": stage, "widths": widths, "loss": 0.5, "seconds": 0.1}
    with pytest.raises(CorruptRun, match="new folder"):
        StageLosses(problem, lambda batch: iter([]), Memory([event]))
