"""The folder of the experiment: a journal with one record per finished job, checkpoints, and the searches' own logs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.experiments import results_of, sizes_of
from benchmarks.stagewise.bench import Bench
from benchmarks.stagewise.jobs import Job, Worker
from benchmarks.stagewise.settings import StagewiseSettings
from widthwise.data import ImageData
from widthwise.parallel import workers
from widthwise.runs import Journal, RunFolder

__all__ = ["Lab", "opened"]

Value = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Recruit:
    """Makes a worker, in its process; picklable as long as that is another one."""

    settings: StagewiseSettings
    data: ImageData
    out: Path

    def __call__(self) -> Worker:
        """The one worker of this process: what it has loaded serves all jobs."""
        return self._worker

    @cached_property
    def _worker(self) -> Worker:
        return Worker(Bench(self.settings, self.data, self.out, self.settings.model))


class Lab:
    """Runs jobs on workers, writes down what they find at once, and runs none twice."""

    def __init__(
        self, settings: StagewiseSettings, data: ImageData, out: Path, journal: Journal, say: Callable[[str], None]
    ) -> None:
        self.settings, self.data, self.out, self.journal, self.say = settings, data, out, journal, say
        self._recruit = Recruit(settings, data, out)
        alone = settings.workers == 0
        self.bench = self._recruit().bench if alone else Bench(settings, data, out, settings.model)
        self.results: dict[str, Value] = results_of(journal.events)

    def run(self, jobs: Sequence[Job]) -> list[Value]:
        """The value of each job; those without a record are done side by side, in this order."""
        left = list({job.key: job for job in jobs if job.key not in self.results}.values())
        if left:
            with workers(self.bench.parallel(), self._recruit) as pool:
                for done, (position, value) in enumerate(pool.map(left), 1):
                    self.record(left[position].key, value, f"{done}/{len(left)} ")
        return [self.results[job.key] for job in jobs]

    def once(self, key: str, compute: Callable[[], Value]) -> Value:
        """The value of that key: from the journal, or computed here and written down."""
        if key not in self.results:
            start = perf_counter()
            value = compute()
            self.record(key, {**value, "seconds": value.get("seconds", round(perf_counter() - start, 3))})
        return self.results[key]

    def record(self, key: str, value: Value, progress: str = "") -> None:
        """Write one down."""
        self.journal.append({"event": "result", "key": key, "value": value})
        self.results[key] = self.journal.events[-1]["value"]
        shown = ", ".join(f"{k} {v:.4f}" for k, v in value.items() if isinstance(v, float))
        self.say(f"{progress}{key}: {shown}")

    @contextmanager
    def searching(self, name: str) -> Iterator[Journal]:
        """The log of one search, from which it goes on."""
        with Journal.open(self.out / "searches" / f"{name}.jsonl") as journal:
            yield journal


@contextmanager
def opened(settings: StagewiseSettings, data: ImageData, out: Path, say: Callable[[str], None]) -> Iterator[Lab]:
    """The experiment in its folder, which holds one configuration and goes on where it was cut."""
    with RunFolder.open(out, {**settings.identity(), "images": sizes_of(data)}) as folder:
        yield Lab(settings, data, out, folder.journal, say)
