"""Checkpoints: resuming bit for bit, kills, full disks, damage."""

import dataclasses
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn
from train_worker import CONFIG, examples, network

from widthwise.errors import CorruptRun, RunMismatch, SaveFailed
from widthwise.train import EpochRecord, History, Plan, StepStatus, fit

WORKER = Path(__file__).with_name("train_worker.py")


class StopError(Exception):
    pass


class StopAt:
    """Interrupts a training in the middle of an epoch."""

    def __init__(self, step: int) -> None:
        self.at = step

    def start(self, plan: Plan) -> None:
        self.began = plan.done_steps

    def step(self, status: StepStatus) -> None:
        if status.step == self.at:
            raise StopError

    def epoch(self, record: EpochRecord) -> None: ...

    def finish(self) -> None: ...


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def timeless(history: History) -> list[EpochRecord]:
    return [dataclasses.replace(record, seconds=0.0) for record in history.epochs]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"optimizer": "adamw", "lr": 0.01, "decay_norm": False},
        {"precision": "bf16", "channels_last": True, "schedule": "one_cycle", "warmup_epochs": 0.0},
        {"precision": "fp16", "clip_norm": 0.5},
        {"max_steps": 25, "schedule": "step", "checkpoint_every": 2},
    ],
    ids=str,
)
def test_resuming_gives_the_bits_of_the_uninterrupted_run(tmp_path: Path, change: dict[str, object]) -> None:
    config = dataclasses.replace(CONFIG, **change)
    whole, broken = network(), network()
    want = fit(whole, examples(), config, val=examples(30))
    path = tmp_path / "last.pt"
    for at in (17, 24):
        with pytest.raises(StopError):
            fit(broken, examples(), config, val=examples(30), checkpoint=path, progress=StopAt(at))
    resumed = network()
    watcher = StopAt(-1)
    found = fit(resumed, examples(), config, val=examples(30), checkpoint=path, progress=watcher)
    assert watcher.began in (14, 21)
    assert same(whole, resumed)
    assert timeless(found) == timeless(want)
    again = network()  # a finished training is only read
    assert timeless(fit(again, examples(), config, val=examples(30), checkpoint=path)) == timeless(want)
    assert same(again, whole)
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def run_worker(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(WORKER), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )


def test_killed_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    checkpoint, out = tmp_path / "last.pt", tmp_path / "weights.pt"
    with run_worker(checkpoint, out, "--hang-at", 17) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "step 17\n":
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert checkpoint.exists()
    assert not out.exists()
    with run_worker(checkpoint, out) as process:
        lines = process.communicate()[0].splitlines()
    assert lines[0] == "start 14"
    assert lines[-1] == "step 28"
    whole = network()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        history = fit(whole, examples(), CONFIG, val=examples(30))
    finally:
        torch.set_num_threads(threads)
    found = torch.load(out, weights_only=True)
    assert found["val"] == history.val_accuracy
    for name, value in whole.state_dict().items():
        assert torch.equal(found["weights"][name], value), name


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file may grow beyond `limit` bytes: the write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    with pytest.raises(StopError):
        fit(network(), examples(), CONFIG, checkpoint=path, progress=StopAt(10))
    before = path.read_bytes()
    with full_disk(len(before) // 2), pytest.raises(SaveFailed, match=r"last\.pt could not be written"):
        fit(network(), examples(), CONFIG, checkpoint=path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]
    whole, resumed = network(), network()
    fit(whole, examples(), CONFIG)
    fit(resumed, examples(), CONFIG, checkpoint=path)
    assert same(whole, resumed)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "last.pt"
    fit(network(), examples(), dataclasses.replace(CONFIG, epochs=1), checkpoint=path)
    return path


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_truncated(written: Path, keep: float) -> None:
    data = written.read_bytes()
    written.write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
    net = network()
    with pytest.raises(CorruptRun, match="delete it to train from the start"):
        fit(net, examples(), dataclasses.replace(CONFIG, epochs=1), checkpoint=written)
    assert same(net, network())


def test_a_flipped_bit_in_the_weights(written: Path) -> None:
    data = bytearray(written.read_bytes())
    weight = torch.load(written, weights_only=True)["model"]["6.weight"].numpy().tobytes()
    data[data.find(weight) + 40] ^= 1
    written.write_bytes(data)
    with pytest.raises(CorruptRun, match="wrong checksum"):
        fit(network(), examples(), dataclasses.replace(CONFIG, epochs=1), checkpoint=written)


def test_another_file_and_pickled_code(written: Path) -> None:
    for content in ({"weights": torch.zeros(3)}, [1, 2], {"format": print}):
        torch.save(content, written)
        with pytest.raises(CorruptRun, match="cannot be read"):
            fit(network(), examples(), dataclasses.replace(CONFIG, epochs=1), checkpoint=written)


def test_checkpoint_of_another_training(written: Path) -> None:
    same_run = dataclasses.replace(CONFIG, epochs=1)
    with pytest.raises(RunMismatch, match=r"lr is 0\.05 there and 0\.1 here; use the former settings"):
        fit(network(), examples(), dataclasses.replace(same_run, lr=0.1), checkpoint=written)
    with pytest.raises(RunMismatch, match="training labels is"):
        fit(network(), examples(99), same_run, checkpoint=written)
    with pytest.raises(RunMismatch, match="model is"):
        fit(network(norm=False), examples(), same_run, checkpoint=written)
    fit(network(), examples(), dataclasses.replace(same_run, checkpoint_every=7), checkpoint=written)


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    found = []
    for processes in (1, 2):
        out = tmp_path / f"weights{processes}.pt"
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        arguments = [str(WORKER), str(tmp_path / f"last{processes}.pt"), str(out), "--plain"]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "ACCELERATE_USE_CPU": "true",
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        }
        subprocess.run([*launch, *arguments], check=True, env=environment, timeout=300)
        found.append(torch.load(out, weights_only=True))
    assert found[0]["val"] == found[1]["val"]
    for name, value in found[0]["weights"].items():
        torch.testing.assert_close(found[1]["weights"][name], value, rtol=1e-4, atol=1e-5, msg=name)
