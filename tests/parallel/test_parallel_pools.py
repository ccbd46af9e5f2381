"""The contract of every pool, and what workers in other processes add: deaths, errors, nothing left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import psutil
import pytest
import torch
from parallel_tasks import Act, Make, make

from widthwise.errors import ConfigError, TaskFailed, WorkerDied
from widthwise.parallel import ParallelConfig, Pool, in_order, workers

SQUARES = [Act("square", n) for n in range(12)]


def local_workers() -> list[psutil.Process]:
    """Living children, but for the tracker that multiprocessing keeps until the end of the program."""
    children = psutil.Process().children(recursive=True)
    return [c for c in children if c.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(c.cmdline())]


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notes")


def ray_is_missing() -> str:
    try:
        import ray  # noqa: F401
    except ImportError:
        return "needs ray: pip install 'widthwise[ray]'"
    return ""


REMOTE = [
    "local",
    pytest.param("ray", marks=pytest.mark.skipif(bool(ray_is_missing()), reason=ray_is_missing() or "installed")),
]


@pytest.fixture(scope="module")
def made(notes: Path) -> Make:
    return make(notes / "made")


@pytest.fixture(scope="module", params=REMOTE)
def pool(request: pytest.FixtureRequest, made: Make) -> Iterator[Pool[Act, object]]:
    with workers(ParallelConfig(kind=request.param, workers=2, threads=2, retries=1), made) as opened:
        yield opened
    assert local_workers() == []
    assert multiprocessing.active_children() == []


def test_every_result_once_with_its_position(pool: Pool[Act, object]) -> None:
    found = list(pool.map(SQUARES))
    assert sorted(found) == [(n, n * n) for n in range(12)]
    assert list(in_order(found)) == [n * n for n in range(12)]
    assert list(pool.map([])) == []


def test_made_once_per_worker_with_its_threads(pool: Pool[Act, object], notes: Path) -> None:
    facts = list(in_order(pool.map([Act("facts")] * 8)))
    made = {int(pid) for pid in (notes / "made").read_text().split()}
    assert {pid for pid, _, _ in facts} <= made
    assert os.getpid() not in made
    assert {(threads, total) for _, threads, total in facts} == {(2, 1000.0)}


def test_the_same_bits_as_in_this_process(pool: Pool[Act, object]) -> None:
    acts = [Act("forward", n) for n in range(6)]
    with workers(ParallelConfig(threads=2), make()) as here:
        want = list(in_order(here.map(acts)))
    for found, logits in zip(in_order(pool.map(acts)), want, strict=True):
        assert torch.equal(found, logits)


def test_a_task_error_arrives_with_its_traceback_and_is_not_tried_again(pool: Pool[Act, object]) -> None:
    with pytest.raises(ValueError, match="act 5 is impossible") as caught:
        list(pool.map([*SQUARES[:5], Act("fail", 5), *SQUARES[6:]]))
    assert "in fail" in caught.value.__notes__[0]
    with pytest.raises(TaskFailed, match="UnportableError: 1 and 2"):
        list(pool.map([Act("fail_oddly")]))
    assert list(in_order(pool.map(SQUARES))) == [n * n for n in range(12)]


def test_a_map_that_is_left_early_is_forgotten(pool: Pool[Act, object]) -> None:
    results = pool.map(SQUARES)
    next(results)
    with pytest.raises(ConfigError, match="one map at a time"):
        next(pool.map(SQUARES))
    results.close()
    assert list(in_order(pool.map(SQUARES))) == [n * n for n in range(12)]


def test_tasks_are_drawn_as_workers_become_free(pool: Pool[Act, object]) -> None:
    drawn: list[int] = []

    def tasks() -> Iterator[Act]:
        for act in SQUARES:
            drawn.append(act.number)
            yield act

    for done, _ in enumerate(pool.map(tasks()), start=1):
        assert len(drawn) <= done + 2


def test_a_killed_worker_costs_only_its_task(pool: Pool[Act, object], tmp_path: Path) -> None:
    acts = [*SQUARES[:3], Act("die_once", 3, tmp_path / "deaths"), *SQUARES[4:]]
    assert list(in_order(pool.map(acts))) == [3 if n == 3 else n * n for n in range(12)]
    assert (tmp_path / "deaths").read_text() == "xx"


def test_an_idle_worker_that_is_killed_is_replaced(pool: Pool[Act, object]) -> None:
    ((_, (pid, *_)),) = pool.map([Act("facts")])
    os.kill(pid, signal.SIGKILL)
    assert list(in_order(pool.map(SQUARES))) == [n * n for n in range(12)]


def test_what_a_worker_changes_stays_its_own(pool: Pool[Act, object], made: Make) -> None:
    assert list(in_order(pool.map([Act("spoil", 2), Act("spoil", 2)]))) == [2000.0] * 2
    assert float(made.weight.sum()) == 1000.0
    assert not made.weight.is_shared()


def test_a_task_that_kills_its_workers_is_named(pool: Pool[Act, object]) -> None:
    with pytest.raises(WorkerDied, match=r"task 2 \(Act\(kind='die', number=2.* ended 2 workers"):
        list(pool.map([*SQUARES[:2], Act("die", 2), *SQUARES[3:]]))


def test_what_cannot_be_pickled_is_refused() -> None:
    with (
        pytest.raises(ConfigError, match="must be picklable to reach"),
        workers(ParallelConfig(workers=1), lambda: abs),
    ):
        pass
    assert local_workers() == []


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell that starts something in the background lets it ignore Ctrl-C; Python then does too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_a_busy_worker(tmp_path: Path) -> None:
    note = tmp_path / "pid"

    def press() -> None:
        wait_for_pid(note)
        os.kill(os.getpid(), signal.SIGINT)

    thread = Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt), workers(ParallelConfig(workers=1), make()) as pool:
        list(pool.map([Act("sleep", path=note)]))
    thread.join()
    assert local_workers() == []


SCRIPT = """
import sys
from pathlib import Path
from parallel_tasks import Act, make
from widthwise.parallel import ParallelConfig, workers

if __name__ == "__main__":
    with workers(ParallelConfig(workers=1), make()) as pool:
        list(pool.map([Act("sleep", path=Path(sys.argv[1]))]))
"""


def test_workers_end_with_a_program_that_is_killed(tmp_path: Path) -> None:
    script, note = tmp_path / "script.py", tmp_path / "pid"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, str(script), str(note)], env=environment) as program:
        worker = psutil.Process(wait_for_pid(note))
        program.kill()
    psutil.wait_procs([worker], timeout=10)
    assert not worker.is_running()


def wait_for_pid(note: Path) -> int:
    for _ in range(600):
        if note.exists() and note.read_text():
            return int(note.read_text())
        time.sleep(0.1)
    raise AssertionError("the worker did not start")


def test_in_this_process_threads_are_given_back_and_errors_are_plain() -> None:
    before = torch.get_num_threads()
    with workers(ParallelConfig(threads=2), make()) as pool:
        results = pool.map([Act("facts"), Act("fail", 4)])
        position, (pid, threads, _) = next(results)
        assert (position, pid, threads) == (0, os.getpid(), 2)
        assert torch.get_num_threads() == before
        with pytest.raises(ValueError, match="act 4 is impossible"):
            next(results)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": -1}, "workers must be at least 0"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"retries": -1}, "retries must be at least 0"),
        ({"kind": "ray"}, "Ray needs workers"),
        ({"workers": 1, "address": "auto"}, "an address is that of a Ray cluster"),
    ],
    ids=str,
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ParallelConfig(**settings)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ConfigError, match="pip install 'widthwise\\[ray\\]'"),
        workers(ParallelConfig(kind="ray", workers=1), make()),
    ):
        pass
