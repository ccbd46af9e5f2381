"""The parts of the FNNP experiment. Every single result goes to the journal at once, and is never computed twice."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.experiments import Records, Value, fresh_network
from benchmarks.fnnp.settings import FnnpSettings
from widthwise import Budget, CostModel, Subnet, WidthSpace, accuracy, adaptive_bn, trace
from widthwise.data import ImageData, Split, at_most
from widthwise.errors import InfeasibleBudget
from widthwise.evaluate import sensitivity
from widthwise.evaluate.devices import search_device
from widthwise.evaluate.sensitivity import SENSITIVITY_BATCH
from widthwise.methods.evaluators import (
    AdaptiveBN,
    Evaluator,
    GlobalBN,
    ShortTraining,
    calibration_batches,
    inherited,
)
from widthwise.runs import Journal
from widthwise.search import (
    Evolution,
    RandomRates,
    Searcher,
    ThompsonSampling,
    Trial,
    balanced_widths,
    best_first,
    run_search,
    uniform_widths,
)
from widthwise.train import TrainConfig, fit
from widthwise.zoo import load_weights

__all__ = ["PARTS", "SEARCHES", "Experiment"]

SEARCHES = {
    "thompson": "Thompson sampling",
    "unstarted": "Thompson sampling, no balanced start",
    "evolution": "evolution, no balanced start",
}
"""The searches that learn from the scores, as they are called in print."""


@dataclass(frozen=True, eq=False)
class PartLog:
    """The trials of one part, in the one journal of the experiment."""

    journal: Journal
    part: str

    @property
    def events(self) -> tuple[dict[str, Any], ...]:
        """This part's events."""
        return tuple(event for event in self.journal.events if event.get("part") == self.part)

    def append(self, event: Mapping[str, Any]) -> None:
        """Write one down."""
        self.journal.append({**event, "part": self.part})


class Experiment:
    """One network, its data and budget, and the records of what has been found out about them."""

    def __init__(self, settings: FnnpSettings, data: ImageData, weights: Path | None, records: Records) -> None:
        self.settings, self.data, self.records = settings, data, records
        self.model = fresh_network(settings.model, data, settings.seed)
        if weights is not None:
            load_weights(self.model, weights)
        self.graph = trace(self.model, data.example())
        self.build = inherited(self.model, self.graph)
        self.cost = CostModel(self.graph)
        self.space = WidthSpace().of(self.graph)
        self.limits = Budget(macs=settings.budget).on(self.cost, self.space)
        self.ranking = self.graph.importance("l1")
        self.uniform = uniform_widths(self.space, self.limits)
        self.search_val = at_most(data.val, settings.search_images, settings.seed)

    def subnet(self, widths: torch.Tensor) -> Subnet:
        """The filters with the largest L1 norm."""
        return self.graph.top(self.ranking, widths)

    def search(self, part: str, searcher: Searcher, count: int) -> list[Trial]:
        """Trials in order, judged by adaptive batch norm on the search's validation images."""
        log = PartLog(self.records.journal, part)
        done = len(log.events)

        def say(trial: Trial) -> None:
            if trial.index >= done and (trial.index + 1) % 10 == 0:
                self.records.say(f"{part}: {trial.index + 1}/{count}, last {trial.score:.4f}")

        return run_search(searcher, partial(map, lambda w: self.judge(self.subnet(w))), count, log, on_trial=say)

    def random_trials(self, max_rate: float, count: int) -> list[Trial]:
        """Random strategies with rates up to R. Raises InfeasibleBudget where none can meet the budget."""
        searcher = RandomRates(self.space, self.limits, max_rate=max_rate, seed=self.settings.seed)
        return self.search(f"rates/{max_rate}", searcher, count)

    def learnt_trials(self, name: str, seed: int | None = None) -> list[Trial]:
        """Strategies of a search that learns from the scores; the first one is the uniform strategy.

        Args:
            name: one of `SEARCHES`; ``thompson`` is FNNP's default.
            seed: of the search; the first of the settings if not given.
        """
        s = self.settings
        seed = s.search_seeds[0] if seed is None else seed
        searcher: Searcher
        if name == "evolution":
            searcher = Evolution(self.space, self.limits, max_rate=s.rate, seed=seed)
        else:
            starts = [self.balanced] if name == "thompson" else []
            searcher = ThompsonSampling(self.space, self.limits, first=starts, seed=seed)
        return self.search(f"{name}/{seed}", searcher, s.candidates)

    @cached_property
    def balanced(self) -> torch.Tensor:
        """The widths that the sensitivities of channels ask for, int64 [groups]."""
        images = self.calibration().batches(SENSITIVITY_BATCH)
        measured = partial(sensitivity, self.model, self.graph, images, seed=self.settings.seed)
        found = self.records.once("sensitivity", lambda: {"scores": measured().tolist()})
        return balanced_widths(self.space, self.limits, torch.tensor(found["scores"], dtype=torch.float64))

    @cached_property
    def judge(self) -> Evaluator:
        """Adaptive batch norm, on the images that searches look at."""
        return AdaptiveBN(self.build, self.calibration(), self.search_val)

    def calibration(self, count: int | None = None, seed: int | None = None) -> Split:
        """Training images for the statistics."""
        seed = self.settings.seed if seed is None else seed
        return at_most(self.data.train, count or self.settings.calibration_images, seed)

    def finetuned(self, widths: torch.Tensor, config: TrainConfig) -> nn.Module:
        """The sub-network, calibrated and fine-tuned as ``widthwise.compress`` does it."""
        small = self.build(self.subnet(widths))
        adaptive_bn(small, calibration_batches(self.calibration(seed=config.seed), search_device()))
        fit(small, self.data.train, config)
        return small


def rates(experiment: Experiment) -> None:
    """Random strategies for each R, and what the uniform strategy reaches."""
    s = experiment.settings
    experiment.records.once("uniform", lambda: {"score": experiment.judge(experiment.subnet(experiment.uniform))})
    for max_rate in s.max_rates:
        try:
            experiment.random_trials(max_rate, s.strategies)
        except InfeasibleBudget as error:
            experiment.records.once(f"infeasible/{max_rate}", partial(dict, reason=str(error)))


def searches(experiment: Experiment) -> None:
    """The strategies of the searches that learn."""
    for seed in experiment.settings.search_seeds:
        for name in SEARCHES:
            experiment.learnt_trials(name, seed)


def iterations(experiment: Experiment) -> None:
    """Accuracy of the uniform sub-network against the number of calibration images (the paper's figure 5)."""
    e, s = experiment, experiment.settings
    subnet = e.subnet(e.uniform)
    e.records.once("iterations/0/0", partial(_judged, GlobalBN(e.build, e.data.val), subnet))
    for count in s.iteration_images:
        for seed in range(s.iteration_seeds):
            evaluate = AdaptiveBN(e.build, e.calibration(count, seed), e.data.val)
            e.records.once(f"iterations/{count}/{seed}", partial(_judged, evaluate, subnet))


def correlation(experiment: Experiment) -> None:
    """Three quick judgements of a mix of sub-networks, and their accuracy after fine-tuning."""
    e, s = experiment, experiment.settings
    evaluators: dict[str, Evaluator] = {
        "global_bn": GlobalBN(e.build, e.data.val),
        "adaptive_bn": AdaptiveBN(e.build, e.calibration(), e.data.val),
        "short_training": ShortTraining(e.build, e.data.train, e.data.val, s.short_training),
    }
    for name, widths in mixed_strategies(e).items():
        for key, evaluate in evaluators.items():
            e.records.once(f"correlation/{name}/{key}", partial(_judged, evaluate, e.subnet(widths)))
        e.records.once(f"correlation/{name}/finetuned", partial(_validated, e, widths))


def final(experiment: Experiment) -> None:
    """FNNP's choice, the best of other searches and uniform width after the same fine-tuning, on the test images."""
    e, s = experiment, experiment.settings
    networks = {"uniform": e.uniform}
    paper = best_first(e.random_trials(s.rate, s.candidates))[0]  # as many looks as the others have
    networks["random"] = paper.widths
    networks["evolution"] = best_first(e.learnt_trials("evolution"))[0].widths
    guessed = _distinct(best_first(e.learnt_trials("thompson")))
    networks |= {f"fnnp-{place}": widths for place, widths in enumerate(guessed[: s.finalists], 1)}
    for seed in s.seeds:
        for name, widths in networks.items():
            e.records.once(f"final/{seed}/{name}", partial(_tested, e, widths, seed))


PARTS: dict[str, Callable[[Experiment], None]] = {
    "rates": rates,
    "searches": searches,
    "iterations": iterations,
    "correlation": correlation,
    "final": final,
}
"""What each part does."""


def mixed_strategies(experiment: Experiment) -> dict[str, torch.Tensor]:
    """The uniform strategy, and in turns: random ones of two kinds, early and late ones of a search; all different."""
    e, s = experiment, experiment.settings
    learnt = e.learnt_trials("thompson")
    sources: dict[str, list[Trial]] = {
        f"random {rate}": e.random_trials(rate, min(s.correlation_models, s.strategies)) for rate in s.correlation_rates
    }
    sources |= {"Thompson sampling, early": learnt[1:20], "Thompson sampling, late": best_first(learnt)}
    named = [[(f"{name} #{trial.index}", trial.widths) for trial in trials] for name, trials in sources.items()]
    mixed = {"uniform": e.uniform}
    taken = {tuple(e.uniform.tolist())}
    for name, widths in (item for item in chain(*zip_longest(*named)) if item is not None):
        key = tuple(widths.tolist())
        if key not in taken and len(mixed) < s.correlation_models:
            taken.add(key)
            mixed[name] = widths
    return mixed


def _judged(evaluate: Evaluator, subnet: Subnet) -> Value:
    return {"accuracy": evaluate(subnet)}


def _validated(e: Experiment, widths: torch.Tensor) -> Value:
    return {"accuracy": accuracy(e.finetuned(widths, e.settings.finetune), e.data.val)}


def _tested(e: Experiment, widths: torch.Tensor, seed: int) -> Value:
    """The only look at the test images. FNNP's choice among its finalists is made by validation accuracy alone."""
    small = e.finetuned(widths, replace(e.settings.final, seed=seed))
    subnet = e.subnet(widths)
    test = accuracy(small, e.data.test) if e.data.test is not None else None
    macs, params = e.cost.macs(subnet), e.cost.params(subnet)
    return {"val": accuracy(small, e.data.val), "test": test, "macs": macs, "params": params}


def _distinct(trials: list[Trial]) -> list[torch.Tensor]:
    return list({tuple(trial.widths.tolist()): trial.widths for trial in trials}.values())
