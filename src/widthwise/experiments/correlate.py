"""``correlate``: how well quick judgements of sub-networks predict their accuracy after training (FNNP, section 3)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from math import isfinite
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Literal

from torch import nn

from widthwise.channels import Subnet
from widthwise.cost import CostModel
from widthwise.data import DataSource, load_data
from widthwise.errors import ConfigError
from widthwise.evaluate import accuracy, adaptive_bn
from widthwise.evaluate.devices import search_device
from widthwise.evaluate.modes import placement
from widthwise.experiments.correlations import Correlations, Judged
from widthwise.experiments.networks import different, evenly, random_networks
from widthwise.experiments.proxies import PROXIES, Subject
from widthwise.methods import Trainer
from widthwise.methods.base import check_choices
from widthwise.methods.compress import describe
from widthwise.methods.evaluators import Evaluator, calibration_batches
from widthwise.methods.initialise import fresh
from widthwise.report.render import svg_of, write_figure
from widthwise.runs import Journal, RunFolder
from widthwise.search import Widths
from widthwise.subnet import Space, WidthSpace, materialize
from widthwise.tracing import trace
from widthwise.train import TrainConfig

__all__ = ["Against", "CorrelateConfig", "correlate"]

Against = Literal["finetune", "scratch"]


@dataclass(frozen=True, kw_only=True)
class CorrelateConfig:
    """Settings of :func:`correlate`."""

    networks: int = 20
    """Sub-networks that are judged and trained."""
    smallest: float = 0.2
    """Share of the multiply-adds of the smallest one."""
    largest: float = 0.8
    """Of the largest one; equal to ``smallest`` for networks of one budget."""
    proxies: tuple[str, ...] = ("adaptive_bn", "global_bn", "short_training", "sensitivity", "macs", "params")
    """Which judgements to look at."""
    against: Against = "finetune"
    """What they should predict: accuracy after fine-tuning the inherited weights, or after training from scratch."""
    training: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=5, lr=0.02))
    """That fine-tuning, or that training."""
    short_training: TrainConfig = field(default_factory=lambda: TrainConfig(max_steps=50, lr=0.01))
    """Of the proxy ``short_training``."""
    calibration_images: int = 1000
    """Training images for batch-norm statistics."""
    validation_images: int | None = None
    """Validation images that proxies look at; all of them if not given."""
    k: int = 5
    """Of phi."""
    seed: int = 0
    """Of the sub-networks, the choice of images and the trainings."""

    def __post_init__(self) -> None:
        if self.networks < 3:
            raise ConfigError(f"A correlation needs at least 3 networks, but got networks={self.networks}.")
        if not 0 < self.smallest <= self.largest <= 1:
            raise ConfigError(
                f"The networks' shares are 0 < smallest <= largest <= 1, but got {self.smallest} and {self.largest}."
            )
        if self.calibration_images < 2:
            raise ConfigError(f"calibration_images is at least 2, but got {self.calibration_images}.")
        if self.k < 1:
            raise ConfigError(f"phi(k) looks at the best k networks, at least 1, but got k={self.k}.")
        unknown = sorted(set(self.proxies) - PROXIES.keys())
        if unknown or not self.proxies:
            raise ConfigError(f"Proxies are some of {', '.join(PROXIES)}, but got {', '.join(unknown) or 'none'}.")
        check_choices(self, against=Against)


def correlate(
    model: nn.Module,
    data: DataSource,
    config: CorrelateConfig | None = None,
    *,
    run: str | Path,
    proxies: Mapping[str, Evaluator] | None = None,
    space: WidthSpace | None = None,
    progress: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Correlations:
    """Judge sub-networks by several proxies, train each, and correlate.

    Networks keep the filters with the largest L1 norm. Proxies see training and validation images only. A run that
    was killed goes on; ``run/correlation.txt``, ``.csv``, ``.json``, ``.tex`` and ``.md`` hold the table,
    ``networks.*`` the sub-networks with all scores, and ``correlation.svg`` and ``.png`` the scatter plots.

    Args:
        model: the trained full network; it is not changed.
        data: anything that :func:`widthwise.data.load_data` takes.
        config: which networks, proxies and training.
        run: the folder.
        proxies: further judgements, from a sub-network to a score; a run that goes on knows them by their names.
        space: the widths to choose from.
        progress: show bars.
        say: is told of each network.

    Raises:
        ConfigError: a proxy has the name of one of ours.
        InfeasibleBudget: no network is as small as the smallest should be.
        WidthwiseError: see :mod:`widthwise.errors`.
    """
    config, images, folder = config or CorrelateConfig(), load_data(data), Path(run)
    taken = sorted((PROXIES.keys() | {"accuracy"}) & (proxies or {}).keys())
    if taken:
        raise ConfigError(f"A proxy of your own needs a name of its own, but got {', '.join(taken)}; rename it.")
    graph = trace(model, images.example().to(placement(model)[0]))
    options = (config.calibration_images, config.validation_images, config.short_training, config.seed)
    subject = Subject(model, graph, CostModel(graph), images, *options)
    judges = {name: PROXIES[name](subject) for name in config.proxies} | dict(proxies or {})
    identity = describe(model, images, graph=graph.fingerprint, settings=config, space=space or WidthSpace())
    for name in ("proxies", "k"):  # more judgements, or another look at them, may be asked for later
        del identity["settings"][name]
    ranking = graph.importance("l1")
    allowed, trainer = (space or WidthSpace()).of(graph), Trainer(folder, images, progress)
    with RunFolder.open(folder, identity) as opened:
        records = _Records(opened.journal)
        drawn = [graph.top(ranking, widths) for widths in _draw(config, subject.cost, allowed)]
        accuracies: list[float] = []
        for place, subnet in enumerate(drawn):
            for name, judge in judges.items():
                records.once(f"{name}/{place}", partial(judge, subnet))
            training = partial(_train, subject, config, subnet, trainer, place)
            reached = records.once(f"accuracy/{place}", training)
            assert reached is not None, "a share of images"
            trainer.forget(_training(place))
            accuracies.append(reached)
            say(f"network {place + 1} of {len(drawn)}: {100 * reached:.2f} %")
        found = _correlations(subject, config.k, drawn, accuracies, records, list(judges))
    found.table().write(folder / "correlation")
    found.networks_table().write(folder / "networks")
    figure = found.figure()
    write_figure(
        figure, svg_of(figure, "correlation", "Accuracy after training against each proxy."), folder / "correlation"
    )
    return found


class _Records:
    """Numbers by key in a journal, each computed once."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.values: dict[str, tuple[float | None, float]] = {
            e["key"]: (e["value"], e["seconds"]) for e in journal.events if e["event"] == "score"
        }

    def once(self, key: str, compute: Callable[[], float]) -> float | None:
        """The number; None where it is not finite."""
        if key not in self.values:
            start = perf_counter()
            number = float(compute())
            self.values[key] = (number if isfinite(number) else None, round(perf_counter() - start, 4))
            value, seconds = self.values[key]
            self._journal.append({"event": "score", "key": key, "value": value, "seconds": seconds})
        return self.values[key][0]


def _draw(config: CorrelateConfig, cost: CostModel, space: Space) -> list[Widths]:
    """Different networks, as many as were asked for."""
    shares = evenly(config.smallest, config.largest)
    networks = different(random_networks(cost, space, shares, config.seed), tries=100 * config.networks)
    drawn = list(islice(networks, config.networks))
    if len(drawn) < config.networks:
        raise ConfigError(
            f"The networks must be different, but only {len(drawn)} of {config.networks} were found between "
            f"{config.smallest} and {config.largest} of the multiply-adds; ask for fewer or widen the range."
        )
    return drawn


def _training(place: int) -> str:
    return f"network-{place}"


def _train(subject: Subject, settings: CorrelateConfig, subnet: Subnet, trainer: Trainer, place: int) -> float:
    """Accuracy of a network after its training."""
    config = replace(settings.training, seed=settings.seed)
    small = materialize(subject.model, subject.graph, subnet)
    if settings.against == "scratch":
        fresh(small, config.seed)
    else:
        adaptive_bn(small, calibration_batches(subject.calibration))
    trainer.fit(_training(place), small, config)
    final = subject.images.val if subject.images.test is None else subject.images.test
    return accuracy(small.to(search_device()), final, precision=config.precision)


def _correlations(
    subject: Subject,
    k: int,
    drawn: Sequence[Subnet],
    reached: Sequence[float],
    records: _Records,
    names: Sequence[str],
) -> Correlations:
    found = {name: [records.values[f"{name}/{place}"] for place in range(len(drawn))] for name in names}
    networks = [
        Judged(
            tuple(subject.graph.widths(subnet).tolist()),
            subject.cost.macs(subnet),
            reached[place],
            {name: found[name][place][0] for name in names},
        )
        for place, subnet in enumerate(drawn)
    ]
    seconds = {name: fmean(seconds for _, seconds in pairs) for name, pairs in found.items()}
    return Correlations.of(networks, seconds, k, subject.seed)
