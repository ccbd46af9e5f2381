"""FNNP on real images: what R, evolution and the three evaluators are worth, and what the choice gains.

``python -m benchmarks.fnnp --data parquet:DIR --weights FILE --model resnet56 --out runs/fnnp`` goes on where
it was cut; ``--parts [rates,evolution]`` selects. ``python -m benchmarks.fnnp.page runs/fnnp`` turns the results into
``docs/fnnp_MODEL.md``.

Prediction: adaptive batch norm ranks clearly better than global batch norm (Pearson with the fine-tuned accuracy);
wide random rates (R of 0.9 and more) rarely reach the uniform strategy; evolution passes it within 100 candidates.
"""

import sys

from jsonargparse import ArgumentParser
from rich.console import Console

from benchmarks.fnnp.parts import PARTS, opened
from benchmarks.fnnp.settings import FnnpSettings
from benchmarks.fnnp.summary import summarise
from benchmarks.fnnp.tables import tables_of
from benchmarks.report import show
from widthwise.runs import describe_environment, write_json

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> dict[str, object]:
    """Run the parts that were asked for; returns and writes the summary of everything in the folder."""
    settings = _parse(arguments).cut_down()
    console = Console()
    with opened(settings, console) as experiment:
        for part in settings.parts:
            console.rule(part)
            PARTS[part](experiment)
            summary = {
                "model": settings.model,
                "data": experiment.data.name,
                "budget": settings.budget,
                "full": experiment.cost.full,
                "settings": settings.identity(),
                "environment": describe_environment(),
                **summarise(experiment.journal.events),
            }
            write_json(settings.out / "summary.json", summary)
    show(console, tables_of(summary))
    console.print(f"written to {settings.out / 'summary.json'}", highlight=False)
    return summary


def _parse(arguments: list[str] | None) -> FnnpSettings:
    """The settings; lists are written ``--parts [rates,final]``, and ``--smoke true``."""
    parser = ArgumentParser(prog="python -m benchmarks.fnnp", description=__doc__)
    parser.add_class_arguments(FnnpSettings)
    return FnnpSettings(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    main(sys.argv[1:])
