"""The comparison with the peers: its parts, its page from made-up rows, and every tool with tiny sizes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.measure import count_macs
from benchmarks.peers.__main__ import main
from benchmarks.peers.bisection import bisect
from benchmarks.peers.lines import count_lines
from benchmarks.peers.page import write
from benchmarks.peers.processes import interpreters, run
from benchmarks.peers.rows import Row, given_rows, merged, read_rows, summaries
from benchmarks.peers.settings import SETTINGS, cpu, tiny
from benchmarks.peers.task import Task
from benchmarks.peers.variants import TOOLS, VARIANTS, chosen
from torch import Tensor, nn

from widthwise import build_model
from widthwise.errors import ConfigError, CorruptRun
from widthwise.runs import RunFolder, read_events

ROW = Row(
    **{"name": "ours", "budget": 0.5, "seed": 0, "macs": 500, "params": 40, "val": 0.9, "test": 0.88},
    **{"search_seconds": 10.0, "finetune_seconds": 20.0},
)

TASK = Task(
    **{"tool": "none", "options": {}, "lines": 0, "share": 0.5, "seed": 1, "settings": tiny(), "data": "digits"},
    **{"weights": None, "folder": "somewhere"},
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


def test_given_rows_stand_for_measured_ones() -> None:
    other, better = replace(ROW, seed=1), replace(ROW, test=0.99)
    assert merged([ROW, other], [better]) == [better, other]


def test_rows_are_grouped_by_budget_and_the_best_comes_first() -> None:
    low = [replace(ROW, name="low", test=test, seed=seed) for seed, test in enumerate((0.7, 0.8))]
    found = summaries([*low, ROW, replace(ROW, budget=0.3, test=None)])
    assert list(found) == [0.5, 0.3]
    assert [summary.name for summary in found[0.5]] == ["ours", "low"]
    assert found[0.5][1].mean("test") == pytest.approx(0.75)
    assert found[0.5][1].spread("test") == pytest.approx(0.5**0.5 / 10)
    assert found[0.3][0].score == 0.9
    assert ROW.seconds == 30.0


@pytest.mark.parametrize("content", [[{"name": "x"}], {"name": "x"}, [3]])
def test_a_file_that_is_no_list_of_rows_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CorruptRun, match="JSON list"):
        read_rows(path)


def _value(variant: str, seed: int, **changes: Any) -> dict[str, Any]:
    start = {"variant": variant, "budget": 0.5, "seed": seed, "settings": "tiny", "outcome": "done", "lines": 29}
    sizes = {"macs": 480_000, "params": 20_000, "memory_mib": 800, "versions": {"torch": "9.9"}}
    seconds = {"search_seconds": 2.0, "finetune_seconds": 40.0, "seconds": 50.0}
    accuracies = {"left": 0.3, "adapted": 0.6, "val": 0.85 + seed / 100, "test": 0.84 + seed / 100}
    return {**start, **sizes, **seconds, **accuracies, "notes": {"ratio": 0.5}, **changes}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Two seeds of a peer, a refusal, the full network."""
    full = {"variant": "full", "budget": 1.0, "seed": 0, "settings": "tiny", "outcome": "done"}
    values = {
        "full": {**full, "macs": 1_000_000, "params": 50_000, "val": 0.91, "test": 0.9, "versions": {}},
        "a": _value("torch_pruning/l1/local", 0),
        "b": _value("torch_pruning/l1/local", 1),
        "c": {**{k: full[k] for k in ("seed", "settings")}, "variant": "fastnas/32", "budget": 0.5}
        | {"outcome": "refused", "why": "ValueError: NOT all | constraints"},
    }
    with RunFolder.open(tmp_path / "run", {**tiny().identity(), "data": "digits", "weights": None}) as folder:
        for key, value in values.items():
            folder.journal.append({"event": "result", "key": key, "value": value})
    return tmp_path


def test_the_page_shows_means_spreads_and_what_was_refused(journal: Path) -> None:
    text = write(journal / "run", journal / "docs").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("| Torch-Pruning L1, local | 2 |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2:5] == ["0.48", "48.0%", "20.0"]
    assert cells[5:10] == ["30.00 +- 0.00", "60.00 +- 0.00", "85.50 +- 0.71", "84.50 +- 0.71", "5.50"]
    assert cells[10:] == ["2", "40", "42", "800", "29"]
    assert "| FastNAS, divisor 32 (default) | 50% | refused | ValueError: NOT all \\| constraints |" in text
    assert "python -m benchmarks.peers run --only torch_pruning/l1/local --budgets 0.5 --seeds 0" in text
    assert "NNI 3.0" in text
    assert "MMRazor 1.0.0" in text
    assert [row.test for row in read_rows(journal / "run" / "rows.json")] == [0.84, 0.85]
    assert (journal / "docs" / "figures" / "peers_digits_net_accuracy.png").exists()


def test_rows_measured_elsewhere_join_the_page(journal: Path) -> None:
    given = journal / "rows.json"
    rows = [replace(ROW, name="Widthwise best", seed=seed, macs=499_000, test=0.89).to_json() for seed in (0, 1)]
    given.write_text(json.dumps([{**row, "unknown": 1} for row in rows]), encoding="utf-8")
    out, docs = str(journal / "run"), str(journal / "docs")
    path = main(["page", "--settings", "tiny", "--out", out, "--docs", docs, "--rows", str(given)])
    text = path.read_text(encoding="utf-8")
    assert text.index("| **Widthwise best** | 2 |") < text.index("| Torch-Pruning L1, local | 2 |")
    assert "Widthwise best +4.50 points beside Torch-Pruning L1, local; the larger spread is 0.71 | yes |" in text
    assert "30 s against 42 s | yes |" in text


# -- processes


def test_a_task_comes_back_from_json() -> None:
    for name in SETTINGS:
        task = replace(TASK, settings=SETTINGS[name](), options={"divisor": 8})
        assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task


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
    value = run(TASK, str(python), tmp_path / "logs" / "x.txt")
    assert value["outcome"] == "failed"
    assert value["why"] == "died (exit code 3): out of luck"


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
    found = _run(tmp_path, "full", "widthwise/l1")
    full, small = found["full"], found["widthwise-l1-0.5-0"]
    assert 0.9 * full["macs"] / 2 < small["macs"] <= full["macs"] / 2
    assert small["params"] < full["params"]
    assert small["lines"] == VARIANTS["widthwise/l1"].lines
    assert min(small["search_seconds"], small["finetune_seconds"], small["memory_mib"]) > 0
    shutil.copytree(tmp_path / "run" / "runs" / "widthwise-l1-0.5-0", tmp_path / "compared" / "l1" / "seed-0")
    (row,) = given_rows(tmp_path / "compared")
    assert (row.name, row.budget, row.seed, row.ours) == ("Widthwise l1", 0.5, 0, True)
    assert [getattr(row, name) for name in ("macs", "params", "val", "test")] == [
        small[name] for name in ("macs", "params", "val", "test")
    ]
    assert 0 < row.search_seconds <= small["search_seconds"]
    before = (tmp_path / "run" / "journal.jsonl").read_bytes()
    _run(tmp_path, "full", "widthwise/l1")
    assert (tmp_path / "run" / "journal.jsonl").read_bytes() == before


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
