"""A run that is killed at any moment goes on and ends the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from widthwise.runs import read_events

COMMAND = [
    *(sys.executable, "-m", "widthwise.cli", "prune", "--fnnp.candidates", "12", "--train.epochs", "3"),
    *("--finetune.epochs", "4", "--train.lr", "0.1"),
]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "dumb"}


def outcome(folder: Path) -> tuple[list, dict, dict]:
    trials = [(e["index"], e["widths"], e["score"]) for e in read_events(folder / "journal.jsonl")]
    result = json.loads((folder / "result.json").read_text())
    for figures in result.values():
        del figures["latency_ms"]
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

    def lines() -> int:
        journal = broken / "journal.jsonl"
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    killed_when(broken, (broken / "checkpoints" / "full.pt").exists)
    killed_when(broken, lambda: lines() >= 5)
    assert 4 <= lines() <= 12
    killed_when(broken, (broken / "checkpoints" / "finalist-1.pt").exists)
    assert not (broken / "result.json").exists()
    subprocess.run([*COMMAND, "--run", str(broken)], env=ENVIRONMENT, check=True, capture_output=True)
    assert outcome(broken) == outcome(whole)
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
