"""``python -m benchmarks.fnnp PART``: a part of the experiments on FNNP, or ``all``.

Goes on where it was cut. Each part ends by writing the page anew from the journal; ``page`` does nothing else. What was
found is said in ``docs/fnnp.md``.

Prediction: adaptive batch norm ranks clearly better than global batch norm (Pearson with the fine-tuned accuracy);
wide random rates (R of 0.9 and more) rarely reach the uniform strategy; evolution passes it within 100 candidates.
Thompson sampling was added later, after it had passed evolution in a first look at both networks.
"""

from pathlib import Path

from benchmarks.experiments import Command, Records, run_parts
from benchmarks.fnnp.page import write
from benchmarks.fnnp.parts import PARTS, Experiment
from benchmarks.fnnp.settings import SETTINGS, FnnpSettings
from widthwise.data import ImageData

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> Path:
    """Run the part; returns the path of the page."""
    return run_parts("fnnp", str(__doc__), SETTINGS, PARTS, _experiment, write, arguments, takes_weights=True)


def _experiment(settings: FnnpSettings, data: ImageData, command: Command, records: Records) -> Experiment:
    return Experiment(settings, data, command.weights, records)


if __name__ == "__main__":
    main()
