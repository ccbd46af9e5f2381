"""The FNNP experiment from end to end with tiny sizes, cut off and resumed."""

from pathlib import Path

import pytest
import torch
from benchmarks.fnnp.__main__ import main
from benchmarks.fnnp.settings import SETTINGS
from benchmarks.fnnp.summary import summarise
from safetensors.torch import save_file

from widthwise import build_model
from widthwise.errors import RunMismatch
from widthwise.runs import read_events, read_json


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Of the full network, as a file."""
    return saved(tmp_path / "weights.safetensors", seed=0)


def saved(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    save_file(build_model("digits_net").state_dict(), path)
    return path


@pytest.mark.slow
def test_it_resumes_and_ends_in_a_page(weights: Path, tmp_path: Path) -> None:
    run, docs = tmp_path / "run", tmp_path / "docs"
    common = ["--settings", "tiny", "--weights", str(weights), "--out", str(run), "--docs", str(docs)]
    for part in ("rates", "searches"):
        main([part, *common])
    before = read_events(run / "journal.jsonl")
    page = main(["all", *common]).read_text(encoding="utf-8")
    after = read_events(run / "journal.jsonl")
    assert after[: len(before)] == before, "nothing is computed twice"
    assert sum(event["event"] == "trial" for event in after) == 4 + 2 + 3 * 4, (
        "R of 0.7 (as many as the others in `final`), R of 0.9, the searches that learn"
    )
    main(["all", *common])
    assert read_events(run / "journal.jsonl") == after
    summary = summarise(after, 0.7)
    assert len(summary["correlation"]["models"]) == 4
    assert [row["name"] for row in summary["final"]] == ["uniform", "random", "evolution", "fnnp-1", "fnnp-2", "fnnp"]
    for title in (
        "Random rates",
        "Searches that learn",
        "How many",
        "Which quick judgement predicts",
        "After fine",
        "Settings",
    ):
        assert f"\n## {title}" in page
    assert {path.name for path in (docs / "figures").iterdir()} == {
        "fnnp_digits_net_candidates.png",
        "fnnp_digits_net_correlation.png",
        "fnnp_digits_net_iterations.png",
    }


def test_a_run_knows_its_weights_by_what_they_hold(weights: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def evolve(file: Path) -> list[dict[str, object]]:
        main(["searches", "--settings", "tiny", "--weights", str(file), "--out", str(run)])
        return read_events(run / "journal.jsonl")

    found = evolve(weights)
    assert len(read_json(run / "config.json")["weights"]) == 16
    assert str(tmp_path) not in (run / "config.json").read_text(encoding="utf-8")
    assert evolve(weights.rename(tmp_path / "moved.safetensors")) == found
    with pytest.raises(RunMismatch, match="weights"):
        evolve(saved(weights, seed=1))


def test_the_settings_build() -> None:
    assert {SETTINGS[name]().model for name in ("cpu", "cpu_resnet56")} == {"resnet20", "resnet56"}
