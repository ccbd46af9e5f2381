"""A network as stages whose losses add up, under limits on the whole: what a division of the budget is about.

Stage-wise pruning (SP), section 3.3. Losses and costs are sums over the stages; what ties the stages to one another
are the limits and the *links*, groups of channels that matter in more than one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from widthwise.cost.analytic import CostModel
from widthwise.cost.budget import Limits, reachable
from widthwise.errors import ConfigError, InfeasibleBudget
from widthwise.search.widths import Used
from widthwise.subnet.space import Space

__all__ = ["Gene", "StageProblem"]

Gene = tuple[int, ...]
"""The widths of the groups that a stage owns, in the order of ``StageProblem.own``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StageProblem:
    """Which widths of the whole network give the smallest sum of stage losses within the limits?

    Groups that no stage owns have no say in any loss, so they stay whole; own them, or narrow the space, to change
    that.

    Raises:
        ConfigError: a group is not one of the graph, or the costs do not add up to the network's.
        InfeasibleBudget: the narrowest network (with the groups that no stage owns whole) misses the limits.
    """

    space: Space
    """The allowed widths of every group."""
    limits: Limits
    """Of the whole network."""
    own: tuple[tuple[int, ...], ...]
    """For each stage, in the order of the forward pass, the groups that its loss depends on."""
    costs: tuple[CostModel, ...]
    """The cost of each stage."""
    rest: CostModel | None = None
    """The cost of what belongs to no stage (stem, head)."""

    def __post_init__(self) -> None:
        groups = len(self.space.choices)
        if not self.own or len(self.own) != len(self.costs):
            raise ConfigError(
                f"There are one or more stages, each with its groups and its cost, but got {len(self.own)} lists of "
                f"groups and {len(self.costs)} costs."
            )
        for stage, own in enumerate(self.own):
            if len(set(own)) != len(own) or not all(0 <= g < groups for g in own):
                raise ConfigError(
                    f"A stage owns groups by their index in graph.prunable, 0..{groups - 1}, each once, but stage "
                    f"{stage} got {own}."
                )
        self._check_sum()
        if not bool(self.limits.met(self.allowed.smallest[None])[0]):
            raise InfeasibleBudget(
                "The narrowest network must fit the budget, but it does not; groups that no stage owns stay whole:\n"
                f"{reachable(self.limits.cost, self.allowed, self.limits.limits)}\n"
                "Raise the budget, allow narrower widths (min_ratio, min_width, multiple_of), or let a stage own more "
                "groups."
            )

    def _check_sum(self) -> None:
        random = torch.rand(8, len(self.space.choices), generator=torch.Generator().manual_seed(0))
        probes = torch.cat(
            [self.space.smallest[None], self.space.full[None], self.space.snap(random * self.space.full)]
        )
        parts = sum(self.cost(stage, probes) for stage in range(len(self.own)))
        whole = _measure(self.limits.cost, self.metrics, probes)
        if not torch.equal(torch.as_tensor(parts), whole):
            raise ConfigError(
                "The costs of the stages and of the rest add up to the cost of the network, but the sums (full "
                f"network) are {torch.as_tensor(parts)[1].tolist()} and {whole[1].tolist()} for "
                f"{', '.join(self.metrics)}. Give each module to one stage, and all others to `rest`."
            )

    @property
    def stages(self) -> int:
        """How many stages there are."""
        return len(self.own)

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is limited (macs, params); the last axis of every cost here."""
        return tuple(self.limits.limits)

    @property
    def limit(self) -> Int64[Tensor, "metrics"]:
        """int64 [metrics]: the limits of the whole network."""
        return torch.tensor(list(self.limits.limits.values()), dtype=torch.int64)

    @cached_property
    def allowed(self) -> Space:
        """The space with the groups that no stage owns whole."""
        owned = {group for own in self.own for group in own}
        choices = tuple(c if g in owned else c[-1:] for g, c in enumerate(self.space.choices))
        return Space(self.space.graph, choices)

    @cached_property
    def parts(self) -> tuple[CostModel, ...]:
        """The cost of each stage; each module of the rest counts with the first stage that knows all its groups.

        A module whose groups no single stage knows counts with the last stage that knows any.
        """
        if self.rest is None:
            return self.costs
        network, modules = self.limits.cost, [set(cost.modules) for cost in self.costs]
        known = [set(own) | set(cost.groups) for own, cost in zip(self.own, self.costs, strict=True)]
        for module in self.rest.modules:
            needed = set(network.part({module}.__contains__).groups)
            whole = [stage for stage, groups in enumerate(known) if needed <= groups]
            some = [stage for stage, groups in enumerate(known) if needed & groups]
            modules[whole[0] if whole else some[-1] if some else 0].add(module)
        return tuple(network.part(paths.__contains__) for paths in modules)

    @cached_property
    def touched(self) -> tuple[tuple[int, ...], ...]:
        """For each stage the groups that its loss or its cost depends on."""
        pairs = zip(self.own, self.parts, strict=True)
        return tuple(tuple(sorted(set(own) | set(part.groups))) for own, part in pairs)

    @cached_property
    def links(self) -> tuple[int, ...]:
        """The groups that matter in more than one stage, in loss or cost."""
        counts = torch.bincount(torch.tensor([g for touched in self.touched for g in touched], dtype=torch.int64))
        return tuple(int(g) for g in (counts > 1).nonzero()[:, 0])

    @cached_property
    def inner(self) -> tuple[tuple[int, ...], ...]:
        """For each stage the groups that matter nowhere else."""
        return tuple(tuple(g for g in own if g not in self.links) for own in self.own)

    def cost(self, stage: int, widths: Int64[Tensor, "population groups"]) -> Int64[Tensor, "population metrics"]:
        """int64 [population, metrics]: what a stage costs, with what is counted with it of the rest."""
        return _measure(self.parts[stage], self.metrics, widths)

    def rows(
        self, stage: int, genes: Int64[Tensor, "population own"], base: Int64[Tensor, "groups"]
    ) -> Int64[Tensor, "population groups"]:
        """Widths of the whole network: the genes where the stage owns them, ``base`` elsewhere."""
        widths = base.repeat(len(genes), 1)
        widths[:, list(self.own[stage])] = genes
        return widths

    def possible(self, stage: int, genes: Int64[Tensor, "population own"]) -> Bool[Tensor, "population"]:
        """Whether some network within the limits has these genes."""
        return self.limits.met(self.rows(stage, genes, self.allowed.smallest))

    def used(self, stage: int, limits: Int64[Tensor, "population metrics"]) -> Used:
        """What rows of widths use of limits on this stage, one row of ``limits`` for each."""

        def share(widths: Tensor, rows: Tensor) -> Float64[Tensor, "population"]:
            return _share(self.cost(stage, widths), limits[rows])

        return share


def _measure(cost: CostModel, metrics: Sequence[str], widths: Tensor) -> Int64[Tensor, "population metrics"]:
    return torch.stack([torch.as_tensor(cost.measure(metric, widths)) for metric in metrics], 1)


def _share(cost: Tensor, limit: Tensor) -> Float64[Tensor, "population"]:
    """The share of the tightest limit; a cost of nothing fits a limit of nothing."""
    return (cost.double() / limit).nan_to_num(nan=0.0, posinf=torch.inf).amax(1)
