"""Which strategies to try: searchers that are asked and told, and know no network."""

from widthwise.search.base import Searcher, Widths
from widthwise.search.breeding import EvolutionSettings
from widthwise.search.divide import Division, DivisionSettings, divide
from widthwise.search.evolution import Evolution
from widthwise.search.knapsack import Choice, solve_knapsack
from widthwise.search.loop import Log, Trial, best_first, run_search
from widthwise.search.progress import (
    DivisionReporter,
    Generation,
    RichDivisionReporter,
    RichSearchReporter,
    SearchReporter,
    SilentDivisionReporter,
    SilentSearchReporter,
)
from widthwise.search.random_rates import RandomRates
from widthwise.search.stage_evolution import Found, StageSearch, best_gene, search_stages
from widthwise.search.stage_losses import Archive, Evaluate, StageLosses
from widthwise.search.stage_problem import Gene, StageProblem
from widthwise.search.widths import draw_rates, fill, project, uniform_widths

__all__ = [
    "Archive",
    "Choice",
    "Division",
    "DivisionReporter",
    "DivisionSettings",
    "Evaluate",
    "Evolution",
    "EvolutionSettings",
    "Found",
    "Gene",
    "Generation",
    "Log",
    "RandomRates",
    "RichDivisionReporter",
    "RichSearchReporter",
    "SearchReporter",
    "Searcher",
    "SilentDivisionReporter",
    "SilentSearchReporter",
    "StageLosses",
    "StageProblem",
    "StageSearch",
    "Trial",
    "Widths",
    "best_first",
    "best_gene",
    "divide",
    "draw_rates",
    "fill",
    "project",
    "run_search",
    "search_stages",
    "solve_knapsack",
    "uniform_widths",
]
