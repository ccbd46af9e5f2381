"""Workers as processes of this machine, started afresh (spawn): no locks or threads are inherited."""

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any

import torch

from widthwise.parallel.dispatch import Gone, Worker
from widthwise.parallel.message import answer, evaluated, opened

__all__ = ["ProcessWorker", "ready"]

_SPAWN = multiprocessing.get_context("spawn")

# An idle worker ends by itself in milliseconds; what its exit handlers do may take longer.
_GRACE_SECONDS = 5.0


class ProcessWorker:
    """One process.

    Args:
        path: of the parcel, see `message.opened`.
        index: with n accelerators, the worker's current one is number index modulo n.
        threads: of torch.
    """

    def __init__(self, path: str, threads: int, index: int) -> None:
        self.connection, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(
            target=_work, args=(theirs, path, threads, index), name=f"widthwise-worker-{index}"
        )
        try:
            self.process.start()
        finally:
            theirs.close()  # so that the worker's death closes the pipe

    def send(self, task: bytes) -> None:
        """See `Worker`."""
        try:
            self.connection.send_bytes(task)
        except OSError as error:
            raise Gone(self._how()) from error

    def receive(self) -> bytes:
        """See `Worker`."""
        try:
            wait([self.connection, self.process.sentinel])
            if self.connection.poll():
                return self.connection.recv_bytes()
        except (OSError, EOFError) as error:
            raise Gone(self._how()) from error
        raise Gone(self._how())  # a child of its own still holds the other end

    def dismiss(self, *, at_once: bool) -> None:
        """See `Worker`."""
        self.connection.close()
        if at_once:
            self.process.kill()

    def join(self) -> None:
        """See `Worker`."""
        self.process.join(_GRACE_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def _how(self) -> str:
        self.process.join(_GRACE_SECONDS)
        code = self.process.exitcode
        if code is None:
            return "closed its connection"
        if code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name
        return f"killed by {name}" + (", as systems do that run out of memory" if name == "SIGKILL" else "")


def ready(workers: Sequence[Worker]) -> Sequence[Worker]:
    """Of these `ProcessWorker`s those that have answered or died; waits for the first."""
    owners: dict[Any, ProcessWorker] = {}
    for worker in workers:
        assert isinstance(worker, ProcessWorker)
        owners |= {worker.connection: worker, worker.process.sentinel: worker}
    return list(dict.fromkeys(owners[item] for item in wait(list(owners))))


def _work(connection: Connection, path: str, threads: int, index: int) -> None:
    """A worker's life: make the evaluator, say so, then one task after the other until the pool hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the pool's tells the others
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    made: list[Callable[[Any], Any]] = []
    try:
        connection.send_bytes(answer(partial(_begin, made, path, index)))
        while made:
            connection.send_bytes(answer(partial(evaluated, made[0], connection.recv_bytes())))
    except (EOFError, OSError):
        gc.freeze()  # or the interpreter searches all of torch for garbage before it ends: a second for each worker


def _begin(made: list[Callable[[Any], Any]], path: str, index: int) -> None:
    accelerators = torch.accelerator.device_count()
    if accelerators:
        torch.accelerator.set_device_index(index % accelerators)
    made.append(opened(path))


def _end_with_parent() -> None:
    """A parent that was killed cannot tell its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
