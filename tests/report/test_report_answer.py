"""What a report says first, of finished and of unfinished runs, and where they come from."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from report_runs import Cut, Make

from widthwise.errors import ConfigError
from widthwise.methods import RunRecord
from widthwise.report.data import read_runs, run_report, summarise
from widthwise.report.data.answer import answer_of
from widthwise.report.data.origin import command_line
from widthwise.report.data.summary import budget_in_words
from widthwise.report.sheets import comparison_sheet, figures_sheet, time_sheet
from widthwise.runs import RunFolder


def test_it_says_which_network_and_why(made: Make) -> None:
    run = made("fnnp")
    found = run_report(RunRecord.read(run.path))
    after = run.result.metrics["after"]
    kept = int(run.result.subnet.keep.sum())
    assert f"It keeps {kept} of 144 prunable channels" in found.answer.found
    assert f"right on {100 * (after.test_accuracy or 0):.2f}% of the test images" in found.answer.found
    assert "12 candidates within the budget were scored" in found.answer.why
    assert found.candidates is not None
    assert found.candidates.chosen is not None
    assert f"candidate {found.candidates.chosen.index}," in found.answer.why
    assert not found.answer.warnings


@pytest.mark.parametrize(
    ("name", "why", "note"),
    [
        ("l1", "Nothing was searched", "Latencies are medians"),
        ("joint", "Of 3 rounds", "its accuracy on them is no estimate"),
        ("stagewise", "the sum of their losses is smallest", "the full network inside the super-net as this method"),
        ("exploration", "24 sampled sub-networks in 4 steps", "Latencies are medians"),
    ],
)
def test_every_method_says_why(made: Make, name: str, why: str, note: str) -> None:
    answer = run_report(RunRecord.read(made(name).path)).answer
    assert why in answer.why
    assert any(note in text for text in answer.notes)


def test_a_search_that_was_too_short_is_told(made: Make) -> None:
    record = RunRecord.read(made("exploration").path)
    found = run_report(record)
    assert found.samples is not None
    for used, warned in ((186.0, True), (101.0, False)):
        samples = replace(found.samples, used=(190.0, used))
        answer = answer_of(record, found.summary, found.layers, None, None, samples)
        assert any(f"{used:.0f}% of the budget" in text for text in answer.warnings) == warned


@pytest.mark.parametrize(
    ("name", "events", "said"),
    [
        ("fnnp", 6, "5 candidates have been scored; the best so far is candidate"),
        ("joint", 1, "1 round has been scored"),
        ("stagewise", 20, "20 choices of widths were looked at"),
        ("exploration", 4, "width strategies"),
        ("exploration", 12, "sampled sub-network"),
        ("l1", 0, ""),
    ],
)
def test_unfinished_runs_say_how_far_they_came(cut: Cut, name: str, events: int, said: str) -> None:
    found = run_report(RunRecord.read(cut(name, events)))
    assert "not finished" in found.answer.found
    assert "“search”" in found.answer.found
    assert said in found.answer.why
    assert not found.summary.finished
    assert found.summary.macs is None
    assert found.layers is None
    assert found.summary.at_least
    assert dict(time_sheet(found.summary).rows)["search"] == "not over"
    if found.candidates is not None:
        assert found.candidates.chosen is None
        assert not found.candidates.finalists


def test_a_run_that_has_not_begun_says_so(cut: Cut) -> None:
    path = cut("l1", 0)
    header = (path / "journal.jsonl").read_text().splitlines(keepends=True)[0]
    (path / "journal.jsonl").write_text(header)
    found = run_report(RunRecord.read(path))
    assert "No phase has begun" in found.answer.found


def test_what_is_no_run_of_a_method_is_refused(tmp_path: Path) -> None:
    RunFolder.open(tmp_path / "study", {"settings": 1}).close()
    with pytest.raises(ConfigError, match="runs of a method"):
        read_runs([tmp_path / "study"])


def test_runs_are_called_by_what_tells_them_apart(made: Make, tmp_path: Path) -> None:
    for name in ("fnnp", "l1"):
        shutil.copytree(made(name).path, tmp_path / name / "seed-0")
    found = read_runs([tmp_path / "fnnp" / "seed-0", tmp_path / "l1" / "seed-0"])
    assert [run.summary.name for run in found] == ["fnnp/seed-0", "l1/seed-0"]
    assert [run.summary.name for run in read_runs([tmp_path / "l1" / "seed-0"])] == ["seed-0"]


def test_tables_mark_what_is_a_lower_bound_and_what_is_not_known(made: Make, cut: Cut) -> None:
    whole, broken = (summarise(RunRecord.read(path)) for path in (made("fnnp").path, cut("fnnp", 5)))
    sheet = comparison_sheet([whole, broken, replace(whole, name="killed", at_least=True)])
    column = {name: place for place, name in enumerate(sheet.head)}
    assert [row[column["run"]] for row in sheet.rows] == ["fnnp", "cut-fnnp", "killed"]
    assert [row[column["total time"]] for row in sheet.rows][1] == "unfinished"
    assert sheet.rows[1][column["MACs"]] == "\N{EN DASH}"
    assert sheet.rows[1][column["search"]] == "not over"
    assert not sheet.rows[0][column["search"]].startswith("≥")
    assert sheet.rows[2][column["search"]].startswith("≥ ")
    assert "budget" not in column  # the same of all
    assert all(len(row) == len(sheet.head) for row in sheet.rows)


def test_a_change_against_a_network_of_the_methods_own_has_a_dagger(made: Make) -> None:
    rows = comparison_sheet([summarise(RunRecord.read(made(name).path)) for name in ("fnnp", "joint")]).rows
    assert ["†" in "".join(row) for row in rows] == [False, True]


def test_the_table_of_figures_is_in_full(made: Make) -> None:
    run = made("fnnp")
    rows = {row[0]: row[1:] for row in figures_sheet(summarise(RunRecord.read(run.path))).rows}
    before, after = run.result.metrics["before"], run.result.metrics["after"]
    assert rows["Multiply-adds"][:2] == (f"{before.macs:,}", f"{after.macs:,}")
    assert rows["Parameters"][2] == f"\N{MINUS SIGN}{100 - 100 * after.params / before.params:.1f}%"
    assert rows["Latency, batch of 64"][0] == f"{before.latency_ms[64]:.2f} ms"


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (None, "none"),
        ({"macs": 0.35, "params": None}, "35% of the multiply-adds"),
        ({"macs": 2_000_000, "params": 0.5}, "2,000,000 multiply-adds and 50% of the parameters"),
        (
            {"params": 0.5, "latency": 0.4, "latency_ms": 12.5, "latency_batch": 8},
            "50% of the parameters and 40% of the time for a batch of 8 and 12.5 ms for a batch of 8",
        ),
    ],
)
def test_budgets_in_words(budget: dict[str, float] | None, words: str) -> None:
    assert budget_in_words(budget) == words


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["/opt/venv/bin/widthwise", "prune", "--run", "a b"], "widthwise prune --run 'a b'"),
        (["/opt/lib/widthwise/__main__.py", "prune"], "python -m widthwise prune"),
        (["/opt/lib/widthwise/cli.py", "prune"], "python -m widthwise prune"),
        (["make.py", "3"], "python make.py 3"),
        ([], "(not written down)"),
    ],
)
def test_commands_as_one_would_type_them(arguments: Sequence[str], line: str) -> None:
    assert command_line(arguments) == line


def test_seeds_and_data_of_a_run(made: Make) -> None:
    origin = run_report(RunRecord.read(made("joint").path)).origin
    assert origin.seeds["method.seed"] == origin.seeds["finetune.seed"] == 0
    assert sum(origin.data.values()) == 1797
    assert len(origin.starts) == 1
    assert "torch" in origin.starts[0].packages


@pytest.mark.parametrize(
    ("budget", "asked", "said"),
    [
        ({"macs": 0.5}, None, False),
        ({"latency": 0.5, "latency_batch": 8}, (8, 5.0), True),
        ({"latency": 0.9, "latency_ms": 4.0, "latency_batch": 8}, (8, 4.0), True),
        ({"latency": 0.6, "latency_batch": 8}, (8, 6.0), False),
        ({"latency": 0.1, "latency_batch": 64}, (64, 5.0), True),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else str(value),
)
def test_more_time_than_asked_for_is_said(
    made: Make, budget: dict[str, float], asked: tuple[int, float] | None, said: bool
) -> None:
    run = RunRecord.read(made("fnnp").path)
    assert run.result is not None
    result = {
        part: {**run.result[part], "latency_ms": times}
        for part, times in (("before", {"8": 10.0, "64": 50.0}), ("after", {"8": 6.0, "64": 10.0}))
    }
    changed = replace(run, config={**run.config, "budget": budget}, result={**run.result, **result})
    report = run_report(changed)
    assert report.summary.asked == (None if asked is None else (asked[0], pytest.approx(asked[1])))
    assert bool(report.answer.warnings) == said
    assert all(f"for a batch of {asked[0]}" in text for text in report.answer.warnings if asked)
