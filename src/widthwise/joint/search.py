"""The rounds of joint search-and-training: sample, train, put back, learn (Algorithm 2, lines 4 to 12).

A sampled sub-network is cut out, trained as a network of its own and put back into the parent. That is training in the
parent's own parameters, with two things decided that the paper is silent on: momentum starts at zero in every round, so
none of it belongs to slices that were trained rounds ago; and what is not part of the sub-network is not touched, not
even by weight decay. Every round sees the images in an order and with crops of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from widthwise.channels import ChannelGraph, Subnet
from widthwise.cost import CostModel, Limits
from widthwise.data import ImageData, Split, at_most
from widthwise.evaluate import accuracy
from widthwise.evaluate.modes import logits_of, normalising_by_batch, placement
from widthwise.joint.objectives import Trains, WeightedObjective
from widthwise.joint.sampler import Draw, MassSampler
from widthwise.joint.settings import RoundSettings
from widthwise.joint.thresnet import Policy, ThresNet
from widthwise.joint.updater import put_back
from widthwise.joint.weights import FilterWeights, Weighted
from widthwise.runs.state import load_state, readable, save_state
from widthwise.search import Log
from widthwise.subnet import Space, materialize
from widthwise.train import TrainConfig
from widthwise.train.objective import Objective
from widthwise.train.placement import placed
from widthwise.train.setup import derived_seed

__all__ = ["Best", "JointSearch", "Round", "Trainer"]

_SAMPLE, _NOISE, _IMAGES, _CHOICES, _EPISODE, _NETWORK, _WEIGHTS = range(7)
"""What seeds are for."""


@runtime_checkable
class Trainer(Protocol):
    """Trains the networks of a run; see ``widthwise.methods.Trainer``."""

    def fit(
        self,
        name: str,
        model: nn.Module,
        config: TrainConfig,
        *,
        objective: Objective | None,
        train: Split | None,
        validate: bool,
    ) -> object:
        """Train, or load what was trained before."""
        ...

    def forget(self, name: str) -> None:
        """The checkpoint of a training is not needed any more."""
        ...


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round did, as JSON data."""

    index: int
    widths: list[int]
    kept: list[int]
    """The channels."""
    thresholds: list[float]
    """Of each group; empty with a fixed rate."""
    exponent: float
    """What they were raised to so that the budget is met; 1 without one."""
    accuracy: float
    """Top-1 on the validation images after the round's training, in [0, 1]."""
    macs: int
    params: int
    reward: float | None
    """Mean of the episodes; None with a fixed rate."""
    entropy: float | None
    """Of the policy, in nats per group, before its steps."""
    seconds: float


@dataclass(frozen=True, eq=False)
class Best:
    """The sub-network with the best accuracy at the end of its round."""

    round: int
    subnet: Subnet
    network: Mapping[str, Tensor]
    """Its tensors, with the filter weights folded in."""


class JointSearch:
    """The state of a search.

    Args:
        parent: the target network, coarsely trained; its weights change.
        weights: the filter weights, coarsely trained; they change.
        space: the allowed widths.
        limits: a budget that every sampled sub-network meets; with no limit in it none, as in the paper.
        settings: of the rounds.
        data: ``train`` for the networks, ``val`` for filter weights, rewards and the choice of the best.
        trainer: trains.
        state: the file that the state is kept in.
        log: is told of every round.
        seed: of all that is drawn.
        device: where sub-networks are judged.
        on_round: is told of every round, also of those that are loaded.
    """

    def __init__(
        self,
        parent: nn.Module,
        weights: FilterWeights,
        space: Space,
        limits: Limits,
        settings: RoundSettings,
        data: ImageData,
        trainer: Trainer,
        state: Path,
        log: Log,
        *,
        seed: int = 0,
        device: torch.device | None = None,
        on_round: Callable[[Round], None] = lambda done: None,
    ) -> None:
        self.parent, self.weights, self.settings, self._data = parent, weights, settings, data
        self._graph: ChannelGraph = space.graph
        self._cost: CostModel = limits.cost
        self._trainer, self._state, self._log, self._seed = trainer, state, log, seed
        self._on_round = on_round
        self._device = device or torch.device("cpu")
        self.policy = Policy(
            ThresNet(self._graph, settings.thresholds, seed=seed), lr=settings.policy_lr, entropy=settings.entropy
        )
        self._sampler = MassSampler(
            space,
            noise=settings.noise,
            by_noise=settings.by_noise,
            limits=limits if limits.limits else None,
        )
        self.rounds: list[Round] = []
        self.best: Best | None = None

    def run(self) -> Best:
        """All rounds that are left."""
        self._resume()
        while len(self.rounds) < self.settings.rounds:
            self._round(len(self.rounds))
        assert self.best is not None
        return self.best

    def _round(self, index: int) -> None:
        start = perf_counter()
        thresholds, draw = self._sample(index)
        small = materialize(self.parent, self._graph, draw.subnet)
        weighted = Weighted(small, self._graph, draw.subnet, self.weights)
        self._train(index, weighted)
        put_back(self.parent, self._graph, draw.subnet, small)
        reached = self._accuracy(weighted)
        entropy, reward = self._learn(index) if self.settings.fixed_rate is None else (None, None)
        done = Round(
            index=index,
            widths=draw.widths.tolist(),
            kept=draw.subnet.to_dict()["kept"],
            thresholds=thresholds,
            exponent=draw.exponent,
            accuracy=reached,
            macs=self._cost.macs(draw.subnet),
            params=self._cost.params(draw.subnet),
            reward=reward,
            entropy=entropy,
            seconds=perf_counter() - start,
        )
        if not self.rounds or reached > max(earlier.accuracy for earlier in self.rounds):
            weighted.fold()
            self.best = Best(index, draw.subnet, {n: t.detach().cpu() for n, t in small.state_dict().items()})
        self.rounds.append(done)
        self._keep(done)

    def _sample(self, index: int) -> tuple[list[float], Draw]:
        """Line 5."""
        alpha = self.weights.alpha.detach().cpu()
        if self.settings.fixed_rate is not None:
            return [], self._sampler.fixed(alpha, self.settings.fixed_rate)
        choices = self.policy.choose(alpha, 1, seed=derived_seed(self._seed, index, _SAMPLE))[0]
        thresholds = self.policy.thresholds(choices)
        return thresholds.tolist(), self._sampler.draw(alpha, thresholds, derived_seed(self._seed, index, _NOISE))

    def _train(self, index: int, weighted: Weighted) -> None:
        """Lines 6 to 11: the network on training images, then its filter weights on validation images."""
        alpha, removed = self.weights.alpha, ~weighted.subnet.keep
        before = alpha.detach().clone()
        phases: tuple[tuple[Trains, TrainConfig, Split, int], ...] = (
            ("network", self.settings.network_of(index), self._data.train, _NETWORK),
            ("weights", self.settings.weights, self._data.val, _WEIGHTS),
        )
        for trains, given, split, use in phases:
            config = replace(given, seed=derived_seed(self._seed, given.seed, index, use))
            weighted.network.requires_grad_(trains == "network")
            weighted.weights.requires_grad_(trains == "weights")
            objective = WeightedObjective(weighted, trains, label_smoothing=config.label_smoothing, name=str(index))
            name = f"round-{index}-{trains}"
            self._trainer.fit(name, weighted.network, config, objective=objective, train=split, validate=False)
        weighted.network.requires_grad_(True)
        weighted.weights.requires_grad_(True)
        alpha.data[removed] = before[removed]  # one parameter of the optimiser, whose weight decay acts on all of it

    def _accuracy(self, weighted: Weighted) -> float:
        network = weighted.network
        with placed(network, self._device, dtype=placement(network)[1]), weighted.applied(), torch.no_grad():
            return accuracy(network, self._data.val, precision=self.settings.network.precision)

    def _learn(self, index: int) -> tuple[float, float]:
        """Section 3.2: the policy learns from sub-networks with the weights as they are now."""
        alpha = self.weights.alpha.detach().cpu()
        entropy, means = self.policy.entropy(alpha), []
        for step in range(self.settings.policy_steps):
            choices = self.policy.choose(
                alpha, self.settings.episodes, seed=derived_seed(self._seed, index, _CHOICES, step)
            )
            batch = self._episode_batch(derived_seed(self._seed, index, _IMAGES, step))
            seeds = [derived_seed(self._seed, index, _EPISODE, step, episode) for episode in range(len(choices))]
            rewards = [self._reward(alpha, row, seed, *batch) for row, seed in zip(choices, seeds, strict=True)]
            self.policy.learn(alpha, choices, torch.tensor(rewards))
            means.append(fmean(rewards))
        return entropy, fmean(means)

    def _reward(self, alpha: Tensor, choices: Tensor, seed: int, images: Tensor, labels: Tensor) -> float:
        """Equation 3 for one sub-network; the parameters as a share of the full network's."""
        subnet = self._sampler.draw(alpha, self.policy.thresholds(choices), seed).subnet
        share = self._cost.params(subnet) / self._cost.full["params"]
        return -(self._loss(subnet, images, labels) + self.settings.gamma * share)

    def _episode_batch(self, seed: int) -> tuple[Tensor, Tensor]:
        some = at_most(self._data.val, self.settings.episode_images, seed)
        images, labels = next(iter(some.batches(len(some), device=self._device)))
        return images, labels

    @torch.no_grad()
    def _loss(self, subnet: Subnet, images: Float[Tensor, "batch c h w"], labels: Tensor) -> float:
        """Of a sub-network, with the statistics of the batch: its own are those of no training yet."""
        small = materialize(self.parent, self._graph, subnet).to(self._device)
        weighted = Weighted(small, self._graph, subnet, self.weights)
        with normalising_by_batch(small):
            logits = logits_of(weighted(images.to(placement(small)[1])))
        return float(F.cross_entropy(logits.float(), labels))

    def _keep(self, done: Round) -> None:
        """Write down the state, then that the round is over, then drop what it needed."""
        assert self.best is not None
        state = {
            "parent": self.parent.state_dict(),
            "weights": self.weights.state_dict(),
            "policy": self.policy.state(),
            "rounds": [asdict(round_) for round_ in self.rounds],
            "best": {"round": self.best.round, "keep": self.best.subnet.keep, "network": dict(self.best.network)},
        }
        save_state(self._state, state)
        self._log.append({"event": "round", **asdict(done)})
        self._on_round(done)
        self._forget(done)

    def _forget(self, done: Round) -> None:
        for trains in ("network", "weights"):
            self._trainer.forget(f"round-{done.index}-{trains}")

    def _resume(self) -> None:
        if not self._state.exists():
            return
        with readable(self._state):
            state = load_state(self._state)
            self.parent.load_state_dict(state["parent"])
            self.weights.load_state_dict(state["weights"])
            self.policy.restore(state["policy"])
            self.rounds = [Round(**record) for record in state["rounds"]]
            best = state["best"]
            self.best = Best(best["round"], Subnet(best["keep"]), best["network"])
        logged = sum(event.get("event") == "round" for event in self._log.events)
        for done in self.rounds[logged:]:  # killed in between
            self._log.append({"event": "round", **asdict(done)})
        for done in self.rounds:
            self._on_round(done)
            self._forget(done)
