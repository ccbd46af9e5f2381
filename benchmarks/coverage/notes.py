"""What a measuring process has found so far, kept on the disk: it may be stopped at any moment."""

from pathlib import Path
from typing import Any

from widthwise.runs import write_json

__all__ = ["Notes"]


class Notes:
    """Facts about one network, and the stage that the process is in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.facts: dict[str, Any] = {}

    def stage(self, name: str) -> None:
        """Say what comes next; if the process does not survive it, this was why."""
        self.add(stage=name)

    def add(self, **facts: Any) -> None:
        """Write facts down; plain JSON data, all numbers finite."""
        self.facts.update(facts)
        write_json(self._path, self.facts)
