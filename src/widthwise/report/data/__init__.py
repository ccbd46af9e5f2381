"""What reports show, as plain numbers and words: nothing here draws."""

from widthwise.report.data.answer import Answer
from widthwise.report.data.candidates import Candidate, Candidates, candidates_of
from widthwise.report.data.contents import RunReport, read_runs, run_report
from widthwise.report.data.origin import Origin, Start, origin_of
from widthwise.report.data.probabilities import Box, Probabilities, Samples, Snapshot, probabilities_of, samples_of
from widthwise.report.data.rounds import Policy, policy_of
from widthwise.report.data.stages import Division, Gene, Stage, division_of
from widthwise.report.data.summary import Change, Summary, summarise
from widthwise.report.data.training import Curve, curve_of, curves_of
from widthwise.report.data.widths import Layers, Row, layers_of

__all__ = [
    "Answer",
    "Box",
    "Candidate",
    "Candidates",
    "Change",
    "Curve",
    "Division",
    "Gene",
    "Layers",
    "Origin",
    "Policy",
    "Probabilities",
    "Row",
    "RunReport",
    "Samples",
    "Snapshot",
    "Stage",
    "Start",
    "Summary",
    "candidates_of",
    "curve_of",
    "curves_of",
    "division_of",
    "layers_of",
    "origin_of",
    "policy_of",
    "probabilities_of",
    "read_runs",
    "run_report",
    "samples_of",
    "summarise",
]
