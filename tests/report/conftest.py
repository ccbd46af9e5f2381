"""One small run of each method, made once for all tests of this folder."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from report_runs import BRIEF, METHODS, Cut, Made, Make

import widthwise
from widthwise import Budget


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes the run of a method, or hands out the one that is there; tests only read it."""
    folder, found = tmp_path_factory.mktemp("runs"), {}

    def run(name: str) -> Made:
        if name not in found:
            torch.manual_seed(0)
            method = METHODS[name]
            found[name] = Made(
                folder / name,
                widthwise.compress(
                    widthwise.build_model("digits_net"),
                    "digits",
                    budget=Budget(macs=0.5),
                    method=method,
                    train=replace(BRIEF, epochs=2) if method.needs_trained else None,
                    finetune=replace(BRIEF, lr=0.02),
                    run=folder / name,
                    builder="digits_net",
                ),
            )
        return found[name]

    return run


@pytest.fixture
def cut(made: Make, tmp_path: Path) -> Cut:
    """A copy of a run as if it had been killed after so many events of its search."""

    def copy(name: str, events: int) -> Path:
        target = tmp_path / f"cut-{name}"
        shutil.copytree(made(name).path, target)
        for file in ("result.json", "subnet.json", "model.safetensors", "checkpoints/finalist-1.pt"):
            (target / file).unlink()
        for file in (target / "checkpoints").glob("finalist-*"):
            file.unlink()
        lines = (target / "journal.jsonl").read_text().splitlines(keepends=True)
        begin = next(place for place, line in enumerate(lines) if '"search"' in line)
        (target / "journal.jsonl").write_text("".join(lines[: begin + 1 + events]))
        return target

    return copy
