"""Tables for the terminal: a traced model, and a network before and after."""

from collections import defaultdict
from collections.abc import Mapping

from rich.table import Table

from widthwise.channels import ChannelGraph, Group
from widthwise.cost import CostModel
from widthwise.methods import Figures

__all__ = ["comparison_table", "graph_tables"]


def graph_tables(graph: ChannelGraph, cost: CostModel) -> list[Table]:
    """Three tables: the layers with their multiply-adds, the prunable groups, and what is pinned and why."""
    return [_layers(graph, cost), _prunable(graph), _pinned(graph)]


def _layers(graph: ChannelGraph, cost: CostModel) -> Table:
    makers: dict[str, list[str]] = defaultdict(list)
    for group in graph.groups:
        for member in group.members:
            if member.role == "out":
                makers[member.tensor.rpartition(".")[0]].append("pinned" if group.pinned else group.name)
    total = cost.full["macs"]
    table = Table(title=f"Layers: {total:,} MACs, {cost.full['params']:,} parameters")
    table.add_column("layer")
    table.add_column("MACs", justify="right")
    table.add_column("share", justify="right")
    table.add_column("its channels belong to")
    for module, macs in cost.per_layer(graph.subnet()):
        names = list(dict.fromkeys(makers.get(module, []))) or ["-"]
        table.add_row(module or "(root)", f"{macs:,}", f"{macs / total:.1%}", ", ".join(names))
    return table


def _prunable(graph: ChannelGraph) -> Table:
    table = Table(title=f"Prunable: {graph.num_channels:,} channels in {len(graph.prunable)} groups, each proved")
    table.add_column("group")
    table.add_column("width", justify="right")
    table.add_column("made by")
    table.add_column("read by")
    for group in graph.prunable:
        table.add_row(group.name, str(group.width), _modules(group, "out"), _modules(group, "in"))
    return table


def _modules(group: Group, role: str) -> str:
    names = list(dict.fromkeys(m.tensor.rpartition(".")[0] for m in group.members if m.role == role))
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def _pinned(graph: ChannelGraph) -> Table:
    table = Table(title=f"Pinned: {len(graph.pinned)} groups")
    table.add_column("group")
    table.add_column("width", justify="right")
    table.add_column("why: it ...")
    for group in graph.pinned:
        table.add_row(group.name, str(group.width), str(group.reason))
    return table


def comparison_table(metrics: Mapping[str, Figures]) -> Table:
    """MACs, parameters, accuracy and latency of the full network and the small one."""
    before, after = metrics["before"], metrics["after"]
    table = Table(title="Before and after")
    for column in ("", "before", "after", "change"):
        table.add_column(column, justify="right" if column else "left")
    for name, a, b in (("MACs", before.macs, after.macs), ("parameters", before.params, after.params)):
        table.add_row(name, f"{a:,}", f"{b:,}", f"{b / a:.1%} of it")
    accuracies = (
        ("validation accuracy", before.val_accuracy, after.val_accuracy),
        ("test accuracy", before.test_accuracy, after.test_accuracy),
    )
    for name, x, y in accuracies:
        if x is not None and y is not None:
            table.add_row(name, f"{x:.2%}", f"{y:.2%}", f"{100 * (y - x):+.2f} points")
    for batch, time in before.latency_ms.items():
        small = after.latency_ms[batch]
        table.add_row(
            f"latency, batch {batch}", f"{time:.2f} ms", f"{small:.2f} ms", f"{time / small:.2f} times as fast"
        )
    return table
