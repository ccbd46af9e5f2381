"""The comparison with the peers: its parts, its page from made-up rows, and every tool with tiny sizes."""

import json
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from benchmarks.measure import count_macs
from benchmarks.peers.__main__ import identity_of, main
from benchmarks.peers.bisection import bisect
from benchmarks.peers.checks import checks_of
from benchmarks.peers.child import outcome_of
from benchmarks.peers.lines import count_lines
from benchmarks.peers.measured import _joined
from benchmarks.peers.ours import keeps_weights, method_of
from benchmarks.peers.page import write
from benchmarks.peers.processes import interpreters, run
from benchmarks.peers.rows import Row, Summary, row_of, summaries
from benchmarks.peers.settings import SETTINGS, cpu, tiny
from benchmarks.peers.task import Job, Task
from benchmarks.peers.variants import TOOLS, VARIANTS, chosen
from benchmarks.report import Check
from safetensors.torch import save_file
from torch import Tensor, nn

from widthwise import build_model, load_data
from widthwise.errors import ConfigError, CorruptRun, RunMismatch
from widthwise.methods import METHODS
from widthwise.runs import RunFolder, read_events, read_json

ROW = Row(
    **{"variant": "widthwise/fnnp", "kind": "method", "settings": "cpu", "model": "resnet20", "weights": True},
    **{"budget": 0.5, "seed": 0, "macs": 500, "params": 40, "val": 0.9, "test": 0.88, "left": 0.1, "adapted": 0.5},
    **{"search_seconds": 10.0, "finetune_seconds": 20.0, "memory_mib": 800.0, "lines": 5},
)

TASK = Task(
    **{"tool": "none", "options": {}, "lines": 0, "share": 0.5, "seed": 1, "named": "tiny", "model": "digits_net"},
    **{"data": "digits", "weights": None, "folder": "somewhere"},
)

OURS = (
    *("fnnp", "stagewise", "joint", "exploration"),
    *("uniform", "l1", "shared", "balanced", "geometric_median", "bn_scale", "random"),
)


# -- bisection


def _steps(limit: int, widest: int = 100, least: int = 1) -> tuple[nn.Module | None, float]:
    def prune(ratio: float) -> nn.Module:
        return nn.Linear(1, max(least, int(widest * (1 - ratio))))

    return bisect(prune, lambda model: int(model.out_features), limit)  # type: ignore[call-overload]


@pytest.mark.parametrize("limit", [1, 2, 37, 50, 99])
def test_bisection_ends_at_the_limit_where_steps_are_of_one(limit: int) -> None:
    found, ratio = _steps(limit)
    assert found is not None
    assert found.out_features == limit
    assert int(100 * (1 - ratio)) == limit


def test_bisection_stays_below_the_limit_where_the_tool_takes_larger_steps() -> None:
    def prune(ratio: float) -> nn.Module:
        return nn.Linear(1, max(1, 16 * int(8 * (1 - ratio))))

    found, _ = bisect(prune, lambda model: int(model.out_features), 60)  # type: ignore[call-overload]
    assert found is not None
    assert found.out_features == 48


def test_bisection_says_where_nothing_meets_the_limit() -> None:
    assert _steps(5, least=6)[0] is None


# -- lines


SOURCE = '''
"""Not counted."""
import tool  # user code
import other
import special  # user code: special

# user code
def prune(model):
    """Neither is this.

    Nor this.
    """
    # a comment

    pruner = tool.Pruner(
        model,
    )
    return """a
    value"""
# end of user code
not_counted = 1
# user code: special
special.treat(model)
# end of user code
'''


def test_lines_are_those_with_code_between_the_markers() -> None:
    assert count_lines(SOURCE) == 1 + 1 + 3 + 2
    assert count_lines(SOURCE, {"special"}) == 7 + 2
    assert count_lines(SOURCE, {"unknown"}) == 7


@pytest.mark.parametrize(
    "source", ["# user code\nx = 1\n", "x = 1\n# end of user code\n", "# user code\n# user code\n# end of user code\n"]
)
def test_markers_that_do_not_pair_are_refused(source: str) -> None:
    with pytest.raises(ConfigError, match="line"):
        count_lines(source)


def test_every_way_to_use_a_tool_has_its_lines() -> None:
    lines = {name: variant.lines for name, variant in VARIANTS.items() if variant.tool != "none"}
    assert min(lines.values()) > 0
    assert lines["torch_pruning/taylor/local"] > lines["torch_pruning/l1/local"]
    assert lines["torch_pruning/l1/local/padded"] < lines["torch_pruning/l1/local"]
    assert lines["torch_pruning/l1/local"] < lines["torch_pruning/l1/local/convolved"]


# -- rows and page


def _rows(variant: str, *tests: float | None, **changes: Any) -> list[Row]:
    """One for each seed; all of the validation accuracy 0.9."""
    kind = VARIANTS[variant].kind
    return [replace(ROW, variant=variant, kind=kind, seed=s, test=t, **changes) for s, t in enumerate(tests)]


def test_rows_are_grouped_by_budget_and_the_best_comes_first() -> None:
    low = _rows("widthwise/l1", 0.7, 0.8)
    found = summaries([*low, ROW, replace(ROW, budget=0.3, test=None)])
    assert list(found) == [0.5, 0.3]
    assert [summary.name for summary in found[0.5]] == ["Widthwise FNNP", "uniform width, L1"]
    assert found[0.5][1].mean("test") == pytest.approx(0.75)
    assert found[0.5][1].spread("test") == pytest.approx(0.5**0.5 / 10)
    assert found[0.5][0].spread("test") is None, "one seed"
    assert (found[0.3][0].metric, found[0.3][0].score) == ("val", 0.9)
    assert ROW.seconds == 30.0


def test_the_command_of_a_row_names_all_but_the_paths() -> None:
    rows = _rows("widthwise/joint", 0.7, 0.8, budget=0.3, model="resnet56")
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
    row = row_of(_value("widthwise/random", 0), "digits_net", weights=False)
    assert row is not None
    assert row.kind == "baseline"
    assert row_of(_value("full", 0), "digits_net", weights=False) is None


# -- the goal


def _goal(*rows: Row) -> list[Check]:
    checks = checks_of(summaries(rows), None)
    return [check for check in checks if check.prediction.startswith("goal")]


FNNP = _rows("widthwise/fnnp", 0.90, 0.91)
AHEAD = _rows("torch_pruning/l1/local", 0.80, 0.81, search_seconds=11.0)


def test_the_goal_is_ahead_of_every_peer_and_faster() -> None:
    accuracy, time = _goal(*FNNP, *AHEAD)
    assert accuracy.held
    assert "Widthwise FNNP +10.00 points beside Torch-Pruning L1, local, the nearest" in accuracy.measured
    assert "spread is 0.71" in accuracy.measured
    assert time.held
    assert time.measured == "Widthwise FNNP 30 s, Torch-Pruning L1, local 31 s"


def test_the_goal_needs_a_method_and_a_peer() -> None:
    assert not _goal(*_rows("widthwise/l1", 0.98, 0.99), *AHEAD)
    assert not _goal(*FNNP)
    better_baseline = _rows("widthwise/l1", 0.98, 0.99)
    assert "Widthwise FNNP" in _goal(*better_baseline, *FNNP, *AHEAD)[0].measured


def test_the_goal_needs_two_seeds_of_each() -> None:
    assert not _goal(FNNP[0], *AHEAD)
    assert not _goal(*FNNP, AHEAD[0])
    assert not _goal(*FNNP, *AHEAD, *_rows("fastnas/8", 0.5))


def test_the_goal_is_missed_at_a_second_peer_whose_spread_is_wide() -> None:
    """The best peer is beaten; one with a lower mean is not, by the spread."""
    wide = _rows("fastnas/8", 0.60, 0.95)
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
    fast = _rows("torch_pruning/taylor/local", 0.5, 0.5, search_seconds=1.0)
    _, time = _goal(*FNNP, *AHEAD, *fast)
    assert not time.held
    assert time.measured == "Widthwise FNNP 30 s, Torch-Pruning Taylor, local 21 s"


def test_reconstruction_is_held_against_the_same_without() -> None:
    fitted = _rows("widthwise/fnnp/reconstructed", 0.91, 0.915)
    checks = [c for c in checks_of(summaries((*FNNP, *fitted, *AHEAD)), None) if "reconstruction" in c.prediction]
    assert [(c.prediction, c.measured, c.held) for c in checks] == [
        ("reconstruction helps Widthwise FNNP after fine-tuning too (50%)", "+0.75 points", True)
    ]


# -- the page


def _value(variant: str, seed: int, **changes: Any) -> dict[str, Any]:
    start = {"variant": variant, "budget": 0.5, "seed": seed, "settings": "tiny", "outcome": "done", "lines": 29}
    sizes = {"macs": 480_000, "params": 20_000, "memory_mib": 800, "versions": {"torch": "9.9"}}
    seconds = {"search_seconds": 2.0, "finetune_seconds": 40.0, "seconds": 50.0}
    accuracies = {"left": 0.3, "adapted": 0.6, "val": 0.85 + seed / 100, "test": 0.84 + seed / 100}
    return {**start, **sizes, **seconds, **accuracies, "notes": {"ratio": 0.5}, **changes}


def _journal(path: Path, model: str, values: dict[str, dict[str, Any]], **changes: Any) -> Path:
    data = {"name": "digits", "classes": 10, "train": [1079, "a"], "val": [359, "b"], "test": [359, "c"]}
    config = {**replace(tiny(), model=model).identity(), "settings": "tiny", "data": data, "weights": "abc", **changes}
    with RunFolder.open(path, config) as folder:
        for key, value in values.items():
            folder.journal.append({"event": "result", "key": key, "value": value})
    return path


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Two seeds of a peer and of a method with a network of its own, a refusal, the full network."""
    full = {"variant": "full", "budget": 1.0, "seed": 0, "settings": "tiny", "outcome": "done"}
    values = {
        "full": {**full, "macs": 1_000_000, "params": 50_000, "val": 0.91, "test": 0.9, "versions": {}},
        "a": _value("torch_pruning/l1/local", 0, versions={"torch-pruning": "1.6.1"}),
        "b": _value("torch_pruning/l1/local", 1, versions={"torch-pruning": "1.6.1"}),
        "c": {**{k: full[k] for k in ("seed", "settings")}, "variant": "fastnas/32", "budget": 0.5}
        | {"outcome": "refused", "why": "ValueError: NOT all | constraints"},
        "d": _value("widthwise/joint", 0, left=None, adapted=None, val=0.9, test=0.89),
        "e": _value("widthwise/joint", 1, left=None, adapted=None, val=0.9, test=0.89, search_seconds=4.0),
    }
    _journal(tmp_path / "run", "digits_net", values)
    return tmp_path


def _cells(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(start))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_shows_means_spreads_and_what_was_refused(journal: Path) -> None:
    path = write([journal / "run"], journal / "docs")
    text = path.read_text(encoding="utf-8")
    assert path.name == "results.md"
    cells = _cells(text, "| Torch-Pruning L1, local | peer | 2 |")
    assert cells[3:6] == ["0.48", "48.0%", "20.0"]
    assert cells[6:11] == ["30.00", "60.00", "85.50 ± 0.71", "84.50 ± 0.71", "5.50"]
    assert cells[11:] == ["2", "40", "42", "800", "29"]
    joint = _cells(text, "| **Widthwise joint** | method | 2 |")
    assert joint[6:8] == ["-", "-"]
    assert joint[11:14] == ["3 ± 1", "40", "43 ± 1"]
    assert text.index("| **Widthwise joint** |") < text.index("| Torch-Pruning L1, local |")
    assert (
        "Widthwise joint +4.50 points beside Torch-Pruning L1, local, the nearest; the larger spread is 0.71 |" in text
    )
    assert "| FastNAS, divisor 32 (default) | 50% | refused | ValueError: NOT all \\| constraints |" in text
    assert "--only full torch_pruning/l1/local --budgets 0.5 --seeds 0 1 --data DATA --weights WEIGHTS`" in text
    assert "| Torch-Pruning | torch-pruning 1.6.1 |" in text
    assert "| Widthwise | torch 9.9 |" in text
    assert "Widthwise FNNP, beside its defaults: calibration_images 64, candidates 3, finalists 1" in text
    assert text.index("## digits_net (tiny) at 50%") < text.index("## Predicted") < text.index("- CPU: ")
    assert "NNI 3.0" in text
    assert "MMRazor 1.0.0" in text
    assert (journal / "docs" / "figures" / "results_accuracy_digits_net_tiny.png").exists()
    assert (journal / "docs" / "figures" / "results_time_digits_net.png").exists()


def test_two_runs_share_a_page(journal: Path) -> None:
    """Of two networks: tables, commands and checks of each. Of one network: one table."""
    values = {f"{seed}": _value("widthwise/fnnp", seed, budget=0.3) for seed in (0, 1)}
    _journal(journal / "deep", "resnet56", values)
    _journal(journal / "more", "digits_net", {"f": _value("widthwise/fnnp", 0)})
    runs = [str(journal / name) for name in ("run", "deep", "more")]
    text = main(["page", "--runs", *runs, "--docs", str(journal / "docs")]).read_text(encoding="utf-8")
    assert text.count("## digits_net (tiny) at 50% of the multiply-adds\n") == 1
    assert text.count("## resnet56 (tiny) at 30% of the multiply-adds\n") == 1
    assert text.index("| **Widthwise FNNP** | method | 1 |") < text.index("## resnet56 (tiny) at 30%")
    assert "--model resnet56 --only full widthwise/fnnp --budgets 0.3 --seeds 0 1" in text
    assert "| digits_net (tiny) | goal: our best method" in text
    assert "## resnet56 (tiny): settings" in text
    for model in ("digits_net", "resnet56"):
        assert (journal / "docs" / "figures" / f"results_accuracy_{model}_tiny.png").exists()


def test_other_settings_have_a_table_of_their_own_and_share_what_is_said_of_time(journal: Path) -> None:
    """One more training is worth its time; the method is only slower."""
    changes = {"settings": "longer", "test": 0.895, "finetune_seconds": 80.0}
    values = {
        "a": _value("torch_pruning/l1/local", 0, **changes),
        "b": _value("widthwise/joint", 0, **changes | {"search_seconds": 9.0}),
    }
    _journal(journal / "longer", "digits_net", values, settings="longer")
    text = write([journal / "run", journal / "longer"], journal / "docs").read_text(encoding="utf-8")
    for settings in ("tiny", "longer"):
        assert text.count(f"## digits_net ({settings}) at 50% of the multiply-adds\n") == 1
        assert f"## digits_net ({settings}): settings" in text
    front = text[text.index("## digits_net: accuracy for time") : text.index("![")]
    assert [line for line in front.splitlines() if line.startswith("| 50%")] == [
        "| 50% | Torch-Pruning L1, local | tiny | 2 | 84.50 ± 0.71 | 42 |",
        "| 50% | Widthwise joint | tiny | 2 | 89.00 | 43 ± 1 |",
        "| 50% | Torch-Pruning L1, local | longer | 1 | 89.50 | 82 |",
    ]


def test_what_succeeded_counts_and_what_was_measured_twice_is_refused() -> None:
    done, failed = {"outcome": "done", "test": 0.5}, {"outcome": "failed", "why": "killed"}
    assert _joined({"a": done, "b": failed}, {"a": failed, "b": done, "c": done}, Path()) == dict.fromkeys("abc", done)
    with pytest.raises(RunMismatch, match="both have a"):
        _joined({"a": done, "full": done}, {"a": done, "full": done}, Path())


def test_runs_of_one_network_that_differ_share_no_table(journal: Path) -> None:
    _journal(journal / "other", "digits_net", {}, score_images=99)
    with pytest.raises(RunMismatch, match="score_images"):
        write([journal / "run", journal / "other"], journal / "docs")


def test_a_run_of_something_else_is_refused(tmp_path: Path) -> None:
    RunFolder.open(tmp_path / "run", {"model": "resnet20", "data": "digits"}).close()
    with pytest.raises(CorruptRun, match="settings, weights"):
        write([tmp_path / "run"], tmp_path)


# -- processes


def test_a_task_comes_back_from_json() -> None:
    for name in SETTINGS:
        task = replace(TASK, named=name, model="resnet32", options={"divisor": 8})
        back = Task.from_json(json.loads(json.dumps(task.to_json())))
        assert back == task
        assert back.settings == replace(SETTINGS[name](), model="resnet32")


def test_interpreters_are_named_for_all_tools_or_for_one(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.touch()
    assert set(interpreters([str(python)]).values()) == {str(python)}
    one = interpreters([f"fastnas={python}"])
    assert one["fastnas"] == str(python)
    assert one["torch_pruning"] != str(python)
    for wrong in (str(tmp_path / "absent"), f"unknown={python}"):
        with pytest.raises(ConfigError, match="--python"):
            interpreters([wrong])


def test_a_process_that_dies_is_a_failure_with_its_last_words(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho out of luck\nexit 3\n", encoding="utf-8")
    python.chmod(0o755)
    value = run(TASK, str(python), tmp_path / "logs" / "x.txt", Event())
    assert value["outcome"] == "failed"
    assert value["why"] == "died (exit code 3): out of luck"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (MemoryError(), "failed"),
        (torch.OutOfMemoryError("CUDA out of memory"), "failed"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"), "failed"),
        (RuntimeError("no pruning ratio up to 1.0 meets the budget"), "refused"),
        (ValueError("NOT all constraints can be satisfied"), "refused"),
    ],
)
def test_too_little_memory_is_no_refusal(error: Exception, outcome: str) -> None:
    assert outcome_of(error) == outcome


def test_ours_are_those_of_the_settings_with_the_seed_of_the_task() -> None:
    data = load_data("digits")
    kept = {}
    for name in OURS:
        method = method_of(Job.of(replace(TASK, seed=7, options={"method": name}), data))
        kept[name] = keeps_weights(method)
        assert method.seed == 7  # type: ignore[attr-defined]
        if name in METHODS:
            assert type(method) is METHODS[name]
    assert method.importance == "random"  # type: ignore[attr-defined]
    starts = [method_of(Job.of(replace(TASK, options={"method": "fnnp", **o}), data)) for o in ({}, {"balanced": True})]
    assert [start.sensitivity_images for start in starts] == [0, 1000]  # type: ignore[attr-defined]
    assert {name for name, keeps in kept.items() if not keeps} == {"stagewise", "joint", "uniform"}


def test_the_default_leaves_out_near_duplicates_only() -> None:
    of = chosen(cpu().variants)
    assert {f"widthwise/{name}" for name in OURS} < set(of)
    assert len([name for name in of if name.startswith("torch_pruning/")]) == 7
    assert [name for name in of if name.startswith("fastnas/")] == ["fastnas/8", "fastnas/4"]
    assert len(of) < len(VARIANTS)
    assert cpu().finetune.epochs == 1


def test_no_network_of_joint_learns_from_more_images_than_the_others() -> None:
    for make in SETTINGS.values():
        assert (make().joint.coarse_images, make().joint.finetune_images) == ("train", "train")
    with pytest.raises(ConfigError, match="finetune_images='all'"):
        replace(cpu(), joint=replace(cpu().joint, finetune_images="all"))


def test_unknown_names_and_settings_are_refused() -> None:
    assert set(chosen(("fastnas/*",))) == {"fastnas/32", "fastnas/16", "fastnas/8", "fastnas/4"}
    with pytest.raises(ConfigError, match="--only"):
        chosen(("torch_pruning/l3/*",))
    with pytest.raises(ConfigError, match="budgets"):
        replace(cpu(), budgets=(1.5,))
    assert {variant.tool for variant in VARIANTS.values()} == set(TOOLS)


def _run(folder: Path, *only: str, seeds: tuple[str, ...] = ("0",)) -> dict[str, dict[str, Any]]:
    arguments = ["run", "--settings", "tiny", "--out", str(folder / "run"), "--docs", str(folder / "docs")]
    main([*arguments, "--only", *only, "--seeds", *seeds])
    return {e["key"]: e["value"] for e in read_events(folder / "run" / "journal.jsonl") if e["event"] == "result"}


def test_ours_is_measured_like_a_peer_and_nothing_is_measured_twice(tmp_path: Path) -> None:
    found = _run(tmp_path, "full", "widthwise/l1", "widthwise/l1/reconstructed", "widthwise/uniform")
    full, small, uniform = (found[key] for key in ("full", "widthwise-l1-0.5-0", "widthwise-uniform-0.5-0"))
    for value in (small, uniform):
        assert 0.9 * full["macs"] / 2 < value["macs"] <= full["macs"] / 2
        assert value["params"] < full["params"]
        assert min(value["search_seconds"], value["finetune_seconds"], value["memory_mib"]) > 0
    assert small["lines"] == VARIANTS["widthwise/l1"].lines
    fitted = found["widthwise-l1-reconstructed-0.5-0"]
    assert fitted["lines"] == small["lines"] + 1
    assert fitted["macs"] == small["macs"]
    assert fitted["left"] == small["left"]
    for key, images in (("widthwise-l1-0.5-0", 0), ("widthwise-l1-reconstructed-0.5-0", tiny().reconstruct)):
        assert read_json(tmp_path / "run" / "runs" / key / "config.json")["reconstruct"] == images
    assert 0 < small["left"] <= 1
    assert uniform["left"] is uniform["adapted"] is None, "its weights were drawn afresh"
    before = (tmp_path / "run" / "journal.jsonl").read_bytes()
    _run(tmp_path, "full", "widthwise/l1", "widthwise/uniform")
    assert (tmp_path / "run" / "journal.jsonl").read_bytes() == before


@pytest.mark.slow
def test_every_method_of_ours_meets_the_budget(tmp_path: Path) -> None:
    names = [f"widthwise/{name}" for name in METHODS]
    found = _run(tmp_path, "full", *names)
    limit = found.pop("full")["macs"] / 2
    assert {value["variant"] for value in found.values()} == set(names)
    for value in found.values():
        assert value["outcome"] == "done", value
        assert 0.8 * limit < value["macs"] <= limit
        assert (value["left"] is None) == (value["variant"] in ("widthwise/stagewise", "widthwise/joint"))
    page = (tmp_path / "docs" / "results.md").read_text(encoding="utf-8")
    assert all(f"| **{VARIANTS[name].title}** | method | 1 |" in page for name in names)


def test_a_journal_belongs_to_its_images_and_weights(tmp_path: Path) -> None:
    """Where nothing is measured: another journal is refused before the first network."""
    digits, other_split, other_pixels = (
        load_data("digits", **options) for options in ({}, {"seed": 1}, {"mean": (0.1,), "std": (0.4,)})
    )
    found = identity_of("tiny", tiny(), None, digits)
    assert found == identity_of("tiny", tiny(), None, load_data("digits"))
    assert found["weights"] is None
    assert found["data"]["shape"] == [1, 8, 8]
    assert identity_of("tiny", tiny(), None, other_split)["data"]["train"] != found["data"]["train"]
    shifted = identity_of("tiny", tiny(), None, other_pixels)["data"]
    assert [shifted[part][0] for part in ("train", "val")] == [found["data"][part][0] for part in ("train", "val")]
    assert all(shifted[part][1] != found["data"][part][1] for part in ("train", "val", "test"))
    RunFolder.open(tmp_path / "run", identity_of("tiny", tiny(), None, other_split)).close()
    with pytest.raises(RunMismatch, match=r"data\.train"):
        _run(tmp_path, "full")
    weights = tmp_path / "weights.safetensors"
    save_file(build_model("digits_net").state_dict(), weights)
    with_weights = identity_of("tiny", tiny(), weights, digits)
    assert with_weights["data"] == found["data"]
    assert with_weights["weights"] is not None


@pytest.mark.peers
def test_torch_pruning_meets_the_budget(tmp_path: Path) -> None:
    names = ("torch_pruning/group_norm/local", "torch_pruning/taylor/global", "torch_pruning/l1/isomorphic/convolved")
    found = _run(tmp_path, *names)
    limit = count_macs(build_model("digits_net"), torch.zeros(1, 1, 8, 8)) / 2
    assert len(found) == len(names)
    for key, value in found.items():
        assert value["outcome"] == "done", (key, value)
        assert 0.8 * limit < value["macs"] <= limit, (key, value)
        assert value["versions"]["torch-pruning"]


@pytest.mark.peers
def test_fastnas_meets_the_budget_or_refuses_it_for_all_seeds(tmp_path: Path) -> None:
    found = _run(tmp_path, "fastnas/32", "fastnas/8", seeds=("0", "1"))
    assert set(found) == {"fastnas-32-0.5-0", "fastnas-8-0.5-0", "fastnas-8-0.5-1"}
    refused = found.pop("fastnas-32-0.5-0")
    assert refused["outcome"] == "refused"
    assert "NOT all constraints can be satisfied" in refused["why"]
    for value in found.values():
        assert value["outcome"] == "done", value
        assert value["macs"] <= value["notes"]["their full count"] / 4
        assert value["macs"] == pytest.approx(value["notes"]["their count"] / 2, rel=0.01)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_shortcuts_as_convolutions_compute_the_same() -> None:
    from benchmarks.peers.torch_pruning_peer import convolve_shortcuts

    model = build_model("resnet20").eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model(images)
        convolve_shortcuts(model)
        torch.testing.assert_close(model(images), before)
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == 19 + 2


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("convolved", "right"), [(False, False), (True, True)])
def test_what_the_page_says_of_zero_padded_shortcuts(convolved: bool, right: bool) -> None:
    """Torch-Pruning's network beside the full one with the removed channels set to zero."""
    import torch_pruning as tp
    from benchmarks.peers.torch_pruning_peer import convolve_shortcuts

    def masking(module: nn.Module, channels: list[int]) -> None:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            masked = output.clone()
            masked[:, channels] = 0
            return masked

        module.register_forward_hook(hook)

    model, masked = build_model("resnet20").eval(), build_model("resnet20").eval()
    masked.load_state_dict(model.state_dict())
    if convolved:
        convolve_shortcuts(model)
    images = torch.randn(2, 3, 32, 32)
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=images)
    group = graph.get_pruning_group(model.conv1, tp.prune_conv_out_channels, idxs=[5])
    names = {module: name for name, module in model.named_modules()}
    removed = {names[d.target.module]: idxs for d, idxs in group if d.handler == tp.prune_conv_out_channels}
    masking(masked.bn1, removed["conv1"])
    for name, block in masked.named_modules():
        if f"{name}.conv2" in removed:
            masking(block, removed[f"{name}.conv2"])
    group.prune()
    with torch.no_grad():
        assert torch.allclose(model(images), masked(images), atol=1e-4) == right
