"""Stage-wise pruning: no trained weights to begin with, and every step in sight.

``widthwise.compress(..., method=Stagewise())`` does all of this in one call; here are its parts, for those who want to
look at stages, losses and costs themselves.
"""

import sys

import torch

import widthwise
from widthwise import Budget, CostModel, WidthSpace
from widthwise.stages import find_stages
from widthwise.subnet import SuperNet
from widthwise.supernet import Sampler, StageLoss, StagewiseObjective, stored_features
from widthwise.train import TrainConfig, fit


def main(epochs: int = 4) -> None:
    torch.manual_seed(0)
    images = widthwise.load_data("digits")
    model = widthwise.build_model("digits_net")
    graph = widthwise.trace(model, images.example())
    cost = CostModel(graph)
    space = WidthSpace(ratios=(0.25, 0.5, 0.75, 1.0)).of(graph)

    # The network as a chain: where it is cut, and which groups of channels each stage owns.
    stages = find_stages(model, graph, images.example())
    for stage, own in zip(stages.stages, stages.own, strict=True):
        print(stage.name, stage.resolution, [graph.prunable[group].name for group in own])

    # One super-net for all sub-networks, trained stage by stage (Algorithm 1).
    objective = StagewiseObjective(SuperNet(model, graph), stages, Sampler(space))
    history = fit(model, images.train, TrainConfig(epochs=epochs, batch_size=64, lr=0.05), objective=objective)
    print(f"loss of each part: {history.epochs[-1].parts}")

    # The loss of any stage at any widths, on stored features of validation images; and of all of them in a chain, each
    # fed by the one before, which judges a whole network.
    batch = torch.cat([x for x, _ in images.val.batches(128)])
    loss = StageLoss(objective, stored_features(objective, [batch]))
    narrow = space.smallest
    for index, name in enumerate(stages.names):
        print(f"{name}: {loss(index, space.full):.4f} at full width, {loss(index, narrow):.4f} at the narrowest")
    print(f"in a chain: {loss.chained(space.full):.4f} at full width, {loss.chained(narrow):.4f} at the narrowest")

    limits = Budget(macs=0.5).on(cost, space)
    print(f"the narrowest uses {float(limits.used(narrow[None])[0]):.0%} of half of the multiply-adds")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
