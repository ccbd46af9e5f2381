"""Files are replaced whole or not at all: on errors, full disks and kills."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from widthwise.errors import CorruptRun, SaveFailed
from widthwise.runs.atomic import read_json, remove_temporaries, write_atomic, write_json
from widthwise.runs.journal import Journal

TENSORS = {"a": torch.zeros(300, 300)}  # 360 kB
WRITERS = {
    "bytes": lambda tmp: tmp.write_bytes(bytes(360_000)),
    "safetensors": lambda tmp: save_file(TENSORS, tmp),
    "torch.save": lambda tmp: torch.save(TENSORS, tmp),
}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine does not let us mount a small file system: {error}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_replaces_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_atomic(path, lambda tmp: tmp.write_text("one"))
    write_atomic(path, lambda tmp: tmp.write_text("two"))
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_writer_sees_a_hidden_file_with_the_same_suffix_beside_the_target(tmp_path: Path) -> None:
    seen: list[Path] = []

    def write(tmp: Path) -> None:
        seen.append(tmp)
        tmp.touch()

    write_atomic(tmp_path / "plot.png", write)
    assert seen[0].suffix == ".png"
    assert seen[0].parent == tmp_path
    assert seen[0].name.startswith(".")


def test_follows_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    write_atomic(tmp_path / "link.txt", lambda tmp: tmp.write_text("new"))
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


@pytest.mark.parametrize("error", [ValueError("mine"), RuntimeError("mine"), KeyboardInterrupt()])
def test_a_mistake_in_the_writer_passes_through_and_changes_nothing(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(tmp: Path) -> None:
        tmp.write_text("half")
        raise error

    with pytest.raises(type(error)) as caught:
        write_atomic(path, write)
    assert caught.value is error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_way_is_save_failed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(SaveFailed, match=r"could not be written: .*irectory.*free space"):
        write_atomic(tmp_path / "a", lambda tmp: tmp.write_text("x"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("writer", list(WRITERS))
def test_a_full_disk_keeps_the_previous_file(small_disk: Path, writer: str) -> None:
    path = small_disk / "model.bin"
    path.write_bytes(b"previous")
    with pytest.raises(SaveFailed, match="previous file is intact; free space"):
        write_atomic(path, WRITERS[writer])
    assert path.read_bytes() == b"previous"
    assert list(small_disk.iterdir()) == [path]


def test_a_full_disk_keeps_the_journal_whole(small_disk: Path) -> None:
    with Journal.open(small_disk / "journal.jsonl") as journal:
        with pytest.raises(SaveFailed, match="could not be written"):
            _append_until_full(journal)
        count = len(journal.events)
        assert 5 < count < 1000
        whole = (small_disk / "journal.jsonl").read_bytes()
        assert whole.endswith(b"\n")
        assert whole.count(b"\n") == 1 + count
    with Journal.open(small_disk / "journal.jsonl") as journal:
        assert len(journal.events) == count


def _append_until_full(journal: Journal) -> None:
    for _ in range(1000):
        journal.append({"event": "tell", "filler": "x" * 5000})


def test_a_file_size_limit_keeps_the_previous_file(tmp_path: Path) -> None:
    """The full disk that every machine can make: a limit on the size of files, in another process."""
    script = textwrap.dedent(
        """
        import resource, sys
        from pathlib import Path
        import torch
        from safetensors.torch import save_file
        from widthwise.errors import SaveFailed
        from widthwise.runs import Journal, write_atomic
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        folder, tensors = Path(sys.argv[1]), {"a": torch.zeros(300, 300)}
        for write in (lambda p: p.write_bytes(bytes(360_000)), lambda p: save_file(tensors, p),
                      lambda p: torch.save(tensors, p)):
            try:
                write_atomic(folder / "model.bin", write)
            except SaveFailed as error:
                print(error)
        journal = Journal.open(folder / "journal.jsonl")
        for filler in ("a", "b" * 200_000, "c"):
            try:
                journal.append({"filler": filler})
            except SaveFailed as error:
                print(error)
        """
    )
    (tmp_path / "model.bin").write_bytes(b"previous")
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stdout
    assert all("the previous file is intact" in line for line in lines)
    assert "File too large" in lines[0]
    assert "File too large" in lines[1]
    assert "full disk" in lines[2]
    assert (tmp_path / "model.bin").read_bytes() == b"previous"
    assert {entry.name for entry in tmp_path.iterdir()} == {"model.bin", "journal.jsonl"}
    with Journal.open(tmp_path / "journal.jsonl") as journal:
        assert [event["filler"] for event in journal.events] == ["a", "c"]


def test_a_kill_while_writing_keeps_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    child = os.fork()
    if child == 0:

        def write(tmp: Path) -> None:
            tmp.write_text("half")
            time.sleep(60)

        write_atomic(path, write)
        os._exit(0)
    deadline = time.monotonic() + 20
    while not list(tmp_path.glob(".*.tmp*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / ".tmpAb3xYz").touch()  # what safetensors leaves
    remove_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_sorted_readable_and_exact(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None, True], "a": {"é": 0.1 + 0.2}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert (tmp_path / "a.json").read_text(encoding="utf-8").startswith('{\n  "a": {\n    "é"')


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": object()}])
def test_json_refuses_what_has_no_form(tmp_path: Path, value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        write_json(tmp_path / "a.json", value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe", b"\0\0\0"])
def test_damaged_json_is_a_corrupt_run(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CorruptRun, match=r"a\.json must hold JSON.*backup"):
        read_json(tmp_path / "a.json")


def test_missing_json_is_a_corrupt_run(tmp_path: Path) -> None:
    with pytest.raises(CorruptRun, match="No such file"):
        read_json(tmp_path / "a.json")
