"""What a person sees of graphs and runs."""

from widthwise.report.tables import comparison_table, graph_tables

__all__ = ["comparison_table", "graph_tables"]
