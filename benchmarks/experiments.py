"""What the experiments on real images share: what a run folder belongs to, records, and parts of splits."""

import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from jsonargparse import ArgumentParser
from rich.console import Console
from torch import nn

from widthwise import build_model, load_data
from widthwise.data import ImageData
from widthwise.digest import digest
from widthwise.methods.initialise import fresh
from widthwise.runs import Journal, RunFolder

__all__ = ["Command", "Parts", "Records", "Value", "fresh_network", "identity", "results_of", "run_parts", "sizes_of"]

Value = dict[str, Any]
"""Of a result, as JSON data."""


def identity(settings: Any, free: Collection[str]) -> dict[str, Any]:
    """The fields of a settings dataclass that decide a single result, as JSON data.

    Args:
        settings: the whole.
        free: fields that do not, such as how many results there are.
    """
    values = {name: value for name, value in asdict(settings).items() if name not in free}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def fresh_network(name: str, data: ImageData, seed: int) -> nn.Module:
    """A network of the zoo for these images, with weights from scratch, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(name, num_classes=data.num_classes, in_channels=data.input_shape[0])
    fresh(model, seed)
    return model.eval()


def sizes_of(data: ImageData) -> dict[str, int]:
    """Images and classes, for the configuration of a run folder."""
    return {"train": len(data.train), "val": len(data.val), "classes": data.num_classes}


def results_of(events: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The values of a journal's results by their keys."""
    return {event["key"]: event["value"] for event in events if event.get("event") == "result"}


class Records:
    """What an experiment has found: one record per result, written down at once, none computed twice."""

    def __init__(self, journal: Journal, say: Callable[[str], None]) -> None:
        self.journal, self.say = journal, say
        self.results: dict[str, Value] = results_of(journal.events)

    def once(self, key: str, compute: Callable[[], Value]) -> Value:
        """The value of that key: from the journal, or computed here and written down."""
        if key not in self.results:
            start = perf_counter()
            value = compute()
            self.record(key, {**value, "seconds": value.get("seconds", round(perf_counter() - start, 3))})
        return self.results[key]

    def record(self, key: str, value: Value, progress: str = "") -> None:
        """Write one down."""
        self.journal.append({"event": "result", "key": key, "value": value})
        self.results[key] = self.journal.events[-1]["value"]
        shown = ", ".join(f"{k} {v:.4f}" for k, v in value.items() if isinstance(v, float))
        self.say(f"{progress}{key}: {shown}")


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run of an experiment."""

    part: str
    """One of its parts; ``all`` of them; ``page`` only writes the page anew."""
    settings: str
    """Of the experiment, by name."""
    data: str
    """Anything that ``load_data`` takes by name: ``digits``, ``parquet:DIR``, ``cifar10``, ..."""
    weights: Path | None = None
    """Of the full network, where the experiment takes any."""
    out: Path
    """Folder of the journal and the runs."""
    docs: Path
    """Folder of the page and its figures."""


Parts = Mapping[str, Callable[[Any], None]]
"""Each is given what the experiment's `make` returns."""


def run_parts(
    name: str,
    about: str,
    settings: Mapping[str, Callable[[], Any]],
    parts: Parts,
    make: Callable[[Any, ImageData, Command, Records], Any],
    write: Callable[[Path, Path], Path],
    arguments: list[str] | None = None,
    *,
    takes_weights: bool = False,
) -> Path:
    """The command line of an experiment: run what is left of its parts, and write the page after each.

    Args:
        name: of the package.
        about: what it does.
        settings: by name; each has an ``identity`` and ``threads``.
        parts: by name.
        make: from settings, data, command and records to what the parts share.
        write: the page, from the run folder into another.
        arguments: of the command line; the process's own if not given.
        takes_weights: whether it may be given those of the full network.
    """
    command, console = _parse(name, about, settings, parts, arguments, takes_weights), Console()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    if command.part == "page":
        return write(command.out, command.docs)
    chosen, data = settings[command.settings](), load_data(command.data)
    torch.set_num_threads(chosen.threads)
    # What the file holds, not where it lies: the folder goes on elsewhere, and refuses other weights of that name.
    weights = {} if command.weights is None else {"weights": digest(command.weights.read_bytes())}
    with RunFolder.open(command.out, {**chosen.identity(), **weights, "images": sizes_of(data)}) as folder:
        shared = make(chosen, data, command, Records(folder.journal, say))
        for part in parts if command.part == "all" else [command.part]:
            say(f"== {part}")
            parts[part](shared)
            path = write(command.out, command.docs)
            say(f"written to {path}")
    return path


def _parse(
    name: str,
    about: str,
    settings: Collection[str],
    parts: Collection[str],
    arguments: list[str] | None,
    takes_weights: bool,
) -> Command:
    parser = ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    parser.add_argument("part", choices=["all", "page", *parts])
    parser.add_argument("--data", default="digits", help="anything that load_data takes by name")
    if takes_weights:
        parser.add_argument("--weights", type=Path, help="of the full network")
    parser.add_argument("--settings", default="cpu", choices=list(settings))
    parser.add_argument("--out", type=Path, default=Path("runs") / name, help="folder of the journal and the runs")
    parser.add_argument("--docs", type=Path, help="folder of the page and its figures; --out if not given")
    found = vars(parser.parse_args(sys.argv[1:] if arguments is None else arguments))
    return Command(**{**found, "docs": found["docs"] or found["out"]})
