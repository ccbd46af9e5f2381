"""The page of the comparison, from made-up rows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.peers.__main__ import main
from benchmarks.peers.measured import _joined
from benchmarks.peers.page import write
from benchmarks.peers.settings import tiny
from made_rows import value_of

from widthwise.errors import CorruptRun, RunMismatch
from widthwise.runs import RunFolder


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
        "a": value_of("torch_pruning/l1/local", 0, versions={"torch-pruning": "1.6.1"}),
        "b": value_of("torch_pruning/l1/local", 1, versions={"torch-pruning": "1.6.1"}),
        "c": {**{k: full[k] for k in ("seed", "settings")}, "variant": "fastnas/32", "budget": 0.5}
        | {"outcome": "refused", "why": "ValueError: NOT all | constraints"},
        "d": value_of("widthwise/joint", 0, left=None, adapted=None, val=0.9, test=0.89),
        "e": value_of("widthwise/joint", 1, left=None, adapted=None, val=0.9, test=0.89, search_seconds=4.0),
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
    values = {f"{seed}": value_of("widthwise/fnnp", seed, budget=0.3) for seed in (0, 1)}
    _journal(journal / "deep", "resnet56", values)
    _journal(journal / "more", "digits_net", {"f": value_of("widthwise/fnnp", 0)})
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
        "a": value_of("torch_pruning/l1/local", 0, **changes),
        "b": value_of("widthwise/joint", 0, **changes | {"search_seconds": 9.0}),
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
