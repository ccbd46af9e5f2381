"""Which strategies to try: searchers that are asked and told, and know no network; a budget divided over stages."""

from widthwise.search.balance import balanced_widths
from widthwise.search.base import Searcher, Widths
from widthwise.search.division import (
    Archive,
    BestGene,
    Choice,
    Division,
    DivisionReporter,
    DivisionSettings,
    Evaluate,
    EvolutionSettings,
    Gene,
    Generation,
    RichDivisionReporter,
    SilentDivisionReporter,
    StageLosses,
    StageProblem,
    StageSearch,
    best_gene,
    divide,
    search_stages,
    solve_knapsack,
)
from widthwise.search.evolution import Evolution
from widthwise.search.loop import Log, Trial, best_first, run_search
from widthwise.search.progress import RichSearchReporter, SearchReporter, SilentSearchReporter
from widthwise.search.random_rates import RandomRates
from widthwise.search.thompson import ThompsonSampling
from widthwise.search.widths import draw_rates, fill, first_widths, project, shared_widths, uniform_widths

__all__ = [
    "Archive",
    "BestGene",
    "Choice",
    "Division",
    "DivisionReporter",
    "DivisionSettings",
    "Evaluate",
    "Evolution",
    "EvolutionSettings",
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
    "ThompsonSampling",
    "Trial",
    "Widths",
    "balanced_widths",
    "best_first",
    "best_gene",
    "divide",
    "draw_rates",
    "fill",
    "first_widths",
    "project",
    "run_search",
    "search_stages",
    "shared_widths",
    "solve_knapsack",
    "uniform_widths",
]
