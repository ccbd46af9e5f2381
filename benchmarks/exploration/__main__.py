"""``python -m benchmarks.exploration PART``: a part of the experiments on exploration and estimation, or ``all``.

Goes on where it was cut. Each part ends by writing the page anew from the journal; ``page`` does nothing else. What is
measured, and what was predicted, is said in ``docs/exploration.md``.
"""

from pathlib import Path

from benchmarks.experiments import Command, Records, run_parts
from benchmarks.exploration.arms import Bench
from benchmarks.exploration.page import write
from benchmarks.exploration.parts import PARTS
from benchmarks.exploration.settings import SETTINGS, ExplorationBenchSettings
from widthwise.data import ImageData

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> Path:
    """Run the part; returns the path of the page."""
    return run_parts("exploration", str(__doc__), SETTINGS, PARTS, _bench, write, arguments, takes_weights=True)


def _bench(settings: ExplorationBenchSettings, data: ImageData, command: Command, records: Records) -> Bench:
    return Bench(settings, data, command.weights, command.out, records)


if __name__ == "__main__":
    main()
