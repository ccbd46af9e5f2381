"""What the experiments on real images share: what a run folder belongs to, records, and parts of splits."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from widthwise.data import ImageData

__all__ = ["identity", "results_of", "sizes_of"]


def identity(settings: Any, free: Collection[str]) -> dict[str, Any]:
    """The fields of a settings dataclass that decide a single result, as JSON data.

    Args:
        settings: the whole.
        free: fields that do not, such as how many results there are.
    """
    values = {name: value for name, value in asdict(settings).items() if name not in free}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def sizes_of(data: ImageData) -> dict[str, int]:
    """Images and classes, for the configuration of a run folder."""
    return {"train": len(data.train), "val": len(data.val), "classes": data.num_classes}


def results_of(events: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The values of a journal's results by their keys."""
    return {event["key"]: event["value"] for event in events if event.get("event") == "result"}
