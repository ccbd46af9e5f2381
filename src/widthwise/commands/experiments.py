"""``widthwise compare`` and ``widthwise correlate``."""

from pathlib import Path
from typing import Literal

from rich.console import Console

from widthwise.commands.pruning import default_folder
from widthwise.cost import Budget
from widthwise.data import DataConfig
from widthwise.errors import ConfigError
from widthwise.experiments import CorrelateConfig, baselines, compare, correlate
from widthwise.experiments.compare import trained_once
from widthwise.experiments.table import FORMATS, Format, Table
from widthwise.methods import FNNP, METHODS, Exploration, Joint, Method, Stagewise
from widthwise.recipes import Recipe
from widthwise.subnet import WidthSpace
from widthwise.train import TrainConfig

__all__ = ["compare_methods", "correlate_proxies"]

Shown = Literal["terminal"] | Format


def compare_methods(
    model: str = "digits_net",
    weights: Path | None = None,
    data: str = "digits",
    data_options: DataConfig = DataConfig(),  # noqa: B008 - frozen
    budget: Budget = Budget(macs=0.5),  # noqa: B008 - frozen
    space: WidthSpace = WidthSpace(),  # noqa: B008 - frozen
    methods: tuple[str, ...] = (*METHODS, *baselines(TrainConfig())),
    fnnp: FNNP = FNNP(),  # noqa: B008 - frozen
    stagewise: Stagewise = Stagewise(),  # noqa: B008 - frozen
    joint: Joint = Joint(),  # noqa: B008 - frozen
    exploration: Exploration = Exploration(),  # noqa: B008 - frozen
    seeds: tuple[int, ...] = (0, 1, 2),
    train_first: bool | None = None,
    train: TrainConfig = TrainConfig(epochs=20, lr=0.1),  # noqa: B008 - frozen
    finetune: TrainConfig = TrainConfig(epochs=20, lr=0.02),  # noqa: B008 - frozen
    scratch: TrainConfig = TrainConfig(epochs=20, lr=0.1),  # noqa: B008 - frozen
    pin: tuple[str, ...] | str = (),
    unproved: tuple[str, ...] | str = (),
    reconstruct: int = 0,
    run: Path | None = None,
    show: Shown = "terminal",
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Run several methods and baselines on one model, data, budget and schedule, over seeds, and show a table.

    Args:
        model: a zoo name, torchvision:NAME, timm:NAME, or module.path:function for your own.
        weights: a file with the trained weights (safetensors or a state dict).
        data: digits, cifar10, cifar100, folder:PATH or parquet:PATH.
        data_options: how the data is split and prepared.
        budget: limits of the small network; a number up to 1 is a fraction of the full model's.
        space: the widths to choose from.
        methods: which rows ([fnnp,l1]); all of them by default.
        fnnp: settings of the method fnnp.
        stagewise: settings of the method stagewise.
        joint: settings of the method joint.
        exploration: settings of the method exploration.
        seeds: of searches and trainings.
        train_first: whether to train the full model before, once; by default if no weights are given.
        train: how it is trained.
        finetune: how the candidates of a search are fine-tuned.
        scratch: how the row uniform is trained from fresh weights.
        pin: path or pattern of layers to leave exactly as they are (layer1.*), or a list ([layer1.*,fc]).
        unproved: the same for layers to prune although the trace cannot prove them, at your own risk.
        reconstruct: training images that the weights which finalists inherit are fitted to by least squares before they
            are trained; methods that train from weights of their own do without.
        run: the folder of the runs; runs/compare-MODEL-DATA if not given. Runs that are there are used.
        show: as a table in the terminal, or as text, csv, json, latex or markdown on standard output.
        seed: of the full model's first weights, where it is trained here.
        device: where latency is measured (cuda, mps). Searches and trainings take the accelerator by themselves.
    """
    known: dict[str, Method] = {"fnnp": fnnp, "stagewise": stagewise, "joint": joint, "exploration": exploration}
    known |= baselines(scratch)
    unknown = [name for name in methods if name not in known]
    if unknown:
        raise ConfigError(f"Methods are some of {', '.join(known)}, but got {', '.join(unknown)}.")
    chosen = {name: known[name] for name in methods}
    recipe = Recipe(
        model=model,
        weights=weights,
        data=data,
        data_options=data_options,
        budget=budget,
        method=fnnp,
        seed=seed,
        device=device,
    )
    network, images = recipe.subject()
    if train_first is None:
        train_first = not recipe.has_weights  # whatever the rows are: others may join them
    folder = run or default_folder(f"compare-{model}-{data}")
    found = compare(
        network,
        images,
        budget=budget,
        run=folder,
        methods=chosen,
        seeds=seeds,
        finetune=finetune,
        train=train if train_first else None,
        space=space,
        builder=recipe.builder(images),
        pin=pin,
        unproved=unproved,
        reconstruct=reconstruct,
        say=_said,
    )
    _show(found.table(), show, folder / "comparison")


def correlate_proxies(
    model: str = "digits_net",
    weights: Path | None = None,
    data: str = "digits",
    data_options: DataConfig = DataConfig(),  # noqa: B008 - frozen
    space: WidthSpace = WidthSpace(),  # noqa: B008 - frozen
    study: CorrelateConfig = CorrelateConfig(),  # noqa: B008 - frozen
    train_first: bool | None = None,
    train: TrainConfig = TrainConfig(epochs=20, lr=0.1),  # noqa: B008 - frozen
    run: Path | None = None,
    show: Shown = "terminal",
    seed: int = 0,
) -> None:
    """Show how well quick judgements of sub-networks predict their accuracy after training.

    Args:
        model: a zoo name, torchvision:NAME, timm:NAME, or module.path:function for your own.
        weights: a file with the trained weights (safetensors or a state dict).
        data: digits, cifar10, cifar100, folder:PATH or parquet:PATH.
        data_options: how the data is split and prepared.
        space: the widths to choose from.
        study: which networks, judgements and training.
        train_first: whether to train the full model before; by default if no weights are given.
        train: how it is trained.
        run: the folder; runs/correlate-MODEL-DATA if not given. The same command goes on where it was killed.
        show: as a table in the terminal, or as text, csv, json, latex or markdown on standard output.
        seed: of the full model's first weights, where it is trained here.
    """
    recipe = Recipe(
        model=model, weights=weights, data=data, data_options=data_options, budget=None, method=FNNP(), seed=seed
    )
    network, images = recipe.subject()
    folder = run or default_folder(f"correlate-{model}-{data}")
    if not recipe.has_weights if train_first is None else train_first:
        network, _ = trained_once(network, images, train, folder)
    network.eval()
    found = correlate(network, images, study, run=folder / "networks", space=space, say=_said)
    _show(found.table(), show, folder / "networks" / "correlation")


def _said(text: str) -> None:
    Console(stderr=True, highlight=False).print(text, markup=False, soft_wrap=True)


def _show(table: Table, how: Shown, files: Path) -> None:
    if how != "terminal":
        print(table.to(how), end="")
        return
    console = Console(highlight=False)
    console.print(table.within(console.width).rendered())
    console.print(f"The whole table is in {files} ({', '.join(FORMATS.values())}).", markup=False, soft_wrap=True)
