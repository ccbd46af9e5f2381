"""The experiments on stage-wise pruning from end to end with tiny sizes, cut off and resumed, and their arithmetic."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.experiments import Records
from benchmarks.stagewise.__main__ import main
from benchmarks.stagewise.bench import VARIANTS
from benchmarks.stagewise.cost import Subject, gene_times, work_ratio
from benchmarks.stagewise.jobs import Scratch, text
from benchmarks.stagewise.lab import Lab
from benchmarks.stagewise.parts import fixed_networks, mixed_networks
from benchmarks.stagewise.settings import SETTINGS, accelerator, cpu, tiny
from benchmarks.stagewise.summary import NETWORKS, ceiling, interval, summarise

from typecheck import annotations
from widthwise import CostModel, load_data
from widthwise.errors import ConfigError, RunMismatch
from widthwise.evaluate import kendall
from widthwise.runs import Journal, read_events


def silent(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every part, once."""
    folder = tmp_path_factory.mktemp("stagewise") / "run"
    with annotations(checked=False), pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "chained", {"chained": 20})
        main(["all", "--settings", "tiny", "--out", str(folder)])
    return folder


def results(run: Path) -> dict[str, dict]:  # type: ignore[type-arg]
    return {e["key"]: e["value"] for e in read_events(run / "journal.jsonl") if e["event"] == "result"}


def test_every_part_is_on_the_page(run: Path) -> None:
    page = (run / "stagewise_digits_net.md").read_text(encoding="utf-8")
    for title in ("super-net step costs", "Genes evaluated", "mixed budgets", "one budget", "Result at the budget"):
        assert title in page
    for title in ("knapsack and evolution", "Expected accuracy", "Teachers", "Predicted before the run", "Settings"):
        assert title in page
    names = {"ranking_mixed", "ranking_fixed", "expectation", "result"}
    assert {p.stem for p in (run / "figures").iterdir()} == {f"stagewise_digits_net_{name}" for name in names}


def test_no_job_is_done_twice_and_a_cut_journal_goes_on(run: Path, tmp_path: Path) -> None:
    events = read_events(run / "journal.jsonl")
    assert len({e["key"] for e in events}) == len(events)
    before = (run / "journal.jsonl").read_bytes()
    for part in ("division", "teachers"):
        main([part, "--settings", "tiny", "--out", str(run), "--docs", str(tmp_path)])
    assert (run / "journal.jsonl").read_bytes() == before
    cut = tmp_path / "cut"
    cut.mkdir()
    for name in ("config.json", "environment.json"):
        (cut / name).write_bytes((run / name).read_bytes())
    lines = before.splitlines(keepends=True)
    place = next(i for i, e in enumerate(events) if e["key"].startswith("judge/slimmable"))
    (cut / "journal.jsonl").write_bytes(b"".join(lines[: place + 1]) + lines[place + 1][:20])  # torn, no checkpoints
    main(["ranking", "--settings", "tiny", "--out", str(cut)])
    again, whole = results(cut), results(run)
    for key, value in again.items():
        if not key.startswith("cost/"):
            told = {k: v for k, v in value.items() if k != "seconds"}
            assert told == {k: v for k, v in whole[key].items() if k != "seconds"}, key


def test_the_folder_belongs_to_its_settings(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SETTINGS, "tiny", lambda: replace(tiny(), seed=1))
    with pytest.raises(RunMismatch):
        main(["result", "--settings", "tiny", "--out", str(run)])


def test_the_records_hold_what_the_page_says(run: Path) -> None:
    found = results(run)
    summary = summarise(found, resamples=20)
    assert [row["name"] for row in summary["result"]] == [*NETWORKS, "fnnp, fine-tuned"]
    for row in summary["result"][1:]:
        assert row["macs"] <= 0.5 * summary["result"][0]["macs"]
        assert len(row["test"]) == len(tiny().seeds)
    assert {row["name"] for row in summary["teachers"]} == {"inplace", "pretrained", "other", "no-small"}
    assert [len(rows) for rows in summary["division"].values()] == [2, 2]
    ranked = summary["ranking"]["fixed"]["rows"]
    assert len({row["macs"] for row in ranked} | {0}) > 1
    assert [len(row["test"]) for row in ranked] == [2, 2, 1]  # the first ones are trained again
    first = ranked[0]
    assert first["stagewise"] == pytest.approx(-sum(found[f"judge/stagewise/{text(first['widths'])}"]["losses"]))
    spaces = {(r["candidates"], r["own"]["macs"]) for r in summary["expectation"]}
    assert len(spaces) == 2
    assert len({r["common"]["macs"] for r in summary["expectation"]}) == 1


def lab(folder: Path, **change: object) -> Lab:
    settings = replace(tiny(), **change)  # type: ignore[arg-type]
    with Journal.open(folder / "journal.jsonl") as journal:
        return Lab(settings, load_data("digits"), folder, Records(journal, silent))


def test_networks_are_different_non_uniform_and_on_their_budgets(tmp_path: Path) -> None:
    few, many = lab(tmp_path / "a"), lab(tmp_path / "b", mixed=8, fixed=6)
    assert mixed_networks(many)[:3] == mixed_networks(few)
    assert fixed_networks(many)[:3] == fixed_networks(few)
    cost, full = many.bench.task.cost, many.bench.task.cost.full["macs"]
    shares = cost.macs(torch.tensor(mixed_networks(many))).double() / full
    assert 0.14 < float(shares.min()) < 0.35
    assert 0.7 < float(shares.max()) <= 0.9
    fixed = torch.tensor(fixed_networks(many))
    of_budget = cost.macs(fixed).double() / full
    assert bool((of_budget <= 0.5).all() & (of_budget > 0.47).all())
    ratios = fixed.double() / many.bench.task.space.full
    assert float(ratios[0].amax() - ratios[0].amin()) < 0.1
    assert float((ratios[1:].amax(1) - ratios[1:].amin(1)).max()) > 0.4
    assert len(set(fixed_networks(many))) == 6


def test_workers_find_what_one_process_finds(run: Path, tmp_path: Path) -> None:
    job = Scratch(fixed_networks(lab(tmp_path / "a"))[0], 0)
    with Journal.open(tmp_path / "b" / "journal.jsonl") as journal:
        made = Lab(replace(tiny(), workers=1), load_data("digits"), tmp_path / "b", Records(journal, silent))
        (value,) = made.run([job])
    expected = results(run)[job.key]
    assert {k: v for k, v in value.items() if k != "seconds"} == {k: v for k, v in expected.items() if k != "seconds"}


def test_copies_give_the_losses_of_slices_and_work_is_counted() -> None:
    subject = Subject.build("resnet20", 16, 4, "fp32")
    assert gene_times(subject, 1)["gap"] < 1e-5
    graph = subject.objective.network.graph
    full = graph.subnet()
    adapters = 16 * 16 * 16**2 + 8 * 8 * 32**2 + 4 * 4 * 64**2
    smallest = subject.objective.sampler.smallest
    macs = CostModel(graph).macs
    ratio = work_ratio(subject, full)
    head = 64 * 10  # no stage runs the classifier
    kept = graph.widths(smallest)[0]
    few = 16 * 16 * 16 * int(kept) + 8 * 8 * 32 * (16 + int(kept)) + 4 * 4 * 64 * (48 + int(kept))
    expected = (2 * macs(full) - head + adapters + macs(smallest) - head + few) / (2 * macs(full) + macs(smallest))
    assert ratio == pytest.approx(expected, rel=1e-3)


def test_the_ceiling_is_the_tau_of_the_truth() -> None:
    generator = np.random.default_rng(1)
    true = generator.normal(0.8, 0.02, size=60)
    measured = [[float(t + generator.normal(0, 0.01)) for _ in range(2)] for t in true]
    found = ceiling(measured)
    assert found is not None
    assert found["deviation"] == pytest.approx(0.01, rel=0.25)
    assert found["kendall"] == pytest.approx(kendall(true, [float(np.mean(m)) for m in measured]), abs=0.07)
    assert ceiling([[0.5], [0.6]]) is None
    alike = ceiling([[0.5, 0.6], [0.6, 0.5]])
    assert alike is not None
    assert alike["kendall"] == 0  # nothing but noise


def test_the_interval_is_students() -> None:
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert half == pytest.approx(4.30265 / math.sqrt(3), rel=1e-5)
    assert math.isnan(interval([1.0])[1])


def test_settings_are_checked_and_named() -> None:
    assert set(SETTINGS) == {"cpu", "accelerator", "tiny"}
    for settings in (cpu(), accelerator()):
        assert settings.mixed >= 20
        assert settings.fixed >= 12
        assert settings.mixed_again >= 2
        assert len(settings.seeds) >= 3
        assert settings.single_pass.epochs == settings.passes * settings.supernet.epochs
    with pytest.raises(ConfigError, match="range"):
        replace(tiny(), range=(0.9, 0.1))
