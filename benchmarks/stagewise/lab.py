"""What the parts share: jobs on workers, with a record for each that is finished, and the searches' own logs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.experiments import Records, Value
from benchmarks.stagewise.bench import Bench
from benchmarks.stagewise.jobs import Job, Worker
from benchmarks.stagewise.settings import StagewiseSettings
from widthwise.data import ImageData
from widthwise.parallel import workers
from widthwise.runs import Journal

__all__ = ["Lab"]


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

    def __init__(self, settings: StagewiseSettings, data: ImageData, out: Path, records: Records) -> None:
        self.settings, self.data, self.out, self.records = settings, data, out, records
        self._recruit = Recruit(settings, data, out)
        alone = settings.workers == 0
        self.bench = self._recruit().bench if alone else Bench(settings, data, out, settings.model)

    def run(self, jobs: Sequence[Job]) -> list[Value]:
        """The value of each job; those without a record are done side by side, in this order."""
        known = self.records.results
        left = list({job.key: job for job in jobs if job.key not in known}.values())
        if left:
            with workers(self.bench.parallel(), self._recruit) as pool:
                for done, (position, value) in enumerate(pool.map(left), 1):
                    self.records.record(left[position].key, value, f"{done}/{len(left)} ")
        return [known[job.key] for job in jobs]

    @contextmanager
    def searching(self, name: str) -> Iterator[Journal]:
        """The log of one search, from which it goes on."""
        with Journal.open(self.out / "searches" / f"{name}.jsonl") as journal:
            yield journal
