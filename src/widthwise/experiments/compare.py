"""``compare``: several methods on one model, data, budget and schedule, over seeds."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from widthwise.cost import Budget, Latency
from widthwise.data import DataSource, ImageData, load_data
from widthwise.errors import ConfigError
from widthwise.evaluate.modes import placement
from widthwise.experiments.table import Cell, Spread, Table
from widthwise.methods import METHODS, Baseline, Method, RunRecord, Trainer, compress
from widthwise.methods.compress import describe
from widthwise.methods.latency import timed_for
from widthwise.runs import RunFolder, write_json
from widthwise.subnet import WidthSpace
from widthwise.tracing import Layers, trace
from widthwise.train import TrainConfig
from widthwise.zoo import ModelSpec

__all__ = ["Arm", "Comparison", "baselines", "compare", "compared", "every_method", "seeded", "trained_once"]


def baselines(scratch: TrainConfig) -> dict[str, Method]:
    """What a search has to beat, all at uniform width: four ways to choose filters, and training from scratch.

    Args:
        scratch: how ``uniform`` is trained from fresh weights.
    """
    return {
        "uniform": Baseline(importance="random", scratch=scratch),
        "l1": Baseline(importance="l1"),
        "geometric_median": Baseline(importance="geometric_median"),
        "bn_scale": Baseline(importance="bn_scale"),
        "random": Baseline(importance="random"),
    }


def every_method(scratch: TrainConfig) -> dict[str, Method]:
    """The published methods with their defaults, and the :func:`baselines`."""
    return {name: method() for name, method in METHODS.items()} | baselines(scratch)


@dataclass(frozen=True)
class Arm:
    """One method, with a finished run for each seed that is done."""

    name: str
    runs: tuple[RunRecord, ...]

    def spread(self, value: Callable[[RunRecord], float | None], digits: int = 2, *, time: bool = False) -> Spread:
        """A figure of every run; runs without it are left out."""
        values = [number for run in self.runs if (number := value(run)) is not None]
        return Spread(tuple(values), digits, time and any(run.cut for run in self.runs))


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found so far."""

    arms: tuple[Arm, ...]
    full_accuracy: float | None = None
    """Of the trained full network, in [0, 1]; None where no method has looked at it."""
    full_seconds: float | None = None
    """Of training it once, for all methods that judge by its weights; None if it came trained."""

    def table(self) -> Table:
        """Mean and standard deviation over the seeds: sizes, shares dropped, accuracy and drop in points, seconds."""
        title = "Accuracy on the test images (validation images where there are none), mean and standard deviation."
        if self.full_accuracy is not None:
            title += f" The full network: {100 * self.full_accuracy:.2f} %."
        if self.full_seconds is not None:
            title += f" Training it, which is not in the totals, took {self.full_seconds:,.0f} s."
        title += "".join(f" {arm.name} {note}." for arm in self.arms for note in _exceptions(arm.runs[0].config))
        return Table(title, COLUMNS, tuple(_row(arm, self.full_accuracy) for arm in self.arms), optional=OPTIONAL)


def _exceptions(config: Mapping[str, Any]) -> Iterator[str]:
    """Where a method does not train as the others do."""
    settings = config["method"]
    if "all" in (settings.get("coarse_images"), settings.get("finetune_images")):
        yield "learns from the validation images too"
    if settings.get("scratch"):
        yield "is trained from fresh weights"
    if settings["class"] == "Stagewise" and settings["weights"] == "fresh":
        yield "is trained from fresh weights by a schedule of its own"


COLUMNS = (
    *("method", "runs", "MACs (M)", "MACs dropped (%)", "parameters (k)", "parameters dropped (%)"),
    *("accuracy (%)", "drop (points)", "search (s)", "fine-tuning (s)", "total (s)"),
)

OPTIONAL = (
    *("runs", "parameters (k)", "fine-tuning (s)", "search (s)", "parameters dropped (%)", "MACs (M)"),
    *("drop (points)",),
)
"""Columns in the order in which a narrow terminal gives them up."""


def _row(arm: Arm, full: float | None) -> tuple[Cell, ...]:
    def drop(run: RunRecord) -> float:
        return 100 * ((_accuracy(run, "before") if full is None else full) - _accuracy(run, "after"))

    def share(metric: str) -> Callable[[RunRecord], float]:
        return lambda run: 100 - 100 * _figure(run, "after", metric) / _figure(run, "before", metric)

    return (
        arm.name,
        str(len(arm.runs)),
        arm.spread(lambda run: _figure(run, "after", "macs") / 1e6),
        arm.spread(share("macs"), 1),
        arm.spread(lambda run: _figure(run, "after", "params") / 1e3, 1),
        arm.spread(share("params"), 1),
        arm.spread(lambda run: 100 * _accuracy(run, "after")),
        arm.spread(drop),
        arm.spread(lambda run: run.seconds.get("search"), 1, time=True),
        arm.spread(lambda run: run.seconds.get("finetune"), 1, time=True),
        arm.spread(lambda run: sum(s for name, s in run.seconds.items() if name != "measure"), 1, time=True),
    )


def _figure(run: RunRecord, part: str, metric: str) -> float:
    assert run.result is not None, "a finished run"
    return float(run.result[part][metric])


def _accuracy(run: RunRecord, part: str) -> float:
    assert run.result is not None, "a finished run"
    test = run.result[part]["test_accuracy"]
    return float(run.result[part]["val_accuracy"] if test is None else test)


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
        reconstruct: see there.
        progress: show bars.
        say: is told of each finished run.

    Raises:
        ConfigError: there is no method or no seed.
        WidthwiseError: see :mod:`widthwise.errors`.
    """
    finetune = finetune or TrainConfig(epochs=10, lr=0.02)
    methods = every_method(replace(finetune, lr=0.1)) if methods is None else methods
    if not methods or not seeds:
        raise ConfigError(f"A comparison needs methods and seeds, but got {list(methods)} and {list(seeds)}.")
    folder, images = Path(run), load_data(data)
    trained, full_seconds = (model, None) if train is None else trained_once(model, images, train, folder, progress)
    made, latency = compared(folder, full_seconds), None
    if budget.needs_latency:
        latency = _timed_once(trained, images, budget, folder / "latency.json", space, pin, unproved, progress)
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
                finetune=replace(finetune, seed=seed),
                builder=builder,
                pin=pin,
                unproved=unproved,
                reconstruct=reconstruct,
                latency=latency,
                progress=progress,
            )
            made = compared(folder, full_seconds)
            made.table().write(folder / "comparison")
            say(f"{name}, seed {seed}: {100 * _accuracy(RunRecord.read(path), 'after'):.2f} %")
    return made


def compared(folder: Path, full_seconds: float | None = None) -> Comparison:
    """What the finished runs in the folder of :func:`compare` say, the published methods first.

    Args:
        folder: holds ``NAME/seed-N``.
        full_seconds: see :class:`Comparison`.
    """
    names = sorted({path.parts[-3] for path in folder.glob("*/seed-*/journal.jsonl")}, key=_place)
    runs = {name: [RunRecord.read(path) for path in _by_seed(folder / name)] for name in names}
    arms = tuple(Arm(name, tuple(run for run in of if run.finished)) for name, of in runs.items())
    full = [_accuracy(run, "before") for arm in arms for run in arm.runs if run.parent is None]
    return Comparison(tuple(arm for arm in arms if arm.runs), full[0] if full else None, full_seconds)


def _place(name: str) -> tuple[int, str]:
    known = list(every_method(TrainConfig()))
    return (known.index(name) if name in known else len(known), name)


def _by_seed(folder: Path) -> list[Path]:
    runs = (path.parent for path in folder.glob("seed-*/journal.jsonl"))
    return sorted(runs, key=lambda path: int(path.name.partition("-")[2]))


def trained_once(
    model: nn.Module, images: ImageData, train: TrainConfig, folder: Path, progress: bool = False
) -> tuple[nn.Module, float]:
    """A trained copy of the model, kept in ``folder/full``, and the seconds that training it took.

    Raises:
        RunMismatch: another network, other images or another training were there before.
    """
    trained, path = copy.deepcopy(model), folder / "full"
    with RunFolder.open(path, describe(model, images, train=train)):  # the checkpoint of another network is refused
        history = Trainer(path, images, progress).fit("full", trained, train)
    return trained.eval(), sum(epoch.seconds for epoch in history.epochs)


def _timed_once(
    model: nn.Module,
    images: ImageData,
    budget: Budget,
    path: Path,
    space: WidthSpace | None,
    pin: Layers,
    unproved: Layers,
    progress: bool,
) -> Latency | None:
    """One measurement of the times for all methods, kept in a file."""
    graph = trace(model, images.example().to(placement(model)[0]), pin=pin, unproved=unproved)
    found = timed_for(budget, model, graph, images, (space or WidthSpace()).of(graph), path, progress=progress)
    if found is not None and not path.exists():
        write_json(path, found.to_json())
    return found


S = TypeVar("S")


def seeded(settings: S, seed: int) -> S:
    """A settings dataclass with this seed in it, and in every setting that it holds."""
    if not is_dataclass(settings) or isinstance(settings, type):
        return settings
    values: dict[str, Any] = {f.name: getattr(settings, f.name) for f in fields(settings) if f.init}
    changed = {name: seed if name == "seed" else seeded(value, seed) for name, value in values.items()}
    return replace(settings, **{name: value for name, value in changed.items() if value is not values[name]})
