"""``python -m benchmarks.stagewise PART``: one part of the experiments on stage-wise pruning, or ``all``.

Goes on where it was cut. Each part ends by writing the page anew from the journal; ``page`` does nothing else.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from jsonargparse import ArgumentParser
from rich.console import Console

from benchmarks.stagewise.lab import opened
from benchmarks.stagewise.page import write
from benchmarks.stagewise.parts import PARTS
from benchmarks.stagewise.settings import SETTINGS
from widthwise import load_data
from widthwise.errors import ConfigError

__all__ = ["Command", "main"]


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run."""

    part: str
    """``cost``, ``ranking``, ``result``, ``division``, ``expectation``, ``teachers``; ``all`` of them; ``page``."""
    data: str = "digits"
    """Anything that ``load_data`` takes by name: ``parquet:DIR``, ``cifar10``, ..."""
    settings: str = "cpu"
    """Of the experiments, by name: ``cpu``, ``accelerator``, ``tiny``."""
    out: Path = Path("runs/stagewise")
    """Folder of the journal and the checkpoints."""
    docs: Path | None = None
    """Folder of the page and its figures; ``out`` if not given."""

    def __post_init__(self) -> None:
        for name, allowed in (("part", ("all", "page", *PARTS)), ("settings", tuple(SETTINGS))):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is one of {', '.join(allowed)}, but got {getattr(self, name)!r}.")


def main(arguments: list[str] | None = None) -> Path:
    """Run the part; returns the path of the page."""
    parser = ArgumentParser(prog="python -m benchmarks.stagewise", description=__doc__)
    parser.add_class_arguments(Command, skip={"part"})
    parser.add_argument("part", choices=["all", "page", *PARTS])
    command = Command(**vars(parser.parse_args(sys.argv[1:] if arguments is None else arguments)))
    console = Console()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    docs = command.docs or command.out
    if command.part == "page":
        return write(command.out, docs)
    settings = SETTINGS[command.settings]()
    torch.set_num_threads(settings.threads)
    with opened(settings, load_data(command.data), command.out, say) as lab:
        for name in PARTS if command.part == "all" else [command.part]:
            say(f"== {name}")
            PARTS[name](lab)
            path = write(command.out, docs)
            say(f"written to {path}")
    return path


if __name__ == "__main__":
    main()
