"""The command line: ``widthwise prune``, ``recipe``, ``trace``, ``evaluate``.

Every option is a field of a settings dataclass, so the same configuration comes from flags, from a file
(``--config``), from Python, and ``--print_config`` shows it. Known errors are printed without a traceback, exit code 2.
"""

import logging
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, is_dataclass, replace
from inspect import signature
from json import dumps, loads
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ArgumentParser
from rich.console import Console

from widthwise.cost import Budget, CostModel
from widthwise.data import DataConfig, load_data
from widthwise.errors import ConfigError, CorruptRun, WidthwiseError
from widthwise.methods import FNNP, Exploration, Figures, Joint, Method, Stagewise
from widthwise.methods.compress import measure
from widthwise.recipes import RECIPES, Recipe
from widthwise.report import comparison_table, explain, graph_tables
from widthwise.runs import RunPaths, read_json, write_atomic
from widthwise.runs.model import load
from widthwise.subnet import WidthSpace
from widthwise.tracing import trace
from widthwise.train import TrainConfig
from widthwise.zoo import build_model

__all__ = ["main"]

CONFIG_FILE = "prune.yaml"


def prune(
    model: str = "digits_net",
    weights: Path | None = None,
    data: str = "digits",
    data_options: DataConfig = DataConfig(),  # noqa: B008 - frozen
    budget: Budget = Budget(macs=0.5),  # noqa: B008 - frozen
    no_budget: bool = False,
    space: WidthSpace = WidthSpace(),  # noqa: B008 - frozen
    method: Literal["fnnp", "stagewise", "joint", "exploration"] = "fnnp",
    fnnp: FNNP = FNNP(),  # noqa: B008 - frozen
    stagewise: Stagewise = Stagewise(),  # noqa: B008 - frozen
    joint: Joint = Joint(),  # noqa: B008 - frozen
    exploration: Exploration = Exploration(),  # noqa: B008 - frozen
    train_first: bool | None = None,
    train: TrainConfig = TrainConfig(epochs=20, lr=0.1),  # noqa: B008 - frozen
    finetune: TrainConfig = TrainConfig(epochs=20, lr=0.02),  # noqa: B008 - frozen
    pin: tuple[str, ...] | str = (),
    unproved: tuple[str, ...] | str = (),
    run: Path | None = None,
    seed: int = 0,
) -> Path:
    """Search for a smaller network under a budget, fine-tune it and save it in a run folder.

    Args:
        model: a zoo name, torchvision:NAME, timm:NAME, or module.path:function for your own.
        weights: a file with the trained weights (safetensors or a state dict).
        data: digits, cifar10, cifar100, folder:PATH or parquet:PATH.
        data_options: how the data is split and prepared.
        budget: limits of the small network; a number up to 1 is a fraction of the full model's.
        no_budget: search without limits, with a method that can (joint).
        space: the widths to choose from.
        method: how to search.
        fnnp: settings of the method fnnp.
        stagewise: settings of the method stagewise.
        joint: settings of the method joint.
        exploration: settings of the method exploration.
        train_first: whether to train the full model before; by default if no weights are given and the method needs
            them.
        train: how the full model is trained.
        finetune: how the best candidates are trained.
        pin: path or pattern of layers to leave exactly as they are (layer1.*), or a list ([layer1.*,fc]).
        unproved: the same for layers to prune although the trace cannot prove them, at your own risk.
        run: the run folder; runs/MODEL-DATA if not given. The same command goes on where it was killed.
        seed: of the full model's first weights, where it is trained here.
    """
    methods: dict[str, Method] = {"fnnp": fnnp, "stagewise": stagewise, "joint": joint, "exploration": exploration}
    recipe = Recipe(
        model=model,
        weights=weights,
        data=data,
        data_options=data_options,
        budget=None if no_budget else budget,
        method=methods[method],
        space=space,
        finetune=finetune,
        pin=pin,
        unproved=unproved,
        seed=seed,
    )
    if train_first is None:
        train_first = recipe.method.needs_trained and not recipe.has_weights
    folder = run or Path("runs") / f"{model}-{data}".replace("/", "_").replace(":", "_")
    result = replace(recipe, train=train if train_first else None).run(folder)
    console = Console()
    console.print(comparison_table(result.metrics))
    console.print(f"The small network is in {folder}; widthwise.load({str(folder)!r}) brings it back.", highlight=False)
    return folder


def trace_model(
    model: str,
    weights: Path | None = None,
    shape: str | None = None,
    pin: tuple[str, ...] | str = (),
    unproved: tuple[str, ...] | str = (),
    json: bool = False,
    all: bool = False,
) -> None:
    """Show how much of a model can be pruned, what it would save, what is pinned and why, and what one could do.

    Args:
        model: a zoo name, torchvision:NAME, timm:NAME, or module.path:function for your own.
        weights: a file with the trained weights; a trace does not depend on them.
        shape: of one image, such as 3x224x224.
        pin: path or pattern of layers to leave exactly as they are (layer1.*), or a list ([layer1.*,fc]).
        unproved: the same for layers to offer although the trace cannot prove them, at your own risk.
        json: write all facts as JSON, and nothing else, to standard output.
        all: show every layer, and every group by itself, instead of telling of many alike in one line.
    """
    with redirect_stdout(sys.stderr):  # what a model's own code prints is no part of the answer
        network = build_model(model, weights=weights)
        size = (1, *_shape(model, network, shape))
        graph = trace(network, torch.zeros(size), pin=pin, unproved=unproved)
    facts = explain(graph, CostModel(graph))
    if json:
        print(dumps({"model": model, "input_shape": size, **facts.to_dict()}, indent=2))
        return
    console = Console(highlight=False)
    console.print(f"{model}, traced on an input of {' x '.join(map(str, size))}", markup=False)
    for part in graph_tables(facts, every=all):
        console.print(part)


def evaluate(run: Path, data: str | None = None, data_options: DataConfig | None = None) -> None:
    """Measure the small network of a finished run again.

    Args:
        run: the run folder.
        data: another data set than that of the run.
        data_options: how that data is split and prepared.
    """
    paths = RunPaths(run)
    if not paths.subnet_path.exists():
        raise CorruptRun(
            f"A finished run has a {paths.subnet_path.name}, but {run} has none. Give the folder that `widthwise "
            "prune` was run on; if it was interrupted, run the same command again."
        )
    saved = _saved_config(paths)
    if data is None and saved is None:
        raise ConfigError(f"{run} was not made by `widthwise prune`, so it does not say on which data; add --data.")
    source = data if data is not None else saved.data
    images = load_data(source, **asdict(data_options or (DataConfig() if saved is None else saved.data_options)))
    small = load(run)
    graph = trace(small, images.example())
    figures = measure(small, graph.subnet(), CostModel(graph), images)
    before = Figures.from_json(read_json(paths.result_path)["before"])
    Console().print(comparison_table({"before": before, "after": figures}))


def _shape(model: str, network: torch.nn.Module, shape: str | None) -> tuple[int, ...]:
    """What was asked for, or what such a model usually takes."""
    if shape is not None:
        parts = shape.lower().split("x")
        if not all(part.isdigit() and int(part) > 0 for part in parts):
            raise ConfigError(f"A shape is written as 3x224x224 (channels, height, width), but got {shape!r}.")
        return tuple(int(part) for part in parts)
    kind, _, name = model.partition(":")
    if kind == "timm":
        return tuple(network.default_cfg["input_size"])  # type: ignore[index]
    if name:
        return (3, 224, 224)
    return (1, 8, 8) if model == "digits_net" else (3, 224, 224) if model == "mobilenet_v1" else (3, 32, 32)


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
            console.print(f"{key}\n    {(make.__doc__ or '').strip()} Reported: {make().reported}", markup=False)
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
    console.print(f"Reported in the paper: {chosen.reported}. The small network is in {folder}.", markup=False)


def _save(chosen: Recipe, file: Path) -> None:
    """The settings of a recipe as a configuration file of ``widthwise prune``."""
    if file.exists():
        raise ConfigError(f"A recipe is saved in a new file, but {file} exists; choose another name or move it.")
    kind = next(name for name, kind in METHODS.items() if isinstance(chosen.method, kind))
    shared = ("model", "weights", "data", "data_options", "space", "finetune", "pin", "unproved", "seed")
    settings = {name: _as_data(getattr(chosen, name)) for name in shared}
    settings |= {"method": kind, kind: _as_data(chosen.method), "train_first": chosen.train is not None}
    settings |= {name: _as_data(getattr(chosen, name)) for name in ("train", "budget") if getattr(chosen, name)}
    settings["no_budget"] = chosen.budget is None
    write_atomic(file, lambda path: path.write_text(dumps(settings, indent=2) + "\n"))


def _as_data(setting: Any) -> Any:
    """As JSON data."""
    return loads(dumps(asdict(setting) if is_dataclass(setting) else setting, default=str))  # type: ignore[arg-type]


METHODS: dict[str, type[Method]] = {
    "fnnp": FNNP,
    "stagewise": Stagewise,
    "joint": Joint,
    "exploration": Exploration,
}
"""The methods by the names of their options."""

COMMANDS: dict[str, Callable[..., Any]] = {
    "prune": prune,
    "recipe": recipe,
    "trace": trace_model,
    "evaluate": evaluate,
}
"""The function of each command; its arguments are the command's options."""


def _command(name: str) -> ArgumentParser:
    function = COMMANDS[name]
    part = ArgumentParser(description=(function.__doc__ or "").partition("\n")[0])
    part.add_argument("--config", action="config", help="a file with any of the settings below")
    flags = [key for key, parameter in signature(function).parameters.items() if parameter.annotation is bool]
    part.add_function_arguments(function, as_positional=name != "prune", skip=set(flags))
    for flag in flags:  # --json, where jsonargparse would want --json true
        described = re.search(rf"^ +{flag}: (.*)$", function.__doc__ or "", re.MULTILINE)
        part.add_argument(f"--{flag}", action="store_true", help=described[1] if described else None)
    return part


def _saved_config(paths: RunPaths) -> Any:
    """The settings of the ``widthwise prune`` that made a run; None for a run made from Python."""
    file = paths.path / CONFIG_FILE
    if not file.exists():
        return None
    parser = ArgumentParser()
    parser.add_function_arguments(prune)
    return parser.instantiate(parser.parse_path(str(file)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    commands = {name: _command(name) for name in COMMANDS}
    parser = ArgumentParser(prog="widthwise", description="Finds how wide each layer of a network needs to be.")
    subcommands = parser.add_subcommands()
    for name, part in commands.items():
        subcommands.add_subcommand(name, part, help=part.description)
    try:
        config = parser.parse_args(list(arguments) if arguments is not None else None)
        name = config.subcommand
        settings = parser.instantiate(config)[name]
        options = {key: value for key, value in vars(settings).items() if key != "config"}
        made = COMMANDS[name](**options)
        if name == "prune":
            text = commands[name].dump(config[name])
            write_atomic(made / CONFIG_FILE, lambda path: path.write_text(text))
    except WidthwiseError as error:
        Console(stderr=True).print(f"{type(error).__name__}: {error}", style="red", markup=False, highlight=False)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
