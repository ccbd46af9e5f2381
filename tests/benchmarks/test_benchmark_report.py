"""The pages of the benchmarks: plain text from plain data. No timing is asserted."""

from datetime import date
from pathlib import Path

import pytest
import torch
from benchmarks.fnnp.summary import summarise
from benchmarks.fnnp.tables import tables_of
from benchmarks.measure import ForwardClock, Timing, alternate, count_macs, ready
from benchmarks.report import Check, hardware_slug, page, page_path, ratio, write_page
from torch import nn

from widthwise import materialize, trace
from widthwise.experiments import Table
from widthwise.runs import describe_environment

TABLE = Table("Time to trace", ("network", "ours"), (("resnet50", "1.2 s"), ("a|b", "2 s")), "Median of 3.")


def test_the_page_says_on_which_machine_and_what_was_predicted() -> None:
    environment = describe_environment()
    checks = [Check("x < 1", "0.5", True), Check("y < 1", "2", False)]
    text = page("Speed", "python -m benchmarks", environment, [TABLE], checks)
    assert text.startswith("# Speed\n")
    assert environment["cpu"] in text
    assert f"torch {torch.__version__}" in text
    assert f"Torch threads: {torch.get_num_threads()}" in text
    assert "| x < 1 | 0.5 | yes |" in text
    assert "| y < 1 | 2 | **no** |" in text


@pytest.mark.parametrize(
    ("environment", "slug"),
    [
        ({"cpu": "Intel(R) Xeon(R) Platinum 8581C CPU @ 2.30GHz", "cpu_count": 2}, "intel-xeon-platinum-8581c-2cpu"),
        ({"cpu": "AMD EPYC 7B13", "cpu_count": 16, "devices": []}, "amd-epyc-7b13-16cpu"),
        ({"cpu": "AMD EPYC", "cpu_count": 16, "devices": ["NVIDIA H100 80GB HBM3"]}, "nvidia-h100-80gb-hbm3"),
        ({"cpu": "", "machine": "arm64", "cpu_count": 8}, "arm64-8cpu"),
    ],
)
def test_the_machine_in_a_file_name(environment: dict[str, object], slug: str) -> None:
    assert hardware_slug(environment) == slug
    path = page_path(Path("results"), "speed", environment, date(2026, 11, 21))
    assert path.name == f"speed_{slug}_2026-11-21.md"


def test_a_page_is_written(tmp_path: Path) -> None:
    path = write_page(tmp_path / "results" / "x.md", "# x\n")
    assert path.read_text(encoding="utf-8") == "# x\n"


@pytest.mark.parametrize(("ours", "theirs", "text"), [(1.0, 3.14, "3.1x"), (2.0, 1.0, "0.5x"), (0.1, 2.0, "20x")])
def test_ratio(ours: float, theirs: float, text: str) -> None:
    assert ratio(ours, theirs) == text


def test_timing_text_and_median() -> None:
    assert Timing((1.0, 3.0, 2.0)).median == 2.0
    assert str(Timing((1.0, 3.0, 2.0))) == "2 s (1 to 3)"
    assert str(Timing((0.012,))) == "12 ms (12 to 12)"


def test_sides_take_turns_and_preparation_comes_first() -> None:
    order: list[str] = []
    alternate({"a": ready(order.append, "a"), "b": ready(order.append, "b")}, 2, warmup=1)
    assert order == ["a", "b"] * 3


def test_the_clock_hears_copies_and_leaves_nothing_behind() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)).eval()
    example = torch.randn(1, 3, 8, 8)
    graph = trace(model, example)
    clock = ForwardClock()
    with clock.on(model):
        small = materialize(model, graph, graph.subnet(widths=graph.full_widths // 2))
        small(example)
        clock.counting = False
        small(example)
    model(example)
    assert clock.passes == 1
    assert clock.seconds > 0
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_macs_are_counted_by_running() -> None:
    assert count_macs(nn.Conv2d(3, 8, 3), torch.randn(1, 3, 10, 10)) == 8 * 3 * 9 * 64


def _events() -> list[dict[str, object]]:
    events: list[dict[str, object]] = [{"event": "result", "key": "uniform", "value": {"score": 0.5}}]
    trials = {"rates/0.7": [0.4, 0.6], "evolution/0": [0.5, 0.45, 0.7], "evolution/1": [0.5, 0.6, 0.55]}
    for part, scores in (trials | {"thompson/0": [0.5, 0.8]}).items():
        events += [{"event": "trial", "part": part, "index": i, "score": s} for i, s in enumerate(scores)]
    events.append({"event": "result", "key": "infeasible/0.2", "value": {"reason": "too narrow"}})
    for images, accuracies in {0: [0.1], 100: [0.4, 0.6]}.items():
        for seed, accuracy in enumerate(accuracies):
            events.append({"event": "result", "key": f"iterations/{images}/{seed}", "value": {"accuracy": accuracy}})
    for i in range(6):
        judged = {"global_bn": 0.1, "adaptive_bn": i / 10, "short_training": -i / 10, "finetuned": 0.8 + i / 100}
        for key, accuracy in judged.items():
            events.append(
                {"event": "result", "key": f"correlation/random 0.7 #{i}/{key}", "value": {"accuracy": accuracy}}
            )
    for seed in (0, 1):
        for name, (val, test) in {"uniform": (0.8, 0.7), "fnnp-1": (0.82, 0.71), "fnnp-2": (0.81, 0.9)}.items():
            value = {"val": val, "test": test + seed / 100, "macs": 10**6, "params": 10**4}
            events.append({"event": "result", "key": f"final/{seed}/{name}", "value": value})
    return events


def test_the_summary_of_the_fnnp_experiment() -> None:
    summary = summarise(_events(), 0.7)
    assert [row["max_rate"] for row in summary["rates"]] == [0.2, 0.7]
    assert summary["rates"][1]["above_uniform"] == 0.5
    assert [row["best"] for row in summary["searches"]["evolution"]] == [[0.5, 0.5, 0.7], [0.5, 0.6, 0.6]]
    assert summary["iterations"][1] == {"images": 100, "accuracies": [0.4, 0.6]}
    figures = summary["correlation"]["figures"]
    assert figures["adaptive_bn"]["pearson"]["value"] == pytest.approx(1)
    assert figures["short_training"]["kendall"]["value"] == pytest.approx(-1)
    assert figures["global_bn"]["pearson"]["value"] is None, "a constant has no correlation, and JSON has no NaN"
    chosen = next(row for row in summary["final"] if row["name"] == "fnnp")
    assert chosen["test"] == [0.71, 0.72], "chosen by validation, although another one tests better"


def test_its_tables() -> None:
    tables = {table.title: table for table in tables_of(summarise(_events(), 0.7))}
    assert len(tables) == 5
    assert tables["Random rates: the effect of R"].rows[0][1] == "cannot meet the budget"
    assert tables["Searches that learn"].rows[-1] == ("3", "65.00% (60.00% to 70.00%)", ""), "one has not come so far"
    assert tables["After fine-tuning"].rows[0][4] == "70.50% ± 0.71%"
    assert "2 candidates of Thompson sampling" in tables["After fine-tuning"].note
    assert "`random` of 2 random ones with R = 0.7" in tables["After fine-tuning"].note
    for table in tables.values():
        assert all(len(row) == len(table.columns) for row in table.rows)


def test_a_summary_of_nothing_has_no_tables() -> None:
    assert tables_of(summarise([], 0.7)) == []
