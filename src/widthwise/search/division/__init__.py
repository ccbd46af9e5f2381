"""The division of a budget over stages, whose losses and costs add up: exact, or by the paper's evolution."""

from widthwise.search.division.divide import Division, divide
from widthwise.search.division.knapsack import Choice, solve_knapsack
from widthwise.search.division.losses import Archive, Evaluate, StageLosses
from widthwise.search.division.problem import Gene, StageProblem
from widthwise.search.division.progress import (
    DivisionReporter,
    Generation,
    RichDivisionReporter,
    SilentDivisionReporter,
)
from widthwise.search.division.settings import DivisionSettings, EvolutionSettings, How
from widthwise.search.division.stage_search import BestGene, StageSearch, best_gene, search_stages

__all__ = [
    "Archive",
    "BestGene",
    "Choice",
    "Division",
    "DivisionReporter",
    "DivisionSettings",
    "Evaluate",
    "EvolutionSettings",
    "Gene",
    "Generation",
    "How",
    "RichDivisionReporter",
    "SilentDivisionReporter",
    "StageLosses",
    "StageProblem",
    "StageSearch",
    "best_gene",
    "divide",
    "search_stages",
    "solve_knapsack",
]
