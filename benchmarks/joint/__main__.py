"""``python -m benchmarks.joint``: joint search-and-training beside its ablations and what one would do instead.

Goes on where it was cut; writes the page from the journal after each run.

Prediction: at half of the multiply-adds of ResNet-20 the method lies within 0.5 points of training the full network and
then FNNP, in less time; above the fixed rate, by less than a point; without noise it is as good, because eight rounds
are too few for noise to pay. Uniform width trained for the same time is hard to beat with so short a schedule: no
prediction. With the weights on the filters, where batch norm takes them back, the ranking of channels is what was drawn
at the start, so that it is as good as the rest within noise only because training repairs any choice.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from jsonargparse import ArgumentParser
from rich.console import Console

from benchmarks.experiments import results_of, sizes_of
from benchmarks.joint.arms import ARMS, Bench, Value
from benchmarks.joint.page import write
from benchmarks.joint.settings import SETTINGS
from widthwise import load_data
from widthwise.errors import ConfigError
from widthwise.runs import RunFolder

__all__ = ["Command", "main"]


UNIFORM = "uniform, same time"
"""Comes last for each seed, because its time is that of the joint runs so far."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run."""

    data: str = "digits"
    """Anything that ``load_data`` takes by name: ``parquet:DIR``, ``cifar10``, ..."""
    settings: str = "cpu"
    """Of the experiments, by name: ``cpu``, ``accelerator``, ``tiny``."""
    out: Path = Path("runs/joint")
    """Folder of the journal and the runs."""
    docs: Path | None = None
    """Folder of the page and its figures; ``out`` if not given."""

    def __post_init__(self) -> None:
        if self.settings not in SETTINGS:
            raise ConfigError(f"settings is one of {', '.join(SETTINGS)}, but got {self.settings!r}.")


def main(arguments: list[str] | None = None) -> Path:
    """Run what is left; returns the path of the page."""
    parser = ArgumentParser(prog="python -m benchmarks.joint", description=__doc__)
    parser.add_class_arguments(Command)
    command = Command(**vars(parser.parse_args(sys.argv[1:] if arguments is None else arguments)))
    console = Console()
    settings, data = SETTINGS[command.settings](), load_data(command.data)
    torch.set_num_threads(settings.threads)
    docs = command.docs or command.out
    with RunFolder.open(command.out, {**settings.identity(), "images": sizes_of(data)}) as folder:
        bench = Bench(settings, data, command.out)
        for seed in settings.seeds:
            for name in (*ARMS, UNIFORM):
                found: dict[str, Value] = results_of(folder.journal.events)
                key = f"{name}/{seed}"
                if key not in found:
                    spent = [value["seconds"] for other, value in found.items() if other.startswith("joint/")]
                    value = bench.uniform(seed, fmean(spent)) if name == UNIFORM else ARMS[name](bench, seed)
                    folder.journal.append({"event": "result", "key": key, "value": value})
                    said = f"{key}: {value['test']:.4f} in {value['seconds']:.0f} s"
                    console.print(said, highlight=False, markup=False)
                    write(command.out, docs)
        return write(command.out, docs)


if __name__ == "__main__":
    main()
