"""Figures that documents repeat are those of the journals that are kept beside them."""

import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import pytest
from benchmarks.experiments import results_of
from benchmarks.peers.rows import Found, Summary, row_of, summaries

from widthwise.runs import read_events

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"

SHOWN = [
    *(("resnet20", settings) for settings in ("cpu", "cpu_longer", "cpu_shorter")),
    *(("resnet56", settings) for settings in ("cpu", "cpu_shorter")),
]
"""What docs/results.md has."""


def found_with(model: str, settings: str) -> Found:
    journal = RESULTS / f"peers_{model}_{settings}" / "journal.jsonl"
    rows = (row_of(value, model, weights=True) for value in results_of(read_events(journal)).values())
    return summaries([row for row in rows if row is not None])


def cells_of(document: str, heading: str) -> list[list[str]]:
    """The rows of the first table behind a text, wherever its lines break."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found = re.search(r"\s+".join(map(re.escape, heading.split())), text)
    assert found, f"{document} has {heading!r}"
    lines = iter(text[found.end() :].splitlines())
    first = next(line for line in lines if line.startswith("|"))
    table = [first]
    for line in lines:
        if not line.startswith("|"):
            break
        table.append(line)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_the_readme_shows_the_best_of_each() -> None:
    def best(of: Sequence[Summary], *names: str) -> str:
        """The most accurate of the variants that start like this, and its time."""
        found = next(s for s in of if s.rows[0].variant.startswith(names))
        return f"{found.figure('test', 100)} ({found.total_seconds:.0f} s)"

    whole, half = (
        [found_with(model, f"cpu{length}") for model in ("resnet20", "resnet56")] for length in ("", "_shorter")
    )
    expected = [
        (whole, ["widthwise/fnnp"]),
        (whole, ["widthwise/balanced/reconstructed"]),
        (whole, ["fastnas/"]),
        (whole, ["torch_pruning/"]),
        (half, ["widthwise/fnnp"]),
        (half, ["torch_pruning/"]),
    ]
    shown = [row[1:] for row in cells_of("README.md", "seconds of search and fine-tuning")]
    assert shown == [[best(found[share], *names) for found in of for share in (0.5, 0.3)] for of, names in expected]


def test_what_reconstruction_is_worth() -> None:
    def cells(of: Sequence[Summary]) -> list[str]:
        """Before and after fine-tuning, without and with it."""
        without, fitted = ({s.rows[0].variant: s for s in of}[f"widthwise/l1{end}"] for end in ("", "/reconstructed"))
        return [f"{100 * fmean(s.values(at)):.1f} %" for at in ("adapted", "test") for s in (without, fitted)]

    found = found_with("resnet20", "cpu")
    shown = cells_of("docs/methods.md", "means of three seeds:")
    assert shown == [["50 %", *cells(found[0.5])], ["30 %", *cells(found[0.3])]]


@pytest.mark.parametrize(("model", "settings"), SHOWN)
def test_the_page_shows_the_journal(model: str, settings: str) -> None:
    for share, of in found_with(model, settings).items():
        table = cells_of("docs/results.md", f"## {model} ({settings}) at {share:.0%} of the multiply-adds")
        shown = {row[0].strip("*"): row for row in table}
        assert set(shown) == {"full network", *(summary.name for summary in of)}
        for summary in of:
            assert str(summary.figure("test", 100)) == shown[summary.name][9], summary.name
            assert str(len(summary.rows)) == shown[summary.name][2]
