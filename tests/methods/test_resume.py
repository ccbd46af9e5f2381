"""A run that is killed at any moment goes on and ends the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from widthwise.methods import RunRecord

COMMAND = [
    *(sys.executable, "-m", "widthwise.cli", "prune", "--fnnp.candidates", "12", "--train.epochs", "3"),
    *("--finetune.epochs", "4", "--train.lr", "0.1"),
]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "dumb"}


def outcome(folder: Path) -> tuple[list, dict, dict]:
    run = RunRecord.read(folder)
    trials = [(e["index"], e["widths"], e["score"]) for e in run.of("trial")]
    result = json.loads((folder / "result.json").read_text())
    for part in ("before", "after"):
        del result[part]["latency_ms"]
    for trial in result["trials"]:
        del trial["seconds"]
    return trials, json.loads((folder / "subnet.json").read_text()), result


def killed_when(folder: Path, ready) -> None:
    """Start the command and kill it as soon as ``ready()`` is true."""
    process = subprocess.Popen(
        [*COMMAND, "--run", str(folder)], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and not ready():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_killed_in_training_in_the_search_and_in_fine_tuning(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run([*COMMAND, "--run", str(whole)], env=ENVIRONMENT, check=True, capture_output=True)

    def trials() -> int:
        journal = broken / "journal.jsonl"
        return journal.read_bytes().count(b'"trial"') if journal.exists() else 0

    killed_when(broken, (broken / "checkpoints" / "full.pt").exists)
    killed_when(broken, lambda: trials() >= 4)
    assert 3 <= trials() <= 11
    killed_when(broken, (broken / "checkpoints" / "finalist-1.pt").exists)
    assert not RunRecord.read(broken).finished
    subprocess.run([*COMMAND, "--run", str(broken)], env=ENVIRONMENT, check=True, capture_output=True)
    assert outcome(broken) == outcome(whole)
    runs = [RunRecord.read(whole), RunRecord.read(broken)]
    assert [(run.finished, run.cut, len(run.environments)) for run in runs] == [(True, False, 1), (True, True, 4)]
    assert all(list(run.seconds) == ["train", "search", "finetune", "measure"] for run in runs)
    assert [len(run.trainings["finalist-1"].epochs) for run in runs] == [4, 4]
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
