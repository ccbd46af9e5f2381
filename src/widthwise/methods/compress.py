"""``compress``: from a model, data and a budget to a smaller, trained network in a run folder."""

import re
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import fields, is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from widthwise.channels import ChannelGraph, Subnet
from widthwise.cost import Budget, CostModel, Latency, Limits
from widthwise.data import DataSource, ImageData, Split, at_most, load_data
from widthwise.digest import digest, named
from widthwise.errors import ConfigError, InvalidBudget, NothingToPrune
from widthwise.evaluate import accuracy, adaptive_bn, latencies, reconstruct_weights
from widthwise.evaluate.devices import search_device
from widthwise.evaluate.modes import evaluating, logits_of, placement
from widthwise.methods.base import Found, Method, Task, Trainer
from widthwise.methods.evaluators import calibration_batches
from widthwise.methods.fnnp import FNNP
from widthwise.methods.initialise import fresh
from widthwise.methods.latency import timed_for
from widthwise.methods.live import LiveLog
from widthwise.methods.result import Figures, Result, read_result, write_result
from widthwise.parallel import ParallelConfig
from widthwise.runs import Phases, RunFolder, RunPaths, write_json
from widthwise.runs.model import named_builder, save
from widthwise.runs.phases import is_finished
from widthwise.search import RichSearchReporter, SilentSearchReporter
from widthwise.subnet import WidthSpace, materialize
from widthwise.subnet.resize import tensors_of
from widthwise.tracing import Layers, trace
from widthwise.train import TrainConfig
from widthwise.train.placement import lent
from widthwise.zoo import ModelSpec

__all__ = ["calibrate_on", "check_reconstruct", "compress", "describe", "measure"]

LATENCY_BATCHES = (1, 64)
"""Batch sizes that latency is measured at."""

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""Where an object lies in memory, which its repr may say."""

CALIBRATION_IMAGES = 1000
"""Training images for a finalist's batch-norm statistics before it is fine-tuned."""


def compress(
    model: nn.Module,
    data: DataSource,
    *,
    budget: Budget | None = None,
    method: Method | None = None,
    run: str | Path | None = None,
    space: WidthSpace | None = None,
    finetune: TrainConfig | None = None,
    train: TrainConfig | None = None,
    builder: ModelSpec | str | None = None,
    pin: Layers = (),
    unproved: Layers = (),
    reconstruct: int = 0,
    latency: Latency | None = None,
    progress: bool = False,
) -> Result:
    """Search for the best sub-network under a budget, fine-tune it, and save it.

    A run that was killed goes on when the same call is made on its folder, and ends with the same candidates, scores
    and choice; of a finished one the call returns what is there. The test images are looked at once, for the final
    figures.

    Args:
        model: the full network; it is not changed (``train`` works on it, though).
        data: anything that :func:`widthwise.data.load_data` takes.
        budget: what the small network may cost; only :class:`Joint` works without.
        method: :class:`FNNP` with its defaults if not given.
        run: the run folder; nothing is kept without one.
        space: the widths to choose from; all of them if not given.
        finetune: how the finalists are trained.
        train: first train the full network like this, in place; for a model without trained weights.
        builder: what builds the full architecture elsewhere (``"torchvision:resnet50"``, ``"my.module:net"``), so that
            ``widthwise.load(run)`` needs nothing else; it is built once before the search, to see that it is the same.
        pin: layers to leave exactly as they are (see :func:`widthwise.trace`).
        unproved: layers to prune although the trace cannot prove them, at your own risk (see there).
        reconstruct: training images that the weights a finalist inherits are fitted to (:func:`reconstruct_weights`)
            before it is fine-tuned; 250 are enough for small images, 0 leaves the weights as they are.
        latency: what a budget of latency is reckoned with; measured where the model lies if not given.
        progress: show bars.

    Raises:
        WidthwiseError: see :mod:`widthwise.errors`; each says what to do.
    """
    method = method or FNNP()
    if budget is None and method.needs_budget:
        raise InvalidBudget(
            f"{type(method).__name__} searches under a budget, but none was given; try budget=Budget(macs=0.5)."
        )
    check_reconstruct(reconstruct)
    if reconstruct and not method.inherits:
        raise ConfigError(
            f"reconstruct fits weights that finalists inherit from a trained network, but {type(method).__name__} "
            f"trains them from weights of their own; got reconstruct={reconstruct}. Leave it at 0."
        )
    space, finetune = space or WidthSpace(), finetune or TrainConfig(epochs=10, lr=0.02)
    images = load_data(data)
    graph = trace(model, images.example().to(placement(model)[0]), pin=pin, unproved=unproved)
    if not graph.num_channels:
        reasons = "; ".join(f"{g.name} {g.reason}" for g in graph.pinned[:5])
        raise NothingToPrune(f"A model needs at least one group of prunable channels, but all are pinned: {reasons}.")
    _check_outputs(model, images)
    builder = named_builder(builder, model)
    allowed, known = space.of(graph), None if run is None else RunPaths(run).latency_path
    latency = timed_for(budget, model, graph, images, allowed, known, latency, progress)
    cost = CostModel(graph, latency=latency)
    limits = Limits(cost, {}) if budget is None else budget.on(cost, allowed)
    settings = {"budget": budget, "method": method, "space": space, "finetune": finetune, "train": train}
    config = describe(model, images, graph=graph.fingerprint, reconstruct=reconstruct, **settings)
    with ExitStack() as stack:
        path = Path(run) if run is not None else Path(stack.enter_context(TemporaryDirectory()))
        folder = stack.enter_context(RunFolder.open(path, config, seeds={"finetune": finetune.seed}))
        if latency is not None and not RunPaths(path).latency_path.exists():
            write_json(RunPaths(path).latency_path, latency.to_json())
        trainer, phases = Trainer(path, images, progress), Phases(folder.journal)
        if train is not None:
            with phases.phase("train"):
                trainer.fit("full", model, train)
        if is_finished(folder.journal.events):
            return read_result(path, model, graph)
        reporter = RichSearchReporter() if progress else SilentSearchReporter()
        live = stack.enter_context(LiveLog(folder.journal, path / "tensorboard" / "search"))
        task = Task(model, graph, cost, allowed, limits, images, live, reporter, trainer)
        with phases.phase("search"):
            found = method.search(task)
        with phases.phase("finetune"):
            small, subnet = _best_of(found, model, graph, finetune, trainer, reconstruct)
        save(path, small, graph, subnet, builder=builder)
        with phases.phase("measure"):
            networks = [(found.parent or model, graph.subnet()), (small, subnet)]
            before, after = measure(networks, cost, images, () if budget is None else (budget.latency_batch,))
        metrics = {"before": before, "after": after}
        small.eval()
        result = Result(small, subnet, graph, metrics, found.trials, Path(run) if run is not None else None)
        write_result(result, path, cost)
        phases.finish()
    return result


def check_reconstruct(images: int) -> None:
    """Raises ConfigError unless weights can be fitted to so many images."""
    if images < 0 or images == 1:
        raise ConfigError(f"reconstruct is a number of training images, at least 2, or 0 for none; got {images}.")


def _best_of(
    found: Found, model: nn.Module, graph: ChannelGraph, finetune: TrainConfig, trainer: Trainer, reconstruct: int
) -> tuple[nn.Module, Subnet]:
    """Train each finalist; the one with the best validation accuracy, the earlier one at a tie."""
    best: tuple[float, nn.Module, Subnet] | None = None
    config = found.retrain or finetune
    teacher = (found.parent or model) if config.distill_weight else None
    for place, subnet in enumerate(found.finalists, 1):
        cut = materialize(found.parent or model, graph, subnet) if found.starts is None else found.starts[place - 1]
        small = cut.to(placement(model)[0])
        if found.retrain is not None:
            fresh(small, config.seed)
        else:
            train = trainer.data.train
            if reconstruct:
                fitted_to = calibration_batches(at_most(train, reconstruct, config.seed))
                reconstruct_weights(found.parent or model, small, graph, subnet, fitted_to)
            calibrate_on(train, config.seed, small)
        trainer.fit(f"finalist-{place}", small, config, teacher=teacher, train=found.train)
        reached = accuracy(small.to(search_device()), trainer.data.val, precision=config.precision)
        if best is None or reached > best[0]:
            best = (reached, small, subnet)
    assert best is not None
    return best[1].to(placement(model)[0]), best[2]


def calibrate_on(train: Split, seed: int, small: nn.Module) -> None:
    """Batch-norm statistics from training images: what every network with inherited weights is fine-tuned from."""
    adaptive_bn(small, calibration_batches(at_most(train, CALIBRATION_IMAGES, seed)))


def measure(
    networks: Sequence[tuple[nn.Module, Subnet]], cost: CostModel, images: ImageData, batches: Collection[int] = ()
) -> list[Figures]:
    """The figures of each network. Looks at the test images: for final numbers only.

    Latency is measured where a network lies, accuracy on the accelerator if there is one.

    Args:
        networks: each with what is left of the channels of the full network.
        cost: of the full network.
        images: the data.
        batches: sizes to measure latency at, beside the usual ones.
    """
    models = [model for model, _ in networks]
    sizes = sorted({*LATENCY_BATCHES, *batches})
    times = {batch: latencies(models, images.example(batch)) for batch in sizes}
    figures, device = list[Figures](), search_device()
    for place, (model, subnet) in enumerate(networks):
        with lent(model, device):
            val = accuracy(model, images.val)
            test = accuracy(model, images.test) if images.test is not None else None
        figures.append(
            Figures(
                macs=cost.macs(subnet),
                params=cost.params(subnet),
                val_accuracy=val,
                test_accuracy=test,
                latency_ms={batch: found[place] for batch, found in times.items()},
            )
        )
    return figures


def _check_outputs(model: nn.Module, images: ImageData) -> None:
    """Every label needs an output of the model, before hours of work."""
    with evaluating(model), torch.no_grad():
        outputs = logits_of(model(images.example().to(next(model.parameters()))))
    images.check_classes(outputs.shape[1])


def describe(model: nn.Module, images: ImageData, **settings: Any) -> dict[str, Any]:
    """Everything that decides the outcome of a run, as JSON data."""
    parts = {"train": images.train, "val": images.val, "test": images.test}
    splits = {name: [len(split), split.fingerprint()] for name, split in parts.items() if split is not None}
    return {
        "model": {
            "class": type(model).__qualname__,
            "modules": digest(_ADDRESS.sub("", repr(model))),
            "weights": digest(*named(tensors_of(model))),
        },
        "data": {"name": images.name, "shape": list(images.input_shape), "classes": images.num_classes, **splits},
        **{name: plain(value) for name, value in settings.items()},
    }


def plain(value: Any) -> Any:
    """A settings dataclass as JSON data, with the name of its class where that is a choice.

    Of where candidates are evaluated only what may change a result counts: a run may go on with other workers.
    """
    if isinstance(value, ParallelConfig):
        return {"threads": value.threads}
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {"class": type(value).__name__, **{f.name: plain(getattr(value, f.name)) for f in fields(value)}}
    return list(value) if isinstance(value, tuple) else value
