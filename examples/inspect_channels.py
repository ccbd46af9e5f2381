"""What can be pruned in a network, what cannot and why, and what it would cost: no data, no training.

Run ``python examples/inspect_channels.py`` or give the name of any classifier of torchvision.
"""

import sys

import torch
from rich.console import Console
from rich.table import Table

import widthwise
from widthwise import CostModel, Subnet
from widthwise.report import explain


def main(name: str = "resnet18", size: int = 224) -> Subnet:
    console = Console()
    model = widthwise.build_model(f"torchvision:{name}").eval()
    example = torch.randn(1, 3, size, size)
    graph = widthwise.trace(model, example)
    cost = CostModel(graph)

    facts = explain(graph, cost)  # what `widthwise trace` prints, as data; facts.to_dict() is its --json
    console.print(f"{name}: {facts.macs_share:.0%} of {facts.macs / 1e6:,.0f} M MACs are in prunable groups")
    table = Table("group", "width", "M MACs that it may save", "made by", title=f"{facts.channels:,} prunable channels")
    for group in facts.prunable:
        table.add_row(group.name, str(group.width), f"{group.saves.macs / 1e6:,.0f}", ", ".join(group.made_by))
    console.print(table)
    for reason in facts.pinned:
        for pinned in reason.groups:
            console.print(
                f"pinned: {pinned.name}: {pinned.what}. {reason.remedy}".strip(), markup=False, highlight=False
            )

    ratios = torch.tensor([1.0, 0.75, 0.5, 0.25])
    widths = (ratios[:, None] * graph.full_widths).round().long().clamp(min=1)
    for ratio, macs, params in zip(ratios, cost.macs(widths), cost.params(widths), strict=True):
        console.print(f"uniform width {ratio:.0%}: {macs / 1e6:,.0f} M MACs, {params / 1e6:,.2f} M parameters")

    first = graph.prunable[0]
    subnet = graph.subnet(widths={first: first.width // 2}, importance="l1")
    small = widthwise.materialize(model, graph, subnet)
    with torch.no_grad():
        shape = tuple(small(example).shape)
    console.print(f"{first.name} at half width: {cost.macs(subnet) / 1e6:,.0f} M MACs, output {shape}")
    return subnet


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "resnet18")
