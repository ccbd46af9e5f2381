"""The coverage page from made-up records, the parts that measure on tiny networks, and one real run."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
import torchvision
from benchmarks.coverage import compare as comparing
from benchmarks.coverage import ours, schedule
from benchmarks.coverage.__main__ import main
from benchmarks.coverage.build import Built, build
from benchmarks.coverage.memory import model_bytes, peak_growth
from benchmarks.coverage.notes import Notes
from benchmarks.coverage.page import coverage_page
from benchmarks.coverage.processes import run
from benchmarks.coverage.registry import Entry, _smallest, entries
from benchmarks.coverage.settings import CoverageConfig
from benchmarks.coverage.summary import INFINITE, goals_of, memory_ratio, proof, rows_of
from benchmarks.coverage.weights import randomise
from benchmarks.processes import Limits
from torch import Tensor, nn

from widthwise import CostModel, Subnet, trace
from widthwise.errors import ConfigError
from widthwise.runs import Journal, describe_environment, read_json

GOOD: dict[str, Any] = {
    **{"tool": "widthwise", "name": "torchvision/a", "kind": "classification", "module": "", "outcome": "done"},
    **{"groups": 3, "channels": 100, "units": 90, "layers": 4, "macs": 10**6, "macs_share": 0.991, "pinned": 2},
    **{"params_share": 0.5, "least_share": 0.0123, "reasons": [[10, "reaches the model's output"]], "notes": []},
    **{"forward_s": 0.01, "trace_s": 0.2, "trace_passes": 20.0, "shape": [1, 3, 8, 8], "params": 10**4},
    **{"forward_bytes": 2**20, "model_bytes": 2**20, "trace_bytes": 4 * 2**20, "draws": 5, "error": 3e-7},
    **{"effect": 0.5, "numbers": True, "macs_exact": 5, "unfused_macs_exact": 5, "params_exact": 5},
    **{"last_macs": [7, 7, 7], "wall_s": 1.0, "peak_gib": 0.5, "stage": "compare"},
    "versions": {"torch": "9.9", "code": "abc"},
    "limits": {"memory_gib": 20.0, "minutes": 15.0, "threads": 1},
}


def record(**changes: Any) -> dict[str, Any]:
    return {**GOOD, **changes}


def peer(tool: str, **changes: Any) -> dict[str, Any]:
    start = {key: GOOD[key] for key in ("name", "kind", "module", "versions", "limits")}
    return {**start, "tool": tool, "outcome": "done", "works": True, "channels": 100, "seconds": 0.3, **changes}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"error": 2e-4}, "differs from the reference by 2.0e-04"),
        ({"error": INFINITE}, "other shapes"),
        ({"numbers": False}, "NaN or all zero"),
        ({"effect": 0.0}, "do not change its outputs"),
        ({"groups": 0}, "nothing but pinned channels (10 reaches the model's output)"),
        ({"groups": 0, "layers": 0}, ""),
    ],
)
def test_what_counts_as_a_proof(changes: dict[str, Any], why: str) -> None:
    found = proof(record(**changes))
    assert why in found
    assert bool(found) == bool(why)


def test_a_process_that_did_not_end_well_proves_nothing() -> None:
    killed = {"outcome": "killed", "stage": "trace", "why": "more than 20 GiB", "forward_s": 1.0}
    assert proof(killed) == "killed at: trace: more than 20 GiB"
    assert proof({"outcome": "missing", "why": "not measured"}) == "missing: not measured"


def test_goals_count_each_network_and_name_each_miss() -> None:
    records = [
        record(),
        peer("torch_pruning", channels=101),
        peer("fastnas", channels=99),
        record(name="torchvision/b", error=1.0, trace_passes=50.0, trace_bytes=6 * 2**20, macs_exact=4),
        peer("torch_pruning", name="torchvision/b", channels=500, works=False, outcome="raised", why="x"),
        record(name="timm/c", kind="timm", module="m", macs_exact=0, unfused_macs_exact=4),
    ]
    goals = {goal.text: goal for goal in goals_of(rows_of(records))}
    found = {text: (goal.found, goal.held, [miss.network for miss in goal.misses]) for text, goal in goals.items()}
    assert found == {
        "proved within 1e-04: every torchvision classifier": ("1 of 2 (50.0%)", False, ["torchvision/b"]),
        "prunable channels: at least as many as either peer, on 95% of the torchvision classifiers": (
            *("1 of 2 (50.0%)", False),
            ["torchvision/a"],
        ),
        "proved within 1e-04: 95% of the timm modules": ("1 of 1 (100.0%)", True, []),
        "prunable channels: at least as many as either peer, on 95% of the timm modules (not asked for)": (
            *("1 of 1 (100.0%)", True),
            [],
        ),
        "multiply-adds and parameters equal an independent count": ("2 of 3 (66.7%)", False, ["timm/c"]),
        "a trace takes less time than 50 forward passes": ("2 of 3 (66.7%)", False, ["torchvision/b"]),
        "a trace takes less than 3 times the memory of a forward pass": ("2 of 3 (66.7%)", False, ["torchvision/b"]),
    }
    channels = next(goal for text, goal in goals.items() if "channels" in text)
    assert channels.misses[0].why == "Torch-Pruning finds 101, we find 100"


def test_95_of_100_suffice_where_not_all_are_asked_for() -> None:
    def held(wrong: int) -> bool:
        rows = rows_of([record(name=f"timm/{i}", kind="timm", error=float(i < wrong)) for i in range(100)])
        return next(goal for goal in goals_of(rows) if "95% of the timm modules" in goal.text).held

    assert held(5)
    assert not held(6)


def test_what_was_not_measured_is_a_miss_of_ours_and_no_failure_of_a_peer() -> None:
    start = {key: GOOD[key] for key in ("name", "kind", "module")}
    nothing = [{**start, "tool": tool, "outcome": "missing", "why": "not yet"} for tool in ("widthwise", "fastnas")]
    assert [goal.held for goal in goals_of(rows_of(nothing))] == [False, False]
    assert "Where a peer fails" not in coverage_page(nothing, describe_environment(), "make coverage", "raw.json")


def test_memory_is_compared_with_one_pass() -> None:
    assert memory_ratio(GOOD) == 2.0
    assert memory_ratio(GOOD, beside_model=False) == 4.0


def test_the_page() -> None:
    records = [
        record(),
        peer("torch_pruning"),
        peer("fastnas", works=False, outcome="raised", stage="convert", why="AssertionError: <lost> | symbols"),
        record(name="torchvision/s", kind="segmentation"),
        {**record(name="timm/d", kind="timm", module="m"), "outcome": "killed", "why": "more than 15 minutes"},
        {"tool": "widthwise", "name": "timm/e", "kind": "timm", "module": "e", "outcome": "missing", "why": "not yet"},
    ]
    del records[4]["error"]
    text = coverage_page(records, describe_environment(), "make coverage", "../x/raw.json")
    assert "| a | 3 | 100 | 100 (0.3 s) | fails | 99% | 50% | 1.2% | 3e-07 | 0.2 s | 20 | 2.0 |" in text
    assert "| s | 3 | 100 | 99% | 50% | 1.2% | 3e-07 | 0.2 s | 20 | 2.0 |" in text, "peers are left out there"
    assert "| m: d | 3 | 100 |" in text
    assert "| e | - | **missing** |" in text
    assert "AssertionError: &lt;lost> \\| symbols" in text
    assert "torch 9.9" in text
    assert "abc" not in text, "a digest of our code is no package"
    assert "killed beyond 20 GiB of resident memory or 15 minutes" in text
    assert "| timm/e |" in text, "a network without a record is a miss"
    assert "[raw.json](../x/raw.json)" in text
    for block in text.split("\n\n"):
        if block.startswith("| "):
            assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1


def test_a_page_of_nothing() -> None:
    assert "How it is measured" in coverage_page([], describe_environment(), "make coverage", "raw.json")


class Grouped(nn.Module):
    """A grouped convolution between two plain ones."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 8, 3, groups=4), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu())


def tiny() -> Built:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU())
    return Built(nn.Sequential(*model, nn.Conv2d(6, 4, 1)).eval(), (torch.randn(1, 3, 10, 10),))


def test_channels_are_rows_of_one_layer() -> None:
    graph = trace(Grouped().eval(), torch.randn(1, 3, 8, 8))
    assert sum(ours.rows(group) for group in graph.prunable) == 12 + 8


def test_ours_on_a_tiny_network(tmp_path: Path) -> None:
    built = tiny()
    notes = Notes(tmp_path / "notes.json")
    ours.measure(built, notes, detection=False)
    facts = read_json(tmp_path / "notes.json")
    assert proof(facts) == ""
    assert (facts["groups"], facts["channels"], facts["layers"]) == (2, 14, 3)
    assert facts["macs"] == 64 * 8 * 27 + 36 * (6 * 8 * 9 + 4 * 6)
    assert facts["least_share"] == pytest.approx((64 * 27 + 36 * (9 + 4)) / facts["macs"])
    assert facts["macs_exact"] == facts["params_exact"] == 5
    assert facts["params_share"] == pytest.approx(1 - 4 / facts["params"]), "all but the bias of the last layer"
    assert facts["trace_passes"] == pytest.approx(facts["trace_s"] / facts["forward_s"])


def test_a_wrong_network_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    built, right = tiny(), comparing.materialize
    graph = trace(built.model, built.args)
    subnet = Subnet(torch.arange(graph.num_channels) % 2 == 0)

    def wrong(*args: Any) -> nn.Module:
        small = right(*args)
        next(small.parameters()).data[0] += 1
        return small

    full = comparing.full_outputs(built, decisions=False)
    assert comparing.compare(built, graph, CostModel(graph), subnet, full, decisions=False).error < 1e-5
    monkeypatch.setattr(comparing, "materialize", wrong)
    assert comparing.compare(built, graph, CostModel(graph), subnet, full, decisions=False).error > 1e-2


@pytest.mark.parametrize(
    ("found", "expected", "difference"),
    [
        ([1.0, 2.0], [1.0, 4.0], 0.5),
        ([1.0], [1.0, 4.0], INFINITE),
        ([1.0, float("inf")], [1.0, float("inf")], 0.0),
        ([1.0, float("-inf")], [1.0, float("inf")], INFINITE),
        ([1.0, float("nan")], [1.0, float("nan")], INFINITE),
        ([0.5, 0.0], [0.0, 0.0], 0.5),
    ],
)
def test_difference(found: list[float], expected: list[float], difference: float) -> None:
    assert comparing.difference([torch.tensor(found)], [torch.tensor(expected)]) == difference
    assert comparing.difference([torch.tensor([1, 2])], [torch.tensor([1, 3])]) == INFINITE


class Decides(nn.Module):
    """Returns nothing but a decision."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu()) > 100


def test_the_numbers_behind_decisions_are_compared() -> None:
    built = Built(Decides().eval(), (torch.randn(2, 4),))
    scores, decision = comparing.full_outputs(built, decisions=True)
    assert torch.equal(scores, built.model.b(built.model.a(built.args[0]).relu()))  # type: ignore[operator]
    assert decision.dtype == torch.bool


def test_attention_is_counted_although_the_cpu_fuses_it() -> None:
    class Attends(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    assert comparing._count_unfused(Attends(), (torch.randn(1, 2, 8, 4),)) == 2 * 2 * 8 * 8 * 4


def test_randomise_leaves_nothing_constant() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 4))
    nn.init.zeros_(model[2].weight)  # type: ignore[arg-type]
    kept = model[0].weight.detach().clone()  # type: ignore[operator]
    randomise(model)
    for tensor in [*model.parameters(), *(b for b in model.buffers() if b.ndim)]:
        assert tensor.unique().numel() > 1
    assert torch.equal(model[0].weight, kept), "weights that are random already stay"
    assert float(model[1].weight.detach().min()) > 0.4  # type: ignore[operator]


def test_the_peak_is_seen_although_it_is_gone_and_was_reached_before() -> None:
    def touch(size: int) -> int:
        return torch.ones(size, dtype=torch.uint8).numel()

    touch(200 * 2**20)
    result, growth = peak_growth(lambda: touch(64 * 2**20))
    assert result == 64 * 2**20
    assert 60 * 2**20 < growth < 120 * 2**20


def test_model_bytes_count_shared_tensors_once() -> None:
    model = nn.Sequential(nn.Linear(10, 10, bias=False), nn.Linear(10, 10, bias=False))
    model[1].weight = model[0].weight
    assert model_bytes(model) == 400


def test_the_registries_are_asked(tmp_path: Path) -> None:
    found = entries("torchvision/*", tmp_path, print)
    names = [entry.model for entry in found if entry.kind == "classification"]
    assert names == torchvision.models.list_models(module=torchvision.models)
    assert len({entry.name for entry in found}) == len(found) > 80
    assert {entry.kind for entry in found} == {"classification", "segmentation", "detection", "video"}


def test_timm_is_searched_once(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    (tmp_path / f"timm-{timm.__version__}.json").write_text('{"vgg": "vgg11", "broken": ""}')
    found = entries("timm/*", tmp_path, print)
    assert found == [Entry("timm", "vgg11", "vgg"), Entry("timm", "broken", "broken")]
    assert _smallest("vgg") == "vgg11"


def test_inputs_by_kind() -> None:
    assert build(Entry("classification", "squeezenet1_1")).shape == [1, 3, 224, 224]
    assert build(Entry("timm", "test_vit", "vision_transformer")).shape == [1, 3, 160, 160]


LIMITS = Limits(memory_gib=2.0, minutes=0.5, threads=1)
WRITE = 'import sys; open(sys.argv[1], \'w\').write(\'{"stage": "trace", "groups": 3}\'); '


@pytest.mark.parametrize(
    ("code", "limits", "why"),
    [
        (WRITE + "import time; time.sleep(60)", replace(LIMITS, minutes=0.02), "more than 0.02 minutes"),
        (
            WRITE + "x = bytearray(400 * 2**20); import time; time.sleep(60)",
            replace(LIMITS, memory_gib=0.2),
            "more than 0.2 GiB",
        ),
        (WRITE + "print('so long', file=sys.stderr); sys.exit(3)", LIMITS, "died (exit code 3): so long"),
        (WRITE + "import os; os.abort()", LIMITS, "died (signal SIGABRT): no message"),
    ],
)
def test_a_process_beyond_its_limits_leaves_its_notes(code: str, limits: Limits, why: str) -> None:
    facts = run(["-c", code], limits, Event())
    assert (facts["outcome"], facts["why"]) == ("killed", why)
    assert (facts["stage"], facts["groups"]) == ("trace", 3)


def test_everything_can_be_stopped() -> None:
    stop = Event()
    stop.set()
    assert run(["-c", "import time; time.sleep(60)"], LIMITS, stop)["why"] == "stopped"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """Replaces the processes; lists what was measured under which memory limit. ``large`` needs 15 GiB."""
    calls: list[tuple[str, float]] = []

    def fake(command: list[str], limits: Limits, stop: Event) -> dict[str, Any]:
        model = json.loads(command[-1])["model"]
        calls.append((model, limits.memory_gib))
        if model == "large" and limits.memory_gib < 15:
            return {"outcome": "killed", "why": f"more than {limits.memory_gib:g} GiB", "wall_s": 1.0}
        return {"outcome": "done", "channels": 7, "wall_s": 1.0}

    monkeypatch.setattr(schedule, "run", fake)
    return calls


@pytest.fixture
def measure(tmp_path: Path) -> Callable[..., dict[str, dict[str, Any]]]:
    def go(**changes: Any) -> dict[str, dict[str, Any]]:
        tasks = schedule.tasks_of([Entry("video", "large"), Entry("timm", "small", "m")], ("widthwise", "fastnas"))
        with Journal.open(tmp_path / "journal.jsonl") as journal:
            return schedule.measure_all(tasks, CoverageConfig(**changes), journal, lambda text: None)

    return go


def test_large_networks_are_measured_again_alone(
    measured: list[tuple[str, float]], measure: Callable[..., dict[str, dict[str, Any]]]
) -> None:
    records = measure()
    assert sorted(measured[:3]) == [("large", 10.0), ("small", 10.0), ("small", 10.0)], "no peers on videos"
    assert measured[3:] == [("large", 20.0)]
    assert {key: record["outcome"] for key, record in records.items()} == {
        "widthwise torchvision/large": "done",
        "widthwise timm/small": "done",
        "fastnas timm/small": "done",
    }


def test_what_is_known_is_not_measured_again(
    measured: list[tuple[str, float]],
    measure: Callable[..., dict[str, dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = measure()
    measured.clear()
    assert measure() == first
    assert not measured
    monkeypatch.setattr(schedule, "_digest", lambda names: str("src/widthwise/tracing" in names))
    measure()
    assert len(measured) == 4, "other code, and the large one twice"


def test_killed_networks_are_measured_again_with_wider_limits(
    measured: list[tuple[str, float]], measure: Callable[..., dict[str, dict[str, Any]]]
) -> None:
    assert measure(memory_gib=12.0)["widthwise torchvision/large"]["outcome"] == "killed"
    measured.clear()
    measure(memory_gib=12.0)
    assert not measured
    assert measure(memory_gib=16.0)["widthwise torchvision/large"]["outcome"] == "done"
    assert {model for model, _ in measured} == {"large"}


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="workers=0"):
        CoverageConfig(workers=0)


def test_a_real_run_ends_in_a_page_and_is_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--only", "torchvision/mnasnet0_5", "--tools", "[widthwise]", "--work", str(tmp_path)]
    path = main(arguments)
    assert path == tmp_path / "coverage.md", "a part of the networks does not replace the page"
    assert "| torchvision: classification | 1 | 1 | - | - |" in path.read_text(encoding="utf-8")
    (raw,) = tmp_path.glob("coverage_*.json")
    (found,) = read_json(raw)
    assert found["outcome"] == "done"
    assert found["macs_exact"] == found["params_exact"] == found["draws"] == 5
    capsys.readouterr()
    main(arguments)
    assert "1 to measure, 1 of them known" in capsys.readouterr().out
    main([*arguments, "--render", "true"])


@pytest.mark.peers
def test_the_peers_beside_ours(tmp_path: Path) -> None:
    pytest.importorskip("torch_pruning", reason="`make test-peers` installs it")
    main(["--only", "torchvision/squeezenet1_1", "--work", str(tmp_path), "--workers", "1"])
    (raw,) = tmp_path.glob("coverage_*.json")
    found = {record["tool"]: record for record in read_json(raw)}
    assert {tool: record["outcome"] for tool, record in found.items()} == {
        **{"widthwise": "done", "torch_pruning": "done", "fastnas": "done"},
    }
    widths = sum(m.out_channels for m in torchvision.models.squeezenet1_1().modules() if isinstance(m, nn.Conv2d))
    assert {record["channels"] for record in found.values()} == {widths - 1000}, "all but the classes"
