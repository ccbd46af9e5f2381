"""What the experiments on real images share: what a run folder belongs to, records, and parts of splits."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict
from time import perf_counter
from typing import Any

import torch
from torch import nn

from widthwise import build_model
from widthwise.data import ImageData
from widthwise.methods.initialise import fresh
from widthwise.runs import Journal

__all__ = ["Records", "Value", "fresh_network", "identity", "results_of", "sizes_of"]

Value = dict[str, Any]
"""Of a result, as JSON data."""


def identity(settings: Any, free: Collection[str]) -> dict[str, Any]:
    """The fields of a settings dataclass that decide a single result, as JSON data.

    Args:
        settings: the whole.
        free: fields that do not, such as how many results there are.
    """
    values = {name: value for name, value in asdict(settings).items() if name not in free}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def fresh_network(name: str, data: ImageData, seed: int) -> nn.Module:
    """A network of the zoo for these images, with weights from scratch, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(name, num_classes=data.num_classes, in_channels=data.input_shape[0])
    fresh(model, seed)
    return model.eval()


def sizes_of(data: ImageData) -> dict[str, int]:
    """Images and classes, for the configuration of a run folder."""
    return {"train": len(data.train), "val": len(data.val), "classes": data.num_classes}


def results_of(events: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The values of a journal's results by their keys."""
    return {event["key"]: event["value"] for event in events if event.get("event") == "result"}


class Records:
    """What an experiment has found: one record per result, written down at once, none computed twice."""

    def __init__(self, journal: Journal, say: Callable[[str], None]) -> None:
        self.journal, self.say = journal, say
        self.results: dict[str, Value] = results_of(journal.events)

    def once(self, key: str, compute: Callable[[], Value]) -> Value:
        """The value of that key: from the journal, or computed here and written down."""
        if key not in self.results:
            start = perf_counter()
            value = compute()
            self.record(key, {**value, "seconds": value.get("seconds", round(perf_counter() - start, 3))})
        return self.results[key]

    def record(self, key: str, value: Value, progress: str = "") -> None:
        """Write one down."""
        self.journal.append({"event": "result", "key": key, "value": value})
        self.results[key] = self.journal.events[-1]["value"]
        shown = ", ".join(f"{k} {v:.4f}" for k, v in value.items() if isinstance(v, float))
        self.say(f"{progress}{key}: {shown}")
