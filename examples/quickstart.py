"""From a model, data and a budget to a smaller, trained network: the whole of it in a few seconds.

The images are scikit-learn's digits, so nothing is downloaded. Run ``python examples/quickstart.py``.
"""

import sys

from rich.console import Console
from rich.table import Table

import widthwise
from widthwise import FNNP, Budget, TrainConfig


def main(candidates: int = 30, epochs: int = 15) -> widthwise.Result:
    model = widthwise.build_model("digits_net")
    result = widthwise.compress(
        model,
        "digits",
        train=TrainConfig(epochs=epochs),  # because this model comes without weights
        budget=Budget(macs=0.5),
        method=FNNP(candidates=candidates),
        finetune=TrainConfig(epochs=max(1, epochs // 3), lr=0.02),
    )
    table = Table("", "MACs", "parameters", "validation", "test", "ms, batch 64", title="digits_net on digits")
    for name, figures in result.metrics.items():
        accuracies = (figures.val_accuracy, figures.test_accuracy or 0.0)
        shown = [f"{figures.macs:,}", f"{figures.params:,}", *(f"{a:.1%}" for a in accuracies)]
        table.add_row(name, *shown, f"{figures.latency_ms[64]:.2f}")
    Console().print(table)
    return result


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
