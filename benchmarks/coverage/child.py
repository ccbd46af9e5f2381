"""``python -m benchmarks.coverage.child TOOL ENTRY NOTES``: one network with one tool, in this process."""

import json
import sys
import warnings
from pathlib import Path

import torch

from benchmarks.coverage.build import build
from benchmarks.coverage.notes import Notes
from benchmarks.coverage.registry import Entry

__all__ = ["main"]


def main(tool: str, entry_json: str, path: str) -> None:
    """Measure, and write down what came of it; an error of the tool is a result like any other."""
    warnings.simplefilter("ignore")
    notes, entry = Notes(Path(path)), Entry(**json.loads(entry_json))
    torch.set_num_interop_threads(1)
    try:
        _measure(tool, entry, notes)
        notes.add(outcome="done")
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "no message")
        notes.add(outcome="raised", why=f"{type(error).__name__}: {first[:240]}")


def _measure(tool: str, entry: Entry, notes: Notes) -> None:
    notes.stage("build")
    built = build(entry)
    notes.add(shape=built.shape)
    notes.stage("import")
    if tool == "widthwise":
        from benchmarks.coverage import ours  # one tool to a process: peers patch torch when they are imported

        ours.measure(built, notes, entry.kind == "detection")
    elif tool == "torch_pruning":
        from benchmarks.coverage import torch_pruning_peer

        torch_pruning_peer.measure(built, notes)
    else:
        from benchmarks.coverage import fastnas_peer

        fastnas_peer.measure(built, notes)


if __name__ == "__main__":
    main(*sys.argv[1:])
