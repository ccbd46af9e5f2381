"""The stages of a network: a chain of parts, each of which runs alone on stored features.

Stage-wise pruning (Zhang and Ou, "Stage-wise Channel Pruning for Model Compression", section 4.1) splits a network by
the resolution of its feature maps.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from widthwise.channels import ChannelGraph, Site, Subnet
from widthwise.errors import NoStages
from widthwise.evaluate.modes import evaluating
from widthwise.stages.alone import Part, captured, run_part
from widthwise.stages.levels import TOLERANCE, cuts_by_resolution, cuts_named, gap, resolution, site_of
from widthwise.stages.membership import Membership, membership_of
from widthwise.stages.record import Call, Record, record
from widthwise.subnet import SuperNet
from widthwise.subnet.materialize import select

__all__ = ["HEAD", "Stage", "Stages", "find_stages"]

HEAD = "head"
"""Name of the last stage where it ends with the model's output instead of a feature map."""


@dataclass(frozen=True, eq=False)
class Stage:
    """One part of the chain."""

    name: str
    """Path of the module whose result ends it, or ``head``."""
    resolution: tuple[int, ...]
    """Positions of what it returns, such as (56, 56); empty for a head."""
    part: Part
    enters: Site | None
    """Where the channels lie in what it is given; None for the model's own input."""
    leaves: Site | None
    """Where the channels lie in what it returns; None for a head."""

    @property
    def channels(self) -> int:
        """How many it returns, all kept; 0 for a head."""
        return 0 if self.leaves is None else len(self.leaves[1])


@dataclass(frozen=True, eq=False)
class Stages:
    """The chain, in order, and which groups of channels matter where."""

    graph: ChannelGraph
    stages: tuple[Stage, ...]
    ends: tuple[Call, ...]
    """The call that each stage but a head ends with."""
    own: tuple[tuple[int, ...], ...]
    """For each stage the groups (indices into ``graph.prunable``) whose widths change what it returns for the full
    network's features. A group that merely enters a stage is none of them: all of it is fed in."""
    modules: tuple[frozenset[str], ...]
    """For each stage the paths of the modules that run in it; what runs in none stands behind the last stage."""

    def __len__(self) -> int:
        return len(self.stages)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the stages, in order."""
        return tuple(stage.name for stage in self.stages)

    def features(self, model: nn.Module) -> AbstractContextManager[list[Tensor]]:
        """While ``model`` (or anything on its modules) runs inside, keep what each stage but a head returns, detached.

        The list is filled on leaving.
        """
        return captured(model, self.ends)

    def inside(self, index: int, subnet: Subnet) -> Subnet:
        """What a sub-network removes inside one stage: the stage's own groups; all others stay whole."""
        own = torch.zeros(len(self.graph.prunable), dtype=torch.bool)
        own[list(self.own[index])] = True
        return Subnet(subnet.keep | ~own[self.graph.channels])

    def run(self, index: int, network: SuperNet, features: Tensor, subnet: Subnet | None = None) -> Any:
        """What one stage returns, on slices of the network's own parameters.

        Args:
            index: of the stage.
            network: the model that the stages were found in, or one built alike.
            features: what the full network gives to the stage, [batch, ...], with every channel.
            subnet: which channels the stage keeps, see :meth:`inside`; all if not given.
        """
        stage = self.stages[index]
        if subnet is None:
            return run_part(network.model, stage.part, features)
        inside = self.inside(index, subnet)
        if stage.enters is not None:
            features = _select(features, stage.enters, inside)
        return run_part(network.model, stage.part, features, network.subnet(inside, modules=self.modules[index]))

    def left(self, index: int, subnet: Subnet) -> Int64[Tensor, "kept"] | None:
        """Which positions of the stage's full result a sub-network still has; None if all, or for a head."""
        site = self.stages[index].leaves
        return None if site is None else _positions(site, self.inside(index, subnet))


def _positions(site: Site, subnet: Subnet) -> Int64[Tensor, "kept"] | None:
    kept = subnet.kept_at(site[1])
    return None if bool(kept.all()) else kept.nonzero()[:, 0]


def _select(features: Tensor, site: Site, subnet: Subnet) -> Tensor:
    positions = _positions(site, subnet)
    return features if positions is None else select(features, {site[0]: positions})


def find_stages(model: nn.Module, graph: ChannelGraph, inputs: Tensor, names: Sequence[str] = ()) -> Stages:
    """Cut a network into stages.

    By default behind the last layer of each resolution; a resolution with no group of its own to choose (the first
    convolution of a ResNet) joins the next one. What follows the last feature map is a stage only if it has channels
    to prune.

    Args:
        model: the traced model; runs in evaluation mode, and is as before after.
        graph: its trace.
        inputs: an example, [batch, ...].
        names: paths of the modules that end the stages, in order, instead.

    Raises:
        NoStages: the model is no chain, or none of the named stages.
    """
    with evaluating(model):
        calls = record(model, inputs)
        if names:
            cuts = cuts_named(model, calls, inputs, names)
        else:
            cuts = _worth_it(graph, calls, cuts_by_resolution(model, graph, calls, inputs))
        stages = _assemble(graph, calls, cuts)
        _check(stages, model, inputs, calls)
    return stages


def _worth_it(graph: ChannelGraph, calls: Record, cuts: list[Call]) -> list[Call]:
    """The cuts that end a stage with a group of its own; the last cut stands for those behind it too."""
    inner = membership_of(graph, calls, cuts).inner[: len(cuts)]
    full = [index for index, groups in enumerate(inner) if groups]
    if not full:
        raise NoStages(
            "A stage needs channels that lie in it alone, but every group of this model runs through several "
            f"({', '.join(cut.path for cut in cuts)}). Name stages that are longer, or use another method."
        )
    return [cut for index, cut in enumerate(cuts) if index in full[:-1]] + cuts[-1:]


def _assemble(graph: ChannelGraph, calls: Record, cuts: list[Call]) -> Stages:
    members: Membership = membership_of(graph, calls, cuts)
    starts: list[Call | None] = [None, *cuts]
    stages = []
    for start, end in zip(starts, [*cuts, None], strict=True):
        enters = None if start is None else site_of(graph, start)
        part = Part.between(calls, start, end)
        if end is not None:
            stages.append(Stage(end.path, resolution(graph, end), part, enters, site_of(graph, end)))
        elif members.own[-1]:
            stages.append(Stage(HEAD, (), part, enters, None))
    count = len(stages)
    return Stages(graph, tuple(stages), tuple(cuts), members.own[:count], members.modules[:count])


def _check(stages: Stages, model: nn.Module, inputs: Tensor, calls: Record) -> None:
    """Every stage alone computes what it computes inside the network."""
    with torch.no_grad(), stages.features(model) as found:
        model(inputs)
    given, network = [inputs, *found], SuperNet(model, stages.graph)
    for index, stage in enumerate(stages.stages):
        expected = calls.output if stage.leaves is None else found[index]
        with torch.no_grad():
            alone = stages.run(index, network, given[index])
        tensors = isinstance(alone, Tensor) and isinstance(expected, Tensor)
        apart = gap(alone, expected) if tensors else float("inf")
        if apart > TOLERANCE:
            raise NoStages(
                f"A stage alone must compute what it computes inside the network, but {stage.name!r} does not "
                f"(relative difference {apart:.0e}). Name other stages."
            )
