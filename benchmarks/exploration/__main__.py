"""``python -m benchmarks.exploration PART``: a part of the experiments on exploration and estimation, or ``all``.

Goes on where it was cut. Each part ends by writing the page anew from the journal; ``page`` does nothing else. What is
measured, and what was predicted, is said in ``docs/exploration.md``.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from jsonargparse import ArgumentParser
from rich.console import Console

from benchmarks.experiments import Records, sizes_of
from benchmarks.exploration.arms import Bench
from benchmarks.exploration.page import write
from benchmarks.exploration.parts import PARTS
from benchmarks.exploration.settings import SETTINGS
from widthwise import load_data
from widthwise.errors import ConfigError
from widthwise.runs import RunFolder

__all__ = ["Command", "main"]


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run."""

    part: str
    """``cost``, ``result``, ``ablation``; ``all`` of them; ``page``."""
    data: str = "digits"
    """Anything that ``load_data`` takes by name: ``parquet:DIR``, ``cifar10``, ..."""
    weights: Path | None = None
    """Of the full network; it is trained first where a setting says how."""
    settings: str = "cpu"
    """Of the experiments, by name: ``cpu``, ``accelerator``, ``tiny``."""
    out: Path = Path("runs/exploration")
    """Folder of the journal and the runs."""
    docs: Path | None = None
    """Folder of the page and its figures; ``out`` if not given."""

    def __post_init__(self) -> None:
        if self.settings not in SETTINGS:
            raise ConfigError(f"settings is one of {', '.join(SETTINGS)}, but got {self.settings!r}.")


def main(arguments: list[str] | None = None) -> Path:
    """Run the part; returns the path of the page."""
    parser = ArgumentParser(prog="python -m benchmarks.exploration", description=__doc__)
    parser.add_class_arguments(Command, skip={"part"})
    parser.add_argument("part", choices=["all", "page", *PARTS])
    command = Command(**vars(parser.parse_args(sys.argv[1:] if arguments is None else arguments)))
    console = Console()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    docs = command.docs or command.out
    if command.part == "page":
        return write(command.out, docs)
    settings, data = SETTINGS[command.settings](), load_data(command.data)
    torch.set_num_threads(settings.threads)
    with RunFolder.open(
        command.out, {**settings.identity(), "weights": str(command.weights), "images": sizes_of(data)}
    ) as folder:
        bench, records = Bench(settings, data, command.weights, command.out), Records(folder.journal, say)
        for name in PARTS if command.part == "all" else [command.part]:
            say(f"== {name}")
            PARTS[name](bench, records)
            path = write(command.out, docs)
            say(f"written to {path}")
    return path


if __name__ == "__main__":
    main()
