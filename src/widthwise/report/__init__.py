"""What a person or a program sees of graphs and runs."""

from widthwise.report.explain import explain
from widthwise.report.facts import Amount, Explanation, Follower, LayerCost, PinnedFor, PinnedGroup, PrunableGroup
from widthwise.report.page import report
from widthwise.report.tables import comparison_table, graph_tables

__all__ = [
    "Amount",
    "Explanation",
    "Follower",
    "LayerCost",
    "PinnedFor",
    "PinnedGroup",
    "PrunableGroup",
    "comparison_table",
    "explain",
    "graph_tables",
    "report",
]
