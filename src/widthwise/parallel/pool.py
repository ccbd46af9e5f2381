"""The pool: one interface, three places to work."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch

from widthwise.parallel.config import ParallelConfig
from widthwise.parallel.dispatch import RemotePool
from widthwise.parallel.local import ProcessWorker, ready
from widthwise.parallel.message import Parcel
from widthwise.parallel.on_ray import cluster

__all__ = ["Pool", "in_order", "workers"]

Task = TypeVar("Task")
Result = TypeVar("Result")
Task_contra = TypeVar("Task_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


@runtime_checkable
class Pool(Protocol[Task_contra, Result_co]):
    """Evaluates tasks."""

    def map(self, tasks: Iterable[Task_contra]) -> Iterator[tuple[int, Result_co]]:
        """Yields (position of the task, its result) as results come; `in_order` sorts them.

        Tasks are drawn one by one as workers become free, so later ones may depend on results so far. One map at a
        time; leaving it early abandons what is still being worked on. What a task raises is raised here, with the
        worker's traceback as a note, and the pool stays usable.

        Raises:
            WorkerDied: a task ended `retries` + 1 workers; the message names it.
        """
        ...


@contextmanager
def workers(config: ParallelConfig, make: Callable[[], Callable[[Task], Result]]) -> Iterator[Pool[Task, Result]]:
    """Yields a pool; on leaving, however that happens, its workers are gone.

    Args:
        config: where, and how many.
        make: is called once by each worker and returns what evaluates a task. It must be picklable, as must tasks and
            results: a function of a module, or a dataclass with `__call__`. The tensors in it (networks, cached
            features) reach all workers of a machine through one block of shared memory, mapped copy-on-write; with
            Ray, from one object per machine. In another process they lie on the CPU, and `make` moves them to the
            accelerator, of which worker i has number i modulo their count as the current one. In this process
            (workers=0) they are the caller's own: what a task changes, `make` must copy.

    Results do not depend on the number of workers if each depends on its task alone: seed what is random per task,
    and leave no state behind.

    Raises:
        ConfigError: Ray is missing or too small, or `make` cannot be pickled.
    """
    with ExitStack() as stack:
        if config.workers == 0:
            yield _InProcess(make, config.threads)
            return
        pool: RemotePool[Task, Result]
        if config.kind == "ray":
            actors = stack.enter_context(cluster(config, make))
            pool = RemotePool(config.workers, actors.start, actors.wait, config.retries)
        else:
            parcel = Parcel(make)
            stack.callback(parcel.close)
            start = partial(ProcessWorker, parcel.path, config.threads)
            pool = RemotePool(config.workers, start, ready, config.retries)
        stack.callback(pool.close)
        yield pool


def in_order(results: Iterable[tuple[int, Result]]) -> Iterator[Result]:
    """The results of a whole map, in the order of its tasks, each as soon as those before it are there."""
    early: dict[int, Result] = {}
    due = 0
    for position, result in results:
        early[position] = result
        while due in early:
            yield early.pop(due)
            due += 1


class _InProcess(Generic[Task, Result]):
    """Evaluates here and now, with as many threads as a worker would."""

    def __init__(self, make: Callable[[], Callable[[Task], Result]], threads: int) -> None:
        self._threads = threads
        with _threads(threads):
            self._evaluate = make()

    def map(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Result]]:
        """See `Pool`."""
        for position, task in enumerate(tasks):
            with _threads(self._threads):
                result = self._evaluate(task)
            yield position, result


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
