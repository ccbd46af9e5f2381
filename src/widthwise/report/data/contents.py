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


def run_report(run: RunRecord) -> RunReport:
    """The contents of the report on one run."""
    summary, candidates = summarise(run), candidates_of(run)
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
    return [run_report(RunRecord.read(run)) for run in runs]
