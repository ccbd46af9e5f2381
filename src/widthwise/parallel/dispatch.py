"""Who does what: hands tasks to workers, replaces those that die, tries their tasks again."""

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from widthwise.errors import ConfigError, WorkerDied
from widthwise.parallel.message import outcome

__all__ = ["Gone", "RemotePool", "Worker"]

Task = TypeVar("Task")
Result = TypeVar("Result")


class Gone(Exception):  # caught here, never seen by a user
    """A worker has ended; the text says how."""


@runtime_checkable
class Worker(Protocol):
    """One worker, from its start. Its first answer says whether the evaluator could be made."""

    def send(self, task: bytes) -> None:
        """Gives it a task; raises Gone."""
        ...

    def receive(self) -> bytes:
        """Its answer; raises Gone. Waits if there is none yet."""
        ...

    def dismiss(self, *, at_once: bool) -> None:
        """Tells it to end; kills it if `at_once`. Does not wait."""
        ...

    def join(self) -> None:
        """Waits until it has ended."""
        ...


@dataclass(eq=False)
class _Job:
    position: int
    task: Any
    message: bytes
    failures: int = 0


class _Jobs:
    """The tasks that nobody has yet: those to be tried again first, then new ones, drawn when they are wanted."""

    def __init__(self, tasks: Iterable[Any]) -> None:
        self._new = enumerate(tasks)
        self._waiting: deque[_Job] = deque()

    def take(self) -> _Job | None:
        return self._waiting.popleft() if self.has_more() else None

    def put_back(self, job: _Job) -> None:
        self._waiting.appendleft(job)

    def has_more(self) -> bool:
        if not self._waiting:
            for position, task in self._new:
                self._waiting.append(_Job(position, task, pickle.dumps(task)))
                break
        return bool(self._waiting)


@dataclass(eq=False)
class _Slot:
    """A place for a worker."""

    index: int
    worker: Worker
    making: bool = True
    """Its first answer is still to come."""
    failures: int = 0
    """Workers that died here while they were made."""
    job: _Job | None = None
    abandoned: bool = False
    """Nobody waits for the answer to its job any more."""


class RemotePool(Generic[Task, Result]):
    """A pool of workers in other processes.

    Args:
        count: how many.
        start: makes the worker with this index, in 0..count-1; returns at once.
        wait: of these workers, those that have answered or died; at least one.
        retries: see `ParallelConfig`.
    """

    def __init__(
        self,
        count: int,
        start: Callable[[int], Worker],
        wait: Callable[[Sequence[Worker]], Sequence[Worker]],
        retries: int,
    ) -> None:
        self._start, self._wait, self._retries = start, wait, retries
        self._mapping = False
        self._slots: list[_Slot] = []
        try:
            for index in range(count):
                self._slots.append(_Slot(index, start(index)))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends all workers, those that work at once, and waits for it."""
        for slot in self._slots:
            slot.worker.dismiss(at_once=slot.making or slot.job is not None)
        for slot in self._slots:
            slot.worker.join()

    def map(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Result]]:
        """See `widthwise.parallel.Pool`."""
        if self._mapping:
            raise ConfigError("a pool serves one map at a time; finish the former one, or open another pool")
        self._mapping = True
        jobs = _Jobs(tasks)
        try:
            while self._hand_out(jobs):
                pending = {id(s.worker): s for s in self._slots if s.making or s.job is not None}
                for worker in self._wait([slot.worker for slot in pending.values()]):
                    yield from self._collect(pending[id(worker)], jobs)
        finally:
            self._mapping = False
            for slot in self._slots:
                slot.abandoned = slot.job is not None

    def _hand_out(self, jobs: _Jobs) -> bool:
        """Gives jobs to idle workers; whether any job is open."""
        for slot in self._slots:
            if slot.making or slot.job is not None:
                continue
            job = jobs.take()
            if job is None:
                break
            slot.job = job
            try:
                slot.worker.send(job.message)
            except Gone as gone:
                self._replace(slot, gone, jobs)
        return any(s.job is not None and not s.abandoned for s in self._slots) or jobs.has_more()

    def _collect(self, slot: _Slot, jobs: _Jobs) -> Iterator[tuple[int, Result]]:
        try:
            message = slot.worker.receive()
        except Gone as gone:
            self._replace(slot, gone, jobs)
            return
        if slot.making:
            self._welcome(slot, message)
            return
        job, abandoned = slot.job, slot.abandoned
        slot.job, slot.abandoned = None, False
        if job is not None and not abandoned:
            yield job.position, outcome(message)

    def _welcome(self, slot: _Slot, message: bytes) -> None:
        try:
            outcome(message)
        except BaseException:  # the maker's own error: this worker has ended, the next map may try again
            self._renew(slot)
            raise
        slot.making, slot.failures = False, 0

    def _renew(self, slot: _Slot) -> None:
        slot.worker.dismiss(at_once=True)
        slot.worker.join()
        slot.job, slot.abandoned, slot.making = None, False, True
        slot.worker = self._start(slot.index)

    def _replace(self, slot: _Slot, gone: Gone, jobs: _Jobs) -> None:
        """Puts a new worker in the place of one that died, and its job back, unless that was once too often."""
        making, job, abandoned = slot.making, slot.job, slot.abandoned
        self._renew(slot)
        if making:
            slot.failures += 1
            if slot.failures > self._retries:
                raise WorkerDied(
                    f"a worker must live until its evaluator is made, but {slot.failures} in a row died before "
                    f"({gone}); see what they printed, give them more memory, or use fewer workers (a script that "
                    "starts workers needs `if __name__ == '__main__':`)"
                ) from gone
        elif job is not None and not abandoned:
            job.failures += 1
            if job.failures > self._retries:
                raise WorkerDied(
                    f"a worker must live until its task is done, but task {job.position} ({_short(job.task)}) ended "
                    f"{job.failures} workers (the last: {gone}); leave that task out, give workers more memory, or "
                    "use fewer of them"
                ) from gone
            jobs.put_back(job)


def _short(task: object) -> str:
    text = " ".join(repr(task).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
