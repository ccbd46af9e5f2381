"""Who gets which task, who is replaced, what is tried again: with workers that are made up."""

import pickle
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from widthwise.errors import WorkerDied
from widthwise.parallel import in_order
from widthwise.parallel.dispatch import Gone, RemotePool, Worker
from widthwise.parallel.message import answer


@dataclass(eq=False)
class Fake:
    """Squares numbers; dies where the script says so."""

    index: int
    dies: Callable[[object], bool]
    owed: object = "make"
    ended: list[str] = field(default_factory=list)

    def send(self, task: bytes) -> None:
        assert self.owed is None, "it has a task"
        self.owed = pickle.loads(task)
        if self.dies(("send", self.owed)):
            raise Gone("broken pipe")

    def receive(self) -> bytes:
        task, self.owed = self.owed, None
        if self.dies(task):
            raise Gone("killed")
        if task == "make":
            return answer(lambda: None)
        assert isinstance(task, int)
        return answer(lambda: task**2)

    def dismiss(self, *, at_once: bool) -> None:
        self.ended.append("at once" if at_once else "by itself")

    def join(self) -> None:
        assert self.ended
        self.ended.append("joined")


class Office:
    """Starts fakes, answers for a random part of them."""

    def __init__(self, count: int, retries: int, dies: Callable[[object], bool], seed: int = 0) -> None:
        self.random, self.dies = random.Random(seed), dies
        self.hired: list[Fake] = []
        self.pool: RemotePool[int, int] = RemotePool(count, self.start, self.wait, retries)

    def start(self, index: int) -> Worker:
        self.hired.append(Fake(index, self.dies))
        return self.hired[-1]

    def wait(self, workers: Sequence[Worker]) -> Sequence[Worker]:
        assert workers, "nobody to wait for"
        return self.random.sample(list(workers), self.random.randint(1, len(workers)))

    def close(self) -> None:
        self.pool.close()
        assert all("joined" in fake.ended for fake in self.hired)


def never(_: object) -> bool:
    return False


@pytest.mark.parametrize("seed", range(30))
def test_every_task_once_whatever_the_order_and_the_deaths(seed: int) -> None:
    chance = random.Random(seed)
    count, tasks = chance.randint(1, 5), chance.randint(0, 30)
    office = Office(count, 1000, lambda _: chance.random() < 0.2, seed)
    for _ in range(2):
        found = list(office.pool.map(range(tasks)))
        assert sorted(found) == [(n, n * n) for n in range(tasks)]
    assert [fake.index for fake in office.hired[:count]] == list(range(count))
    office.close()


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("where", [4, ("send", 4)])
def test_a_deadly_task_is_tried_so_often_and_named(retries: int, where: object) -> None:
    office = Office(3, retries, lambda task: task == where)
    with pytest.raises(WorkerDied, match=rf"task 4 \(4\) ended {retries + 1} workers"):
        list(office.pool.map(range(9)))
    assert len(office.hired) == 3 + retries + 1
    assert list(in_order(office.pool.map(range(4)))) == [0, 1, 4, 9]
    office.close()


def test_workers_that_die_before_their_first_task() -> None:
    office = Office(1, 2, lambda task: task == "make")
    with pytest.raises(WorkerDied, match=r"3 in a row died before \(killed\).*__main__"):
        list(office.pool.map(range(9)))
    office.close()


def test_a_maker_that_raises_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office(1, 2, never)
    monkeypatch.setattr(Fake, "receive", lambda self: answer(lambda: [][0]))
    with pytest.raises(IndexError) as caught:
        list(office.pool.map(range(9)))
    assert "In the worker:" in caught.value.__notes__[0]
    monkeypatch.undo()
    assert list(in_order(office.pool.map(range(3)))) == [0, 1, 4]
    office.close()


def test_no_tasks_wait_for_nobody() -> None:
    office = Office(2, 0, never)
    assert list(office.pool.map([])) == []
    office.close()
    assert [fake.ended for fake in office.hired] == [["at once", "joined"]] * 2


def test_idle_workers_end_by_themselves_and_busy_ones_at_once() -> None:
    office = Office(2, 0, never)
    list(office.pool.map(range(20)))
    results = office.pool.map([1, 2])
    next(results)
    results.close()
    office.close()
    assert sorted(fake.ended[0] for fake in office.hired) in (["at once", "by itself"], ["by itself"] * 2)


def test_a_start_that_fails_leaves_no_worker_behind() -> None:
    hired: list[Fake] = []

    def start(index: int) -> Worker:
        if index == 2:
            raise OSError("no more processes")
        hired.append(Fake(index, never))
        return hired[-1]

    with pytest.raises(OSError, match="no more processes"):
        RemotePool(3, start, lambda workers: workers, 0)
    assert [fake.ended for fake in hired] == [["at once", "joined"]] * 2
