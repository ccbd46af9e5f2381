"""``python -m benchmarks.joint PART``: a part of the experiments on joint search-and-training, or ``all``.

Goes on where it was cut. Each part ends by writing the page anew from the journal; ``page`` does nothing else. What is
measured, and what was predicted, is said in ``docs/joint.md``.
"""

from pathlib import Path

from benchmarks.experiments import Command, Records, run_parts
from benchmarks.joint.arms import Bench
from benchmarks.joint.page import write
from benchmarks.joint.parts import PARTS
from benchmarks.joint.settings import SETTINGS, JointSettings
from widthwise.data import ImageData

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> Path:
    """Run the part; returns the path of the page."""
    return run_parts("joint", str(__doc__), SETTINGS, PARTS, _bench, write, arguments)


def _bench(settings: JointSettings, data: ImageData, command: Command, records: Records) -> Bench:
    return Bench(settings, data, command.out, records)


if __name__ == "__main__":
    main()
