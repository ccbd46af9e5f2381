"""The journal: what was appended comes back, whatever happens to the process in between."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from widthwise.errors import CorruptRun, RunError
from widthwise.runs.journal import Journal, read_events

EVENTS = [
    {"event": "ask", "index": 0, "keep": [True, False]},
    {"event": "tell", "index": 0, "score": 0.1 + 0.2},
    {"event": "note", "text": "größer\nzweite Zeile"},
]

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


def _fill(path: Path, events: list[dict[str, object]] = EVENTS) -> bytes:
    with Journal.open(path) as journal:
        for event in events:
            journal.append(event)
    return path.read_bytes()


def test_replays_what_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal.jsonl"
    _fill(path, EVENTS[:2])
    with Journal.open(path) as journal:
        assert list(journal.events) == EVENTS[:2]
        journal.append(EVENTS[2])
        assert list(journal.events) == EVENTS
    assert read_events(path) == EVENTS


def test_lines_are_compact_sorted_json_with_a_header(tmp_path: Path) -> None:
    lines = _fill(tmp_path / "j").decode().splitlines()
    assert len(lines) == 4
    parsed = [json.loads(line) for line in lines]
    assert (parsed[0]["event"], parsed[0]["format"]) == ("header", 1)
    for line, value in zip(lines, parsed, strict=True):
        assert line == json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=JSON_VALUES)
def test_values_come_back_exactly(tmp_path: Path, value: object) -> None:
    path = tmp_path / "j"
    path.unlink(missing_ok=True)
    with Journal.open(path) as journal:
        journal.append({"value": value})
        written = journal.events[-1]
    assert read_events(path) == [written] == [{"value": value}]
    # `==` takes 0.0 for -0.0 and 1 for 1.0; the text does not.
    assert json.dumps(read_events(path)[0]["value"], sort_keys=True) == json.dumps(value, sort_keys=True)


@pytest.mark.parametrize(
    "event",
    [
        {"a": math.nan},
        {"a": [math.inf]},
        {"a": {1: 2}},
        {"a": object()},
        {"crc": "00000000"},
        {"a": [{(): 1}]},
        {"a": "\ud800"},
    ],
)
def test_refuses_what_would_not_come_back(tmp_path: Path, event: dict[str, object]) -> None:
    with Journal.open(tmp_path / "j") as journal:
        with pytest.raises(RunError, match="plain JSON data"):
            journal.append(event)
        journal.append({"a": 1})
        assert journal.events == ({"a": 1},)
    assert read_events(tmp_path / "j") == [{"a": 1}]


def test_torn_at_every_byte_the_whole_lines_are_kept(tmp_path: Path) -> None:
    whole = _fill(tmp_path / "j")
    for size in range(len(whole)):
        path = tmp_path / f"{size}.jsonl"
        path.write_bytes(whole[:size])
        complete = max(whole[:size].count(b"\n") - 1, 0)
        assert read_events(path) == EVENTS[:complete]
        assert path.read_bytes() == whole[:size]
        with Journal.open(path) as journal:
            assert list(journal.events) == EVENTS[:complete]
            for event in EVENTS[complete:]:
                journal.append(event)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("tail", [b"\0\0\0\0", b"garbage\n", b'{"event":"tell"}\n', b"{}", b"\xff\xff\n", b"[" * 9999])
def test_a_bad_end_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    whole = _fill(tmp_path / "j")
    (tmp_path / "j").write_bytes(whole + tail)
    assert read_events(tmp_path / "j") == EVENTS
    with Journal.open(tmp_path / "j") as journal:
        assert list(journal.events) == EVENTS
    assert (tmp_path / "j").read_bytes() == whole


def test_any_changed_byte_before_the_last_line_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "j"
    whole = _fill(path)
    last = whole[:-1].rindex(b"\n")
    for position in range(last):
        changed = bytearray(whole)
        changed[position] ^= 1
        path.write_bytes(changed)
        line = whole[:position].count(b"\n") + 1
        with pytest.raises(CorruptRun, match=f"line {line} of .*backup"):
            Journal.open(path)
        assert path.read_bytes() == changed


def test_a_torn_middle_line_is_damage(tmp_path: Path) -> None:
    lines = _fill(tmp_path / "j").splitlines(keepends=True)
    (tmp_path / "j").write_bytes(b"".join([lines[0], lines[1][:10], b"\n", *lines[2:]]))
    with pytest.raises(CorruptRun, match="line 2"):
        Journal.open(tmp_path / "j")
    # The same when the end is torn as well: one torn line is a kill, two are damage.
    (tmp_path / "j").write_bytes(b"".join([lines[0], lines[1], lines[2][:10], b"\n", lines[3][:5]]))
    with pytest.raises(CorruptRun, match="line 3"):
        Journal.open(tmp_path / "j")


@pytest.mark.parametrize("content", [b"hello", b"hello\n", b'{"a": 1}\n', b'{"a": 1}\n{"b": 2}\n'])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "j").write_bytes(content)
    with pytest.raises(CorruptRun, match="line 1"):
        Journal.open(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == content


def test_a_missing_journal_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CorruptRun, match="No such file"):
        read_events(tmp_path / "j")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    # The CRC is that of {"event":"header","format":2}.
    (tmp_path / "j").write_bytes(b'{"crc":"%s","event":"header","format":2}\n' % _crc(b'{"event":"header","format":2}'))
    with pytest.raises(RunError, match="has format 2"):
        Journal.open(tmp_path / "j")


def _crc(data: bytes) -> bytes:
    """CRC-32 (reflected, polynomial 0xEDB88320) bit by bit, an oracle for zlib's."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0xEDB88320 if register & 1 else 0)
    return b"%08x" % (register ^ 0xFFFFFFFF)


def test_journals_of_format_1_stay_readable() -> None:
    asset = Path(__file__).parent / "assets" / "journal-format-1.jsonl"
    assert read_events(asset) == EVENTS


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal.open(path), pytest.raises(RunError, match=r"one process at a time.*another folder"):
        Journal.open(path)
    Journal.open(path).close()


def test_another_process_holds_the_journal_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "j"
    _fill(path)
    script = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="another one holds"):
            Journal.open(path)
        assert read_events(path) == EVENTS  # readers need no lock
        other.kill()
    Journal.open(path).close()


def test_a_forked_worker_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A worker that outlives its killed parent must not stop the resumed run."""
    journal = Journal.open(tmp_path / "j")
    reader, writer = os.pipe()
    ready, started = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.write(started, b"!")
        os.read(reader, 1)
        os._exit(0)
    os.read(ready, 1)
    try:
        with pytest.raises(RunError, match="another one holds"):
            Journal.open(tmp_path / "j")  # the parent holds it still
        journal.close()
        Journal.open(tmp_path / "j").close()
    finally:
        for handle in (reader, writer, ready, started):
            os.close(handle)
        os.waitpid(child, 0)


def test_a_closed_journal_refuses(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "j")
    journal.close()
    journal.close()
    with pytest.raises(RunError, match="was closed"):
        journal.append({"a": 1})


def test_killed_while_appending_loses_nothing_that_was_told(tmp_path: Path) -> None:
    path = tmp_path / "j"
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from widthwise.runs.journal import Journal
        journal = Journal.open(Path(sys.argv[1]))
        for index in range(10**6):
            journal.append({"index": index, "filler": "x" * 2000})
            print(index, flush=True)
        """
    )
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= 50:
                break
        os.kill(writer.pid, signal.SIGKILL)
        told = [int(line) for line in writer.stdout.read().splitlines() if line]
    with Journal.open(path) as journal:
        indices = [event["index"] for event in journal.events]
    assert indices == list(range(len(indices)))
    assert len(indices) > max([50, *told[:-1]])
