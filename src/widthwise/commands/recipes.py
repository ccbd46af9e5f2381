"""``widthwise recipe``."""

from dataclasses import asdict, is_dataclass, replace
from json import dumps, loads
from pathlib import Path
from typing import Any

from rich.console import Console

from widthwise.errors import ConfigError
from widthwise.methods import METHODS
from widthwise.recipes import RECIPES, Recipe
from widthwise.report import comparison_table
from widthwise.runs import write_text

__all__ = ["recipe"]


def recipe(
    name: str,
    data: str | None = None,
    weights: Path | None = None,
    run: Path | None = None,
    save: Path | None = None,
) -> None:
    """Run a published experiment with the paper's settings, list them, or save one to be changed.

    Args:
        name: of the recipe, or `list`.
        data: where its data lies, such as folder:/data/imagenet.
        weights: of the full model.
        run: the run folder; runs/NAME if not given. The same command goes on where it was killed.
        save: do not run it, but write its settings into this new file, for widthwise prune --config FILE.
    """
    console = Console(highlight=False)
    if name == "list":
        for key, make in RECIPES.items():
            reported = f" Reported: {told}" if (told := make().reported) else ""
            console.print(f"{key}\n    {(make.__doc__ or '').strip()}{reported}", markup=False)
        return
    if name not in RECIPES:
        raise ConfigError(f"A recipe is one of {', '.join(RECIPES)}, but got {name!r}.")
    chosen = replace(RECIPES[name](), weights=weights)
    chosen = replace(chosen, data=data or chosen.data)
    if save is not None:
        _save(chosen, save)
        console.print(f"{save} has the settings of {name}: widthwise prune --config {save}", markup=False)
        return
    folder = run or Path("runs") / name
    result = chosen.run(folder)
    console.print(comparison_table(result.metrics))
    reported = f"Reported in the paper: {chosen.reported}. " if chosen.reported else ""
    console.print(f"{reported}The small network is in {folder}.", markup=False)


def _save(chosen: Recipe, file: Path) -> None:
    """The settings of a recipe as a configuration file of ``widthwise prune``."""
    if file.exists():
        raise ConfigError(f"A recipe is saved in a new file, but {file} exists; choose another name or move it.")
    kind = next(name for name, kind in METHODS.items() if isinstance(chosen.method, kind))
    shared = ("model", "weights", "data", "data_options", "space", "finetune")
    more = ("pin", "unproved", "reconstruct", "seed", "device")
    settings = {name: _as_data(getattr(chosen, name)) for name in (*shared, *more)}
    settings |= {"method": kind, kind: _as_data(chosen.method), "train_first": chosen.train is not None}
    settings |= {name: _as_data(getattr(chosen, name)) for name in ("train", "budget") if getattr(chosen, name)}
    settings["no_budget"] = chosen.budget is None
    write_text(file, dumps(settings, indent=2) + "\n")


def _as_data(setting: Any) -> Any:
    """As JSON data."""
    return loads(dumps(asdict(setting) if is_dataclass(setting) else setting, default=str))  # type: ignore[arg-type]
