"""``compare``: several methods on one model, data, budget and schedule, over seeds."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from widthwise.channels import ChannelGraph
from widthwise.cost import Budget, CostModel, Latency
from widthwise.data import DataSource, ImageData, load_data
from widthwise.errors import ConfigError, CorruptRun, RunMismatch
from widthwise.evaluate.modes import placement
from widthwise.experiments.comparison import Comparison, compared, final_accuracy, runs_with
from widthwise.experiments.rows import every_method, seeded
from widthwise.experiments.table import FORMATS
from widthwise.methods import Method, RunRecord, Trainer, compress
from widthwise.methods.compress import check_reconstruct, describe, plain
from widthwise.methods.latency import timed_for
from widthwise.runs import RunFolder, read_json, write_json
from widthwise.runs.folder import check_same
from widthwise.subnet import WidthSpace
from widthwise.tracing import Layers, trace
from widthwise.train import TrainConfig
from widthwise.zoo import ModelSpec

__all__ = ["compare", "trained_once"]

FULL = "full"
"""The folder of the full network, where it is trained here."""

TABLES = "comparison"
"""The files with the table, before their endings."""


def compare(
    model: nn.Module,
    data: DataSource,
    *,
    budget: Budget,
    run: str | Path,
    methods: Mapping[str, Method] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    finetune: TrainConfig | None = None,
    train: TrainConfig | None = None,
    space: WidthSpace | None = None,
    builder: ModelSpec | str | None = None,
    pin: Layers = (),
    unproved: Layers = (),
    reconstruct: int = 0,
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Run every method with every seed, each as :func:`widthwise.compress` does, and put the figures side by side.

    The runs lie in ``run/NAME/seed-N``. Those that are finished are read, not repeated; one that was killed goes on;
    methods and seeds may be added later. ``run/comparison.txt``, ``.csv``, ``.json``, ``.tex`` and ``.md`` hold the
    table of all finished runs in the folder, written anew after every run.

    Args:
        model: the full network; it is not changed.
        data: anything that :func:`widthwise.data.load_data` takes.
        budget: the same for all.
        run: the folder.
        methods: by the name of their row; :func:`every_method` if not given.
        seeds: of searches and trainings.
        finetune: how finalists are fine-tuned.
        train: first train the full network like this, once; methods that start from fresh weights do so all the same.
        space: the widths to choose from.
        builder: see :func:`widthwise.compress`.
        pin: see there.
        unproved: see there.
        reconstruct: see there; for the methods whose finalists inherit weights.
        progress: show bars.
        say: is told of each finished run.

    Raises:
        ConfigError: there is no method or no seed, or a row's name is no name of a folder.
        RunMismatch: a run that is there is of another model, data, budget, space or fine-tuning, or has another
            method's settings under the same name; or the folder has a table that is none of ours.
        WidthwiseError: see :mod:`widthwise.errors`.
    """
    finetune, space = finetune or TrainConfig(epochs=10, lr=0.02), space or WidthSpace()
    methods = every_method(replace(finetune, lr=0.1)) if methods is None else methods
    _check_rows(methods, seeds)
    check_reconstruct(reconstruct)
    trainings = {seed: replace(finetune, seed=seed) for seed in seeds}
    folder, images = Path(run), load_data(data)
    _check_free(folder)
    graph = trace(model, images.example().to(placement(model)[0]), pin=pin, unproved=unproved)
    if graph.num_channels and not budget.needs_latency:
        budget.on(CostModel(graph), space.of(graph))  # one that no network meets is refused before any training
    trained, full_seconds = (model, None) if train is None else trained_once(model, images, train, folder, progress)
    fitted = {name: reconstruct if reconstruct and method.inherits else 0 for name, method in methods.items()}
    same = describe(trained, images, graph=graph.fingerprint, budget=budget, space=space, train=None)
    _check_alike(folder, same, finetune, methods, fitted)
    made, latency = compared(folder, full_seconds), None
    if budget.needs_latency:
        latency = _timed_once(model, graph, images, budget, folder / "latency.json", space, progress)
    for seed in seeds:
        for name, method in methods.items():
            path = folder / name / f"seed-{seed}"
            compress(
                trained,
                images,
                budget=budget,
                method=seeded(method, seed),
                run=path,
                space=space,
                finetune=trainings[seed],
                builder=builder,
                pin=pin,
                unproved=unproved,
                reconstruct=fitted[name],
                latency=latency,
                progress=progress,
            )
            made = compared(folder, full_seconds)
            made.table().write(folder / TABLES)
            say(f"{name}, seed {seed}: {100 * final_accuracy(RunRecord.read(path)):.2f} %")
    return made


def _check_rows(methods: Mapping[str, Method], seeds: Sequence[int]) -> None:
    if not methods or not seeds:
        raise ConfigError(f"A comparison needs methods and seeds, but got {list(methods)} and {list(seeds)}.")
    beside = ("", "..", FULL, "latency.json", *(TABLES + ending for ending in FORMATS.values()))
    wrong = [name for name in methods if Path(name).name != name or name in beside]
    if wrong:
        raise ConfigError(
            f"A row's name is also the name of its folder, beside the folder {FULL!r} of the full network and the "
            f"files {TABLES}.*, but got {wrong}; choose other names, without slashes."
        )
    if odd := [seed for seed in seeds if isinstance(seed, bool) or seed < 0]:
        raise ConfigError(f"A seed is a whole number of at least 0, but got {odd}.")


def _check_free(folder: Path) -> None:
    """The tables are written over those of before, and over nothing else."""
    tables = [path for ending in FORMATS.values() if (path := folder / f"{TABLES}{ending}").exists()]
    if tables and not (folder / FULL).exists() and not runs_with("config.json", folder) and not _ours(folder):
        raise RunMismatch(
            f"A comparison writes {tables[0].name} into its folder, but {folder} has one and no run of a comparison: "
            "it is somebody else's. Choose another folder, or move the file."
        )


def _ours(folder: Path) -> bool:
    """Whether the table in a folder is a comparison's, whose runs have been deleted since."""
    try:
        table = read_json(folder / f"{TABLES}.json")
    except CorruptRun:
        return False
    return isinstance(table, dict) and table.keys() >= {"title", "rows"}


def _check_alike(
    folder: Path,
    same: Mapping[str, Any],
    finetune: TrainConfig,
    methods: Mapping[str, Method],
    fitted: Mapping[str, int],
) -> None:
    """Rows of a table differ in their method, runs of a row in nothing but the seed.

    Args:
        folder: of the comparison.
        same: what all runs share, as their configurations have it.
        finetune: the same for all, but for the seed.
        methods: by row.
        fitted: images that weights are reconstructed on, by row.
    """
    for run, seed in runs_with("config.json", folder).items():
        there, row = read_json(run / "config.json"), run.parent.name
        wanted = {**there, **same, "finetune": plain(replace(finetune, seed=seed))}
        if row in methods:
            wanted |= {"method": plain(seeded(methods[row], seed)), "reconstruct": fitted[row]}
        check_same(run, there, json.loads(json.dumps(wanted)))


def trained_once(
    model: nn.Module, images: ImageData, train: TrainConfig, folder: Path, progress: bool = False
) -> tuple[nn.Module, float]:
    """A trained copy of the model, kept in the folder ``full``, and the seconds that training it took.

    Raises:
        RunMismatch: another network, other images or another training were there before.
    """
    trained, path = copy.deepcopy(model), folder / FULL
    with RunFolder.open(path, describe(model, images, train=train)):  # the checkpoint of another network is refused
        history = Trainer(path, images, progress).fit(FULL, trained, train)
    trained.eval()
    return trained, sum(epoch.seconds for epoch in history.epochs)


def _timed_once(
    model: nn.Module,
    graph: ChannelGraph,
    images: ImageData,
    budget: Budget,
    path: Path,
    space: WidthSpace,
    progress: bool,
) -> Latency | None:
    """One measurement of the times for all methods, kept in a file."""
    found = timed_for(budget, model, graph, images, space.of(graph), path, progress=progress)
    if found is not None and not path.exists():
        write_json(path, found.to_json())
    return found
