"""Which strategies to try: searchers that are asked and told, and know no network."""

from widthwise.search.base import Searcher, Widths
from widthwise.search.evolution import Evolution
from widthwise.search.loop import Log, Trial, best_first, run_search
from widthwise.search.progress import RichSearchReporter, SearchReporter, SilentSearchReporter
from widthwise.search.random_rates import RandomRates
from widthwise.search.widths import draw_rates, fill, project, uniform_widths

__all__ = [
    "Evolution",
    "Log",
    "RandomRates",
    "RichSearchReporter",
    "SearchReporter",
    "Searcher",
    "SilentSearchReporter",
    "Trial",
    "Widths",
    "best_first",
    "draw_rates",
    "fill",
    "project",
    "run_search",
    "uniform_widths",
]
