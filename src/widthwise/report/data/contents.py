"""All that a report has to say of one run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from widthwise.errors import ConfigError
from widthwise.methods import RunRecord
from widthwise.report.data.answer import Answer, answer_of
from widthwise.report.data.candidates import Candidates, candidates_of
from widthwise.report.data.origin import Origin, origin_of
from widthwise.report.data.probabilities import Probabilities, Samples, probabilities_of, samples_of
from widthwise.report.data.rounds import Policy, policy_of
from widthwise.report.data.stages import Division, division_of
from widthwise.report.data.summary import Summary, summarise
from widthwise.report.data.training import Curve, curves_of
from widthwise.report.data.widths import Layers, layers_of

__all__ = ["RunReport", "read_runs", "run_report"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """One run in numbers and words. What its method does not have, or it does not know yet, is None."""

    summary: Summary
    answer: Answer
    layers: Layers | None
    candidates: Candidates | None
    policy: Policy | None
    probabilities: Probabilities | None
    samples: Samples | None
    division: Division | None
    curves: tuple[Curve, ...]
    origin: Origin


def run_report(run: RunRecord, name: str = "") -> RunReport:
    """The contents of the report on one run.

    Args:
        run: the run.
        name: to call it by; that of its folder if not given.

    Raises:
        ConfigError: it is no run of a method.
    """
    if "method" not in run.config:
        raise ConfigError(
            f"A report is about runs of a method, but {run.path} is the folder of something else (a study of "
            "correlations, a training). Give the folder of `widthwise prune`, or RUN/NAME/seed-N of `compare`."
        )
    summary, candidates = summarise(run, name), candidates_of(run)
    division, samples, layers = division_of(run), samples_of(run), layers_of(run)
    return RunReport(
        summary=summary,
        answer=answer_of(run, summary, layers, candidates, division, samples),
        layers=layers,
        candidates=candidates,
        policy=policy_of(run),
        probabilities=probabilities_of(run),
        samples=samples,
        division=division,
        curves=curves_of(run),
        origin=origin_of(run),
    )


def read_runs(runs: Sequence[str | Path]) -> list[RunReport]:
    """Read run folders, finished or not.

    Raises:
        ConfigError: there is none.
        CorruptRun: one is no run, or a file of it is damaged.
    """
    if not runs:
        raise ConfigError("A report is about one or more runs, but got none; name the folder of a run.")
    records = [RunRecord.read(run) for run in runs]
    names = told_apart([record.path.resolve() for record in records])
    return [run_report(record, name) for record, name in zip(records, names, strict=True)]


def told_apart(paths: Sequence[Path]) -> list[str]:
    """Of each path the shortest end that no other one has: ``l1/seed-0`` and ``fnnp/seed-0``, not ``seed-0`` twice."""

    def end(path: Path, count: int) -> str:
        return Path(*path.parts[-count:]).as_posix()

    def shortest(path: Path) -> str:
        others = [other for other in paths if other != path]
        ends = (end(path, count) for count in range(1, len(path.parts) + 1))
        return next(e for count, e in enumerate(ends, 1) if all(end(other, count) != e for other in others))

    return [shortest(path) for path in paths]
