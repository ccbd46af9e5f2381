"""The commands of the command line: one function each, whose arguments are the command's options."""

from collections.abc import Callable
from typing import Any

from widthwise.commands.experiments import compare_methods, correlate_proxies
from widthwise.commands.exporting import export_run
from widthwise.commands.pruning import evaluate, prune
from widthwise.commands.recipes import recipe
from widthwise.commands.reporting import report_runs
from widthwise.commands.tracing import trace_model

__all__ = ["COMMANDS"]

COMMANDS: dict[str, Callable[..., Any]] = {
    "prune": prune,
    "recipe": recipe,
    "trace": trace_model,
    "evaluate": evaluate,
    "compare": compare_methods,
    "correlate": correlate_proxies,
    "report": report_runs,
    "export": export_run,
}
"""By name."""
