"""Made-up results of the comparison with the peers."""

from dataclasses import replace
from typing import Any

from benchmarks.peers.rows import Row
from benchmarks.peers.variants import VARIANTS

__all__ = ["OURS", "ROW", "rows_of", "value_of"]

ROW = Row(
    **{"variant": "widthwise/fnnp", "kind": "method", "settings": "cpu", "model": "resnet20", "weights": True},
    **{"budget": 0.5, "seed": 0, "macs": 500, "params": 40, "val": 0.9, "test": 0.88, "left": 0.1, "adapted": 0.5},
    **{"search_seconds": 10.0, "finetune_seconds": 20.0, "memory_mib": 800.0, "lines": 5},
)

OURS = (
    *("fnnp", "stagewise", "joint", "exploration"),
    *("uniform", "l1", "shared", "balanced", "geometric_median", "bn_scale", "random"),
)


def rows_of(variant: str, *tests: float | None, **changes: Any) -> list[Row]:
    """One for each seed; all of the validation accuracy 0.9."""
    kind = VARIANTS[variant].kind
    return [replace(ROW, variant=variant, kind=kind, seed=s, test=t, **changes) for s, t in enumerate(tests)]


def value_of(variant: str, seed: int, **changes: Any) -> dict[str, Any]:
    start = {"variant": variant, "budget": 0.5, "seed": seed, "settings": "tiny", "outcome": "done", "lines": 29}
    sizes = {"macs": 480_000, "params": 20_000, "memory_mib": 800, "versions": {"torch": "9.9"}}
    seconds = {"search_seconds": 2.0, "finetune_seconds": 40.0, "seconds": 50.0}
    accuracies = {"left": 0.3, "adapted": 0.6, "val": 0.85 + seed / 100, "test": 0.84 + seed / 100}
    return {**start, **sizes, **seconds, **accuracies, "notes": {"ratio": 0.5}, **changes}
