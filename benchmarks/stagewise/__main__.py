"""``python -m benchmarks.stagewise PART``: one part of the experiments on stage-wise pruning, or ``all``.

Goes on where it was cut. Each part ends by writing the page anew from the journal; ``page`` does nothing else. What is
measured, and what was predicted, is said in ``docs/stagewise.md``.
"""

from pathlib import Path

from benchmarks.experiments import Command, Records, run_parts
from benchmarks.stagewise.lab import Lab
from benchmarks.stagewise.page import write
from benchmarks.stagewise.parts import PARTS
from benchmarks.stagewise.settings import SETTINGS, StagewiseSettings
from widthwise.data import ImageData

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> Path:
    """Run the part; returns the path of the page."""
    return run_parts("stagewise", str(__doc__), SETTINGS, PARTS, _lab, write, arguments)


def _lab(settings: StagewiseSettings, data: ImageData, command: Command, records: Records) -> Lab:
    return Lab(settings, data, command.out, records)


if __name__ == "__main__":
    main()
