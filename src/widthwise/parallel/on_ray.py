"""Workers as actors on a Ray cluster, of one machine or many."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from widthwise.errors import ConfigError
from widthwise.parallel.config import ParallelConfig
from widthwise.parallel.dispatch import Gone, Worker
from widthwise.parallel.message import answer, evaluated, opened, packed

__all__ = ["Cluster", "RayWorker", "cluster"]


class Actor:
    """What runs on the cluster. `parcel` is the one copy of each machine, which Ray puts in shared memory."""

    def __init__(self, threads: int, paths: list[str]) -> None:
        torch.set_num_threads(threads)
        sys.path += [path for path in paths if path not in sys.path]  # where the driver finds the user's modules
        self._made: list[Callable[[Any], Any]] = []

    def begin(self, parcel: bytes) -> bytes:
        """Makes the evaluator."""
        return answer(partial(self._open, parcel))

    def _open(self, parcel: bytes) -> None:
        self._made = [opened(parcel)]

    def evaluate(self, task: bytes) -> bytes:
        """Does one task."""
        return answer(partial(evaluated, self._made[0], task))


class RayWorker:
    """One actor, and the answer that it owes."""

    def __init__(self, ray: Any, actor: Any, parcel: Any) -> None:
        self._ray, self._actor = ray, actor
        self.owed = actor.begin.remote(parcel)

    def send(self, task: bytes) -> None:
        """See `Worker`."""
        self.owed = self._actor.evaluate.remote(task)

    def receive(self) -> bytes:
        """See `Worker`."""
        try:
            message: bytes = self._ray.get(self.owed)
        except self._ray.exceptions.RayError as error:
            raise Gone(" ".join(str(error).split())[:500]) from error
        return message

    def dismiss(self, *, at_once: bool) -> None:
        """See `Worker`. An actor has nothing to put in order, so it always ends at once."""
        self._ray.kill(self._actor, no_restart=True)

    def join(self) -> None:
        """Ray ends it in its own time."""


class Cluster:
    """Starts and watches actors."""

    def __init__(self, ray: Any, config: ParallelConfig, make: Callable[[], Callable[[Any], Any]]) -> None:
        self._ray, self._threads = ray, config.threads
        self._parcel = ray.put(packed(make))
        self._actor = ray.remote(Actor).options(
            num_cpus=config.threads,
            num_gpus=_share(config.workers, int(ray.cluster_resources().get("GPU", 0))),
            max_restarts=0,
        )

    def start(self, index: int) -> RayWorker:
        """One more actor, wherever Ray finds room."""
        return RayWorker(self._ray, self._actor.remote(self._threads, sys.path), self._parcel)

    def wait(self, workers: Sequence[Worker]) -> Sequence[Worker]:
        """Of these `RayWorker`s those that have answered or died; waits for the first."""
        owners: dict[Any, Worker] = {}
        for worker in workers:
            assert isinstance(worker, RayWorker)
            owners[worker.owed] = worker
        done, _ = self._ray.wait(list(owners), num_returns=1)
        return [owners[reference] for reference in done]


def _share(workers: int, accelerators: int) -> float:
    """The part of an accelerator that each worker books, so that all find a place."""
    return 1 / -(-workers // accelerators) if accelerators else 0.0


@contextmanager
def cluster(config: ParallelConfig, make: Callable[[], Callable[[Any], Any]]) -> Iterator[Cluster]:
    """Yields the cluster to start actors on; one that was started here is gone afterwards.

    Raises:
        ConfigError: Ray is not installed, or the cluster is too small for so many workers.
    """
    ray = _ray()
    mine = not ray.is_initialized()
    try:
        if mine:
            _connect(ray, config)
        room = ray.cluster_resources().get("CPU", 0)
        if room < config.workers * config.threads:
            raise ConfigError(
                f"a Ray cluster must have a CPU for each thread of each worker, but got {room:g} CPUs for "
                f"workers={config.workers} with threads={config.threads}; ask for fewer, or add machines"
            )
        yield Cluster(ray, config, make)
    finally:
        if mine:
            ray.shutdown()


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            "workers on Ray need the package ray, but it is not installed; pip install 'widthwise[ray]', or use "
            "kind='local'"
        ) from error


def _connect(ray: Any, config: ParallelConfig) -> None:
    """Joins the cluster that the settings or RAY_ADDRESS name, or starts one with room for all workers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or a cluster of one's own reports home
    address = config.address or os.environ.get("RAY_ADDRESS")
    common = {"log_to_driver": False, "logging_level": "warning"}
    if address is not None:
        ray.init(address=address, **common)
        return
    room = max(os.cpu_count() or 1, config.workers * config.threads)
    ray.init(address="local", num_cpus=room, include_dashboard=False, **common)
