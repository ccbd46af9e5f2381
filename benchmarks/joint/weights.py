"""Do filter weights learn anything? Their gradient, their spread, and their agreement with what a channel is worth."""

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from benchmarks.experiments import Value
from benchmarks.joint.arms import Bench
from widthwise import ChannelGraph, Subnet, materialize, trace
from widthwise.data import at_most
from widthwise.evaluate import kendall
from widthwise.evaluate.devices import search_device
from widthwise.evaluate.modes import logits_of, normalising_by_batch
from widthwise.joint import FilterWeights, Placement, Weighted, WeightedObjective
from widthwise.train import Outcome, Step, fit

__all__ = ["SCORES", "VARIANTS", "Watched", "filter_weights", "spread"]

SCORES = ("alpha", "alpha as drawn", "the L1 norm", "the batch norm scale")
"""Of channels, whose agreement with the loss without them is looked at."""

VARIANTS: Mapping[str, tuple[Placement, float | None]] = {
    "consumers": ("consumers", None),
    "filters": ("filters", None),
    "consumers, lambda 0.1": ("consumers", 0.1),
}
"""Placement and lambda, if not the settings', of coarse trainings; the last one has the paper's."""


class Watched(WeightedObjective):
    """Coarse training that also says how large the gradient of the weights is, and how far they lie apart.

    ``gradient`` is the norm of what the labels alone (without the penalty) ask of alpha; ``spread`` see below.
    """

    def step(self, step: Step) -> Outcome:
        """One pass of the whole network."""
        outcome = super().step(step)
        alpha = self.weighted.weights.alpha
        assert alpha.grad is not None
        of_penalty = self.penalty * alpha.detach() / torch.linalg.vector_norm(alpha.detach())
        seen = {
            "gradient": torch.linalg.vector_norm(alpha.grad - of_penalty),
            "spread": spread(self.weighted.weights, self.weighted.subnet),
        }
        return replace(outcome, parts={**outcome.parts, **seen})


@torch.no_grad()
def spread(weights: FilterWeights, subnet: Subnet) -> Float[Tensor, ""]:
    """Root mean square of the factors' distance from 1: 0 where all channels are alike."""
    return (weights.factors(subnet) - 1).square().mean().sqrt()


def filter_weights(bench: Bench, variant: str, seed: int) -> Value:
    """Train coarsely with the weights in one place, then take out each channel in turn."""
    settings, device = bench.settings, search_device()
    placement, penalty = VARIANTS[variant]
    model = bench.network(seed)
    graph = trace(model, bench.data.example())
    alphas = FilterWeights(graph, placement, seed=seed)
    drawn = alphas.alpha.detach().clone()
    whole = Weighted(model, graph, graph.subnet(), alphas)
    objective = Watched(whole, "both", penalty=settings.joint.penalty if penalty is None else penalty)
    path = bench.out / "trainings" / f"weights-{variant}-{seed}.pt".replace(" ", "_")
    history = fit(model, bench.images, replace(settings.joint.coarse, seed=seed), objective=objective, checkpoint=path)
    for module in (model, alphas):
        module.to(device)
    losses = _without(bench, graph, alphas)
    scores = (alphas.alpha.detach().cpu(), drawn, graph.importance("l1").cpu(), graph.importance("bn_scale").cpu())
    return {
        "epochs": [
            {name: epoch.parts[name] for name in ("gradient", "spread", "norm", "task")} for epoch in history.epochs
        ],
        "norms": [float(torch.linalg.vector_norm(of)) for of in (drawn, alphas.alpha.detach().cpu())],
        "taus": {name: _taus(graph, score, losses) for name, score in zip(SCORES, scores, strict=True)},
        "groups": [group.name for group in graph.prunable],
    }


def _without(bench: Bench, graph: ChannelGraph, alphas: FilterWeights) -> list[float]:
    """The loss on validation images without each channel."""
    images, labels = _images(bench)

    @torch.no_grad()
    def loss(channel: int) -> float:
        keep = torch.ones(graph.num_channels, dtype=torch.bool)
        keep[channel] = False
        subnet = Subnet(keep)
        small = Weighted(materialize(graph.model, graph, subnet), graph, subnet, alphas)
        with normalising_by_batch(small.network):
            return float(F.cross_entropy(logits_of(small(images)).float(), labels))

    return [loss(channel) for channel in range(graph.num_channels)]


def _images(bench: Bench) -> tuple[Tensor, Tensor]:
    some = at_most(bench.data.val, bench.settings.weights_images, 0)
    images, labels = next(iter(some.batches(len(some), device=search_device())))
    return images, labels


def _taus(graph: ChannelGraph, score: Tensor, losses: list[float]) -> dict[str, Any]:
    """Kendall's tau of each group between its channels' scores and the losses without them; None where undetermined."""
    taus = [kendall([float(score[i]) for i in g.ids], [losses[i] for i in g.ids]) for g in graph.prunable]
    known = [tau for tau in taus if not math.isnan(tau)]
    return {
        "groups": [None if math.isnan(tau) else tau for tau in taus],
        "mean": fmean(known) if known else None,
    }
