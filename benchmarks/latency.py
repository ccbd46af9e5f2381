"""``python -m benchmarks.latency``: predicted latencies beside measured ones. Run nothing beside it; minutes.

For each network: how far predictions are off for sub-networks that the fit has not seen, whether they rank them, and
what half of the multiply-adds and half of the latency give when they are measured.
"""

import sys
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from jsonargparse import auto_cli
from rich.console import Console

from benchmarks.report import Check, page, page_path, show, write_page
from widthwise import Budget, CostModel, WidthSpace, build_model, materialize, measure_latency, trace
from widthwise.cost.latency import TICKS
from widthwise.evaluate import kendall, latencies
from widthwise.experiments import Table
from widthwise.runs import describe_environment
from widthwise.search import project, uniform_widths

__all__ = ["LatencyConfig", "main"]

SHARES = (0.25, 0.45, 0.65, 0.85)
"""Between the narrowest network and the full one: where the random sub-networks lie."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyConfig:
    """What to measure."""

    models: tuple[str, ...] = (
        "torchvision:resnet50",
        "torchvision:mobilenet_v2",
        "torchvision:densenet121",
        "torchvision:convnext_tiny",
        "torchvision:vgg16_bn",
    )
    """The networks."""
    image_size: int = 224
    """Height and width of the images."""
    batch: int = 1
    """Images of a forward pass."""
    multiples: tuple[int, ...] = (1, 16)
    """Widths are multiples of these: whatever they are, and what kernels are made for."""
    unseen: int = 16
    """Random sub-networks that predictions are compared on."""
    results: Path = Path(__file__).parent / "results"
    """Folder for the page."""


@dataclass(frozen=True)
class _Outcome:
    name: str
    multiple: int
    seconds: float
    error: float
    tau: float
    half_macs: float
    half_latency: float
    full: float

    def row(self) -> tuple[str, ...]:
        shares = (f"{share:.1%}" for share in (self.half_macs, self.half_latency))
        return (
            self.name,
            str(self.multiple),
            f"{self.full:.1f}",
            f"{self.seconds:.0f}",
            f"{self.error:.1%}",
            f"{self.tau:.2f}",
            *shares,
        )


def _measured(name: str, multiple: int, config: LatencyConfig) -> _Outcome:
    torch.manual_seed(0)
    model = build_model(name).eval()
    example = torch.randn(config.batch, 3, config.image_size, config.image_size)
    graph = trace(model, example[:1])
    space = WidthSpace(multiple_of=multiple).of(graph)
    start = perf_counter()
    latency = measure_latency(model, graph, example, space=space)
    seconds = perf_counter() - start
    cost = CostModel(graph, latency=latency)
    least = int(torch.as_tensor(cost.measure("latency", space.smallest[None]))[0]) / cost.full["latency"]
    rows, generator = [], torch.Generator().manual_seed(0)
    for place in range(config.unseen):
        share = least + SHARES[place % len(SHARES)] * (1 - least)
        limits = Budget(latency=share, latency_batch=config.batch).on(cost, space)
        ratios = torch.rand(1, len(space.choices), generator=generator, dtype=torch.float64)
        rows.append(project(space, limits, ratios)[0])
    half = Budget(latency=max(0.5, 1.01 * least), latency_batch=config.batch)  # a half may be out of reach
    halves = [uniform_widths(space, budget.on(cost, space)) for budget in (Budget(macs=0.5), half)]
    widths = torch.stack([space.full, *halves, *rows])
    networks = [materialize(model, graph, graph.subnet(widths=row)) for row in widths]
    real = latencies(networks, example)
    said = (torch.as_tensor(cost.measure("latency", widths)).double() * 1000 / TICKS).tolist()
    off = [abs(a / b - 1) for a, b in zip(said[3:], real[3:], strict=True)]
    tau = kendall(said[3:], real[3:])
    return _Outcome(name, multiple, seconds, median(off), tau, real[1] / real[0], real[2] / real[0], real[0])


def main(arguments: list[str] | None = None) -> Path:
    """Run it; returns the path of the page."""
    arguments = sys.argv[1:] if arguments is None else arguments
    config = auto_cli(LatencyConfig, args=arguments, as_positional=False)
    console = Console()
    found = []
    for name, multiple in product(config.models, config.multiples):
        found.append(_measured(name, multiple, config))
        console.print(" ".join(found[-1].row()), highlight=False)
    columns = (
        "network",
        "multiples of",
        "full (ms)",
        "fit (s)",
        "off by, median",
        "tau",
        "half of the MACs",
        "half of the latency",
    )
    note = (
        "Random sub-networks of all sizes, not seen by the fit: how far the prediction is from "
        "the median measured time, and Kendall's tau between the two. Then the measured time of the network of uniform "
        "width with half of the multiply-adds, and with half of the predicted latency, as a share of the full one's."
    )
    tables = [Table("Predicted latency", columns, tuple(outcome.row() for outcome in found), note)]
    checks = []
    for outcome in found:
        about = f"{outcome.name}, multiples of {outcome.multiple}"
        text = f"{about}: predictions are off by less than 10 % in the median"
        checks.append(Check(text, f"{outcome.error:.1%}", outcome.error < 0.1))
        text = f"{about}: asked for half of the latency, between 45 and 55 % are measured"
        checks.append(Check(text, f"{outcome.half_latency:.1%}", 0.45 <= outcome.half_latency <= 0.55))
    environment = describe_environment()
    command = " ".join(["python -m benchmarks.latency", *arguments])
    text = page("Predicted latency beside measured", command, environment, tables, checks)
    path = write_page(page_path(config.results, "latency", environment, date.today()), text)
    show(console, tables, checks)
    return path


if __name__ == "__main__":
    main()
