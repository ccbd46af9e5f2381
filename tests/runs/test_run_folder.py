"""A run folder belongs to one configuration and one process, and overwrites nothing that is not its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from widthwise.errors import CorruptRun, RunError, RunMismatch, SaveFailed
from widthwise.runs import RunFolder, RunPaths, read_json

CONFIG: dict[str, Any] = {"model": "resnet56", "budget": {"macs": 0.5, "params": None}, "ratios": (0.1, 0.2)}


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_starts_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a"
    with RunFolder.open(path, CONFIG, seeds={"search": 1}) as run:
        assert not run.resumed
        run.journal.append({"event": "ask"})
    with RunFolder.open(path, CONFIG, seeds={"search": 1}) as run:
        assert run.resumed
        assert run.journal.events == ({"event": "ask"},)
    assert read_json(path / "config.json") == {**CONFIG, "ratios": [0.1, 0.2]}
    entries = read_json(path / "environment.json")
    assert [entry["seeds"] for entry in entries] == [{"search": 1}, {"search": 1}]


def test_paths() -> None:
    paths = RunPaths("runs/a")
    names = [
        paths.config_path,
        paths.journal_path,
        paths.environment_path,
        paths.model_path,
        paths.subnet_path,
    ]
    assert [str(path) for path in (*names, paths.checkpoints)] == [
        "runs/a/config.json",
        "runs/a/journal.jsonl",
        "runs/a/environment.json",
        "runs/a/model.safetensors",
        "runs/a/subnet.json",
        "runs/a/checkpoints",
    ]
    assert not paths.path.exists()


def test_another_configuration_is_refused_with_both_values(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, CONFIG).close()
    before = _snapshot(tmp_path)
    other = {"model": "resnet56", "budget": {"macs": 0.3, "params": None}, "ratios": [0.1, 0.2], "new": 1}
    with pytest.raises(RunMismatch) as caught:
        RunFolder.open(tmp_path, other)
    message = str(caught.value)
    assert "budget.macs: 0.5 there, 0.3 now" in message
    assert "new: (not set) there, 1 now" in message
    assert "model" not in message
    assert "params" not in message
    assert "another folder, or use the same settings" in message
    assert _snapshot(tmp_path) == before
    RunFolder.open(tmp_path, CONFIG).close()  # the refusal gave the lock back


def test_a_long_list_of_differences_is_cut(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, {f"key{index:02}": 0 for index in range(30)}).close()
    with pytest.raises(RunMismatch, match="and 10 more") as caught:
        RunFolder.open(tmp_path, {f"key{index:02}": 1 for index in range(30)})
    assert str(caught.value).count("there") == 20


def test_whole_numbers_may_be_floats(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, {"lr": 1}).close()
    RunFolder.open(tmp_path, {"lr": 1.0}).close()


def test_a_folder_with_other_files_is_refused_and_untouched(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "notes.txt"):
        (tmp_path / name).write_text("mine")
    before = _snapshot(tmp_path)
    with pytest.raises(RunMismatch, match=r"holds 3 entries \(config.json, .*name another folder"):
        RunFolder.open(tmp_path, CONFIG)
    assert _snapshot(tmp_path) == before


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(RunMismatch, match="is a file"):
        RunFolder.open(tmp_path / "a", CONFIG)
    with pytest.raises(SaveFailed):
        RunFolder.open(tmp_path / "a" / "b", CONFIG)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, CONFIG), pytest.raises(RunError, match="one process at a time"):
        RunFolder.open(tmp_path, CONFIG)


@pytest.mark.parametrize("journal", [b"", b'{"crc":"'])
def test_killed_while_starting_starts_again(tmp_path: Path, journal: bytes) -> None:
    """A kill after the journal was created and before the configuration was written."""
    (tmp_path / "journal.jsonl").write_bytes(journal)
    (tmp_path / ".config.123.tmp.json").write_text('{"half')
    with RunFolder.open(tmp_path, CONFIG) as run:
        assert not run.resumed
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "journal.jsonl", "environment.json"}


def test_temporary_files_of_killed_writers_are_removed(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, CONFIG).close()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".last.77.tmp.pt").touch()
    (tmp_path / "checkpoints" / "last.pt").touch()
    RunFolder.open(tmp_path, CONFIG).close()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.pt"]


def test_a_lost_configuration_is_damage(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, CONFIG) as run:
        run.journal.append({"event": "ask"})
    (tmp_path / "config.json").unlink()
    with pytest.raises(CorruptRun, match=r"config\.json is missing"):
        RunFolder.open(tmp_path, CONFIG)


@pytest.mark.parametrize("name", ["config.json", "environment.json"])
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    RunFolder.open(tmp_path, CONFIG).close()
    (tmp_path / name).write_text('{"half')
    with pytest.raises(CorruptRun, match=name):
        RunFolder.open(tmp_path, CONFIG)


def test_environment_must_be_a_list(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, CONFIG).close()
    (tmp_path / "environment.json").write_text(json.dumps({}))
    with pytest.raises(CorruptRun, match="must hold a list"):
        RunFolder.open(tmp_path, CONFIG)
