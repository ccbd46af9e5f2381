"""Figures with their spread, and the formats of a table."""

import csv
import io
import json

from rich.console import Console

from widthwise.experiments import Spread, Table
from widthwise.experiments.table import FORMATS

TABLE = Table(
    "Two methods.",
    ("method", "accuracy (%)", "total (s)"),
    (
        ("fnnp_a", Spread((90.0, 92.0)), Spread((10.0,), 1, at_least=True)),
        ("joint", Spread(()), Spread((1234.5,), 1)),
    ),
    optional=("total (s)",),
)


def test_a_spread() -> None:
    assert str(Spread((90.0, 92.0))) == "91.00 ± 1.41"
    assert str(Spread((1234.56,), 1)) == "1,234.6"
    assert str(Spread((2.0, 2.0))) == "2.00"
    assert str(Spread((3.0,), 0, at_least=True)) == "≥ 3"
    assert str(Spread(())) == "-"


def test_text_is_aligned() -> None:
    lines = TABLE.to("text").splitlines()
    assert lines[2:] == [
        "method  accuracy (%)  total (s)",
        "------  ------------  ---------",
        "fnnp_a  91.00 ± 1.41     ≥ 10.0",
        "joint              -    1,234.5",
    ]


def test_csv_has_every_digit_in_columns_of_its_own() -> None:
    rows = list(csv.reader(io.StringIO(TABLE.to("csv"))))
    assert rows[0][:4] == ["method", "accuracy (%), mean", "accuracy (%), std", "accuracy (%), runs"]
    assert rows[1][:4] == ["fnnp_a", "91.0", "1.4142135623730951", "2"]
    assert rows[2] == ["joint", "", "", "0", "1234.5", "", "1"]


def test_json_has_the_values() -> None:
    rows = json.loads(TABLE.to("json"))["rows"]
    assert rows[0]["accuracy (%)"]["values"] == [90.0, 92.0]
    assert rows[0]["total (s)"] == {"mean": 10.0, "std": None, "values": [10.0], "lower_bound": True}
    assert rows[1]["accuracy (%)"] == {"mean": None, "std": None, "values": []}


def test_numbers_stay_numbers() -> None:
    table = Table("", ("proxy", "networks", "score"), (("macs", 3, 1307423.25), ("loss", 3, "")))
    assert table.to("csv").splitlines()[1:] == ["macs,3,1307423.25", "loss,3,"]
    assert json.loads(table.to("json"))["rows"][0] == {"proxy": "macs", "networks": 3, "score": 1307423.25}
    assert "1.3074e+06" in table.to("text")


def test_latex_escapes() -> None:
    latex = TABLE.to("latex")
    assert r"fnnp\_a & 91.00 $\pm$ 1.41 & $\geq$ 10.0 \\" in latex
    assert r"accuracy (\%)" in latex


def test_names_that_mean_something_elsewhere_stay_what_they_are() -> None:
    table = Table("[/x] of $5", ("row", "a"), (("[/x] a^2 <50% {b}~c\\d", Spread((1.0,))), ("y", "none")))
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(table.within(60).rendered())
    assert "[/x] a^2 <50% {b}~c\\d" in console.export_text()
    escaped = r"[/x] a\textasciicircum{}2 $<$50\% \{b\}\textasciitilde{}c\textbackslash{}d & 1.00 \\"
    assert escaped in table.to("latex").splitlines()
    rows = list(csv.reader(io.StringIO(table.to("csv"))))
    assert {len(row) for row in rows} == {4}
    assert rows[2] == ["y", "none", "", ""]


def test_a_table_without_rows() -> None:
    empty = Table("Nothing yet.", ("row", "a"), (), optional=("a",))
    assert empty.within(3).columns == ("row",)
    assert [len(empty.to(format)) > 0 for format in FORMATS] == [True] * len(FORMATS)


def test_a_note_is_under_the_title() -> None:
    table = Table("Time to trace", ("network", "ours"), (("resnet50", "1.2 s"), ("a|b", "2 s")), "Median of 3.")
    assert table.to("markdown").splitlines() == [
        "## Time to trace",
        "",
        "Median of 3.",
        "",
        "| network | ours |",
        "|---|---|",
        "| resnet50 | 1.2 s |",
        "| a\\|b | 2 s |",
    ]
    assert table.to("text").splitlines()[:4] == ["Time to trace", "", "Median of 3.", ""]
    assert table.to("latex").splitlines()[:2] == ["% Time to trace", "% Median of 3."]
    assert json.loads(table.to("json"))["note"] == "Median of 3."
    console = Console(width=40, record=True, file=io.StringIO())
    console.print(table.within(40).rendered())
    assert "Median of 3." in console.export_text()


def test_a_narrow_terminal_gets_fewer_columns() -> None:
    assert TABLE.within(80).columns == TABLE.columns
    assert TABLE.within(30).columns == ("method", "accuracy (%)")
    console = Console(width=30, record=True, file=io.StringIO())
    console.print(TABLE.within(30).rendered())
    assert "91.00 ± 1.41" in console.export_text()
