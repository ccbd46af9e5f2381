"""``widthwise prune`` and ``widthwise evaluate``."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser
from rich.console import Console

from widthwise.cost import Budget, CostModel
from widthwise.data import DataConfig, load_data
from widthwise.errors import ConfigError, CorruptRun
from widthwise.evaluate.devices import device_named
from widthwise.methods import FNNP, Baseline, Exploration, Figures, Joint, Method, Stagewise
from widthwise.methods.compress import measure
from widthwise.recipes import Recipe
from widthwise.report import comparison_table
from widthwise.runs import RunPaths, read_json
from widthwise.runs.model import load
from widthwise.subnet import WidthSpace
from widthwise.tracing import trace
from widthwise.train import TrainConfig

__all__ = ["CONFIG_FILE", "MethodName", "default_folder", "evaluate", "prune"]

CONFIG_FILE = "prune.yaml"
"""In the run folder: the settings of the command that made it."""

MethodName = Literal["fnnp", "stagewise", "joint", "exploration", "baseline"]
"""The names of :data:`widthwise.methods.METHODS`, and ``baseline``: no search."""


def prune(
    model: str = "digits_net",
    weights: Path | None = None,
    data: str = "digits",
    data_options: DataConfig = DataConfig(),  # noqa: B008 - frozen
    budget: Budget = Budget(macs=0.5),  # noqa: B008 - frozen
    no_budget: bool = False,
    space: WidthSpace = WidthSpace(),  # noqa: B008 - frozen
    method: MethodName = "fnnp",
    fnnp: FNNP = FNNP(),  # noqa: B008 - frozen
    stagewise: Stagewise = Stagewise(),  # noqa: B008 - frozen
    joint: Joint = Joint(),  # noqa: B008 - frozen
    exploration: Exploration = Exploration(),  # noqa: B008 - frozen
    baseline: Baseline = Baseline(),  # noqa: B008 - frozen
    train_first: bool | None = None,
    train: TrainConfig = TrainConfig(epochs=20, lr=0.1),  # noqa: B008 - frozen
    finetune: TrainConfig = TrainConfig(epochs=20, lr=0.02),  # noqa: B008 - frozen
    pin: tuple[str, ...] | str = (),
    unproved: tuple[str, ...] | str = (),
    reconstruct: int = 0,
    run: Path | None = None,
    seed: int = 0,
    device: str = "cpu",
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
        method: how to search; or baseline, without a search.
        fnnp: settings of the method fnnp.
        stagewise: settings of the method stagewise.
        joint: settings of the method joint.
        exploration: settings of the method exploration.
        baseline: which widths and channels stay without a search.
        train_first: whether to train the full model before; by default if no weights are given and the method needs
            them.
        train: how the full model is trained.
        finetune: how the best candidates are trained.
        pin: path or pattern of layers to leave exactly as they are (layer1.*), or a list ([layer1.*,fc]).
        unproved: the same for layers to prune although the trace cannot prove them, at your own risk.
        reconstruct: training images that the weights of the best candidates are fitted to by least squares before they
            are trained (250, say); none by default.
        run: the run folder; runs/MODEL-DATA if not given. The same command goes on where it was killed.
        seed: of the full model's first weights, where it is trained here.
        device: where latency is measured (cuda, mps). Searches and trainings take the accelerator by themselves.
    """
    searches: dict[str, Method] = {"fnnp": fnnp, "stagewise": stagewise, "joint": joint, "exploration": exploration}
    methods = searches | {"baseline": baseline}
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
        reconstruct=reconstruct,
        seed=seed,
        device=device,
    )
    if train_first is None:
        train_first = recipe.method.needs_trained and not recipe.has_weights
    folder = run or default_folder(f"{model}-{data}")
    result = replace(recipe, train=train if train_first else None).run(folder)
    console = Console(highlight=False)
    console.print(comparison_table(result.metrics))
    said = f"The small network is in {folder}; widthwise.load({str(folder)!r}) brings it back."
    console.print(said, markup=False, soft_wrap=True)  # whole, to be copied
    return folder


def default_folder(name: str) -> Path:
    """Where a run lies that was given no folder; names of models and data hold slashes and colons."""
    return Path("runs") / name.replace("/", "_").replace(":", "_")


def evaluate(
    run: Path,
    data: str | None = None,
    data_options: DataConfig | None = None,
    device: str | None = None,
    builder: str | None = None,
) -> None:
    """Measure the small network of a finished run again.

    Args:
        run: the run folder.
        data: another data set than that of the run.
        data_options: how that data is split and prepared.
        device: where latency is measured; where the run measured it by default.
        builder: what makes the full architecture, such as my.module:net, where the run was made without one.
    """
    paths = RunPaths(run)
    if not paths.result_path.exists():
        raise CorruptRun(
            f"A finished run has a {paths.result_path.name}, but {run} has none. Give the folder that `widthwise "
            "prune` was run on; if it was interrupted, run the same command again."
        )
    saved = _saved_config(paths)
    if data is None and saved is None:
        raise ConfigError(f"{run} was not made by `widthwise prune`, so it does not say on which data; add --data.")
    source = data if data is not None else saved.data
    images = load_data(source, **asdict(data_options or (DataConfig() if saved is None else saved.data_options)))
    home = device_named(device or ("cpu" if saved is None else saved.device))
    small = load(run, builder=builder).to(home)
    graph = trace(small, images.example().to(home))
    before = Figures.from_json(read_json(paths.result_path)["before"])
    (figures,) = measure([(small, graph.subnet())], CostModel(graph), images, before.latency_ms)
    Console().print(comparison_table({"before": before, "after": figures}))


def _saved_config(paths: RunPaths) -> Any:
    """The settings of the ``widthwise prune`` that made a run; None for a run made from Python."""
    file = paths.path / CONFIG_FILE
    if not file.exists():
        return None
    parser = ArgumentParser()
    parser.add_function_arguments(prune)
    return parser.instantiate(parser.parse_path(str(file)))
