"""A search in TensorBoard: every event once, also when the search is gone on with."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import widthwise
from widthwise.methods import FNNP
from widthwise.methods.live import LiveLog
from widthwise.runs import Journal
from widthwise.train import TrainConfig

EVENTS: list[dict[str, Any]] = [
    {"event": "phase", "phase": "search", "at": "start"},
    {"event": "trial", "index": 0, "widths": [3], "score": 0.5, "seconds": 0.1},
    {"event": "trial", "index": 1, "widths": [2], "score": 0.25, "seconds": 0.1},
    {"event": "trial", "index": 2, "widths": [1], "score": 0.75, "seconds": 0.1},
    {"event": "stage_loss", "stage": 1, "widths": [4], "loss": 2.0, "seconds": 0.1},
    {"event": "stage_loss", "stage": 0, "widths": [4], "loss": 3.0, "seconds": 0.1},
    {"event": "stage_loss", "stage": 1, "widths": [5], "loss": 1.0, "seconds": 0.1},
    {"event": "samples", "step": 0, "digest": 1, "losses": [1.0, 2.0], "accuracies": [0.0, 0.5]},
    {"event": "probabilities", "step": 0, "p": [0.9], "record": {}},
    {"event": "probabilities", "step": 1, "p": [0.9], "record": {"used": 1.5, "undecided": 0.25, "effective": 3.0}},
    {
        "event": "round",
        "index": 0,
        "accuracy": 0.5,
        "macs": 7,
        "params": 5,
        "reward": None,
        "entropy": None,
        "seconds": 1.0,
    },
]

SHOWN = {
    "trial/score": [0.5, 0.25, 0.75],
    "trial/best": [0.5, 0.5, 0.75],
    "trial/seconds": pytest.approx([0.1] * 3),
    "stage_loss/0": [3.0],
    "stage_loss/1": [2.0, 1.0],
    "samples/loss": [1.5],
    "samples/accuracy": [0.25],
    "probabilities/used": [1.5],
    "probabilities/undecided": [0.25],
    "probabilities/effective": [3.0],
    "round/accuracy": [0.5],
    "round/best": [0.5],
    "round/macs": [7.0],
    "round/params": [5.0],
    "round/seconds": [1.0],
}


def scalars(folder: Path) -> dict[str, list[float]]:
    """What TensorBoard reads there; the steps of each scalar count from 0."""
    reader = EventAccumulator(str(folder)).Reload()
    found = {name: reader.Scalars(name) for name in reader.Tags()["scalars"]}
    assert all([point.step for point in points] == list(range(len(points))) for points in found.values())
    return {name: [point.value for point in points] for name, points in found.items()}


@pytest.mark.parametrize("kill", range(1, len(EVENTS)))
def test_a_search_that_goes_on_shows_every_event_once(tmp_path: Path, kill: int) -> None:
    folder = tmp_path / "tensorboard"
    with Journal.open(tmp_path / "journal.jsonl") as journal:
        lost = LiveLog(journal, folder).__enter__()
        for event in EVENTS[:kill]:
            lost.append(event)
        if lost._writer is not None:
            lost._writer.flush()  # a killed process writes nothing later; this one's thread would
    with Journal.open(tmp_path / "journal.jsonl") as journal, LiveLog(journal, folder) as live:
        assert len(live.events) == kill
        for event in EVENTS[kill:]:
            live.append(event)
        assert list(live.events) == EVENTS
    assert scalars(folder) == SHOWN
    lost.__exit__(None, None, None)


def test_a_log_without_points_makes_no_folder(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.jsonl") as journal, LiveLog(journal, tmp_path / "tensorboard") as live:
        live.append(EVENTS[0])
    assert not (tmp_path / "tensorboard").exists()


def test_a_run_shows_its_search(tmp_path: Path) -> None:
    torch.manual_seed(0)
    result = widthwise.compress(
        widthwise.build_model("digits_net"),
        "digits",
        budget=widthwise.Budget(macs=0.5),
        method=FNNP(candidates=4, finalists=1, calibration_images=50, validation_images=50),
        finetune=TrainConfig(epochs=0),
        run=tmp_path,
    )
    shown = scalars(tmp_path / "tensorboard" / "search")["trial/score"]
    assert shown == pytest.approx([trial.score for trial in sorted(result.trials, key=lambda t: t.index)])
