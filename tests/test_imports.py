"""Imports point one way, and stand at the top of the file."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "widthwise"

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "digest": set(),
    "channels": {"errors", "digest"},
    "subnet": {"errors", "channels"},
    "tracing": {"errors", "channels", "subnet"},
    "cost": {"errors", "channels", "subnet"},
    "data": {"errors", "digest"},
    "zoo": {"errors"},
    "parallel": {"errors"},
    "runs": {"errors", "channels", "subnet", "zoo"},
    "evaluate": {"errors", "channels", "subnet", "data"},
    "export": {"errors", "evaluate", "runs"},
    "train": {"errors", "digest", "data", "evaluate", "runs"},
    "stages": {"errors", "channels", "subnet", "tracing", "evaluate"},
    "search": {"errors", "channels", "subnet", "cost", "runs"},
    "supernet": {"errors", "digest", "channels", "subnet", "stages", "data", "evaluate", "search", "train"},
    "joint": {"errors", "channels", "subnet", "cost", "data", "evaluate", "search", "train", "runs"},
    "exploration": {"errors", "channels", "subnet", "cost", "data", "evaluate", "search", "parallel", "runs"},
    "methods": {
        *(
            "errors",
            "digest",
            "channels",
            "subnet",
            "tracing",
            "cost",
            "data",
            "zoo",
            "runs",
            "evaluate",
            "train",
            "search",
        ),
        *("parallel", "stages", "supernet", "joint", "exploration"),
    },
    "recipes": {
        *("errors", "subnet", "cost", "data", "zoo", "evaluate", "search", "train", "joint", "exploration", "methods"),
    },
    "report": {"errors", "channels", "subnet", "cost", "runs", "evaluate", "train", "search", "methods"},
    "experiments": {
        *("errors", "channels", "subnet", "tracing", "cost", "data", "zoo", "runs", "evaluate", "train", "search"),
        *("methods", "recipes", "report"),
    },
    "commands": {
        *("errors", "channels", "subnet", "tracing", "cost", "data", "zoo", "runs", "evaluate", "train", "search"),
        *("methods", "recipes", "experiments", "report", "export"),
    },
    "cli": {"errors", "runs", "commands"},
    "__main__": {"cli"},
}
"""Lowest first: no part imports one below it in this table."""

FILES = sorted(SOURCE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules of widthwise that a file imports, such as ``channels.graph``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names = (
                [f"{node.module}.{a.name}" for a in node.names] if node.module == "widthwise" else [str(node.module)]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("widthwise.") for name in names if name.startswith("widthwise."))


def test_the_table_itself_points_one_way() -> None:
    order = list(MAY_IMPORT)
    for part, allowed in MAY_IMPORT.items():
        assert all(order.index(other) < order.index(part) for other in allowed), part


@pytest.mark.parametrize(
    "path", [f for f in FILES if f.parent != SOURCE or f.stem in MAY_IMPORT], ids=lambda f: "/".join(f.parts[-2:])
)
def test_imports_point_one_way(path: Path) -> None:
    part = part_of(path)
    assert part in MAY_IMPORT, f"say in this table where {part} stands"
    found = {name.split(".")[0] for name in imported(ast.parse(path.read_text()))} - {part}
    assert found <= MAY_IMPORT[part], f"{path.name} imports {sorted(found - MAY_IMPORT[part])}"


@pytest.mark.parametrize(
    "path", [f for f in FILES if f.parent == SOURCE / "search" and f.name != "__init__.py"], ids=lambda f: f.stem
)
def test_searchers_do_not_know_the_division_over_stages(path: Path) -> None:
    names = imported(ast.parse(path.read_text()))
    assert [name for name in names if name == "search" or name.startswith("search.division")] == []


def test_what_takes_seconds_to_import_waits_until_it_is_needed() -> None:
    slow = ["torchvision", "timm", "sklearn", "scipy.stats", "matplotlib", "ray", "torch._dynamo"]
    code = f"import sys, widthwise; print([name for name in {slow} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]", "import it in the function that needs it"


def test_only_the_root_may_import_everything() -> None:
    assert [f.name for f in FILES if f.parent == SOURCE and f.stem not in MAY_IMPORT] == ["__init__.py"]
