"""Which widths a search may give to each group."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import ceil, prod

import torch
from jaxtyping import Int64
from torch import Tensor

from widthwise.channels.graph import ChannelGraph, Group, Role
from widthwise.errors import ConfigError

__all__ = ["Space", "WidthSpace"]


@dataclass(frozen=True, kw_only=True)
class WidthSpace:
    """The rule for allowed widths; :meth:`of` turns it into numbers for one graph."""

    ratios: tuple[float, ...] | None = None
    """Allowed widths as shares of the full width, each in (0, 1]; every width if not given."""
    multiple_of: int = 1
    """Allowed widths are multiples of this (8, 16 or 32 suit most hardware), and the full width."""
    min_width: int = 1
    """Smallest number of channels."""
    min_ratio: float = 0.0
    """Smallest share of the full width, in [0, 1]."""
    keep_outputs_of: tuple[str, ...] = ()
    """Module paths or patterns (``layer1.*``): the channels that these layers make stay whole."""
    keep_inputs_of: tuple[str, ...] = ()
    """Module paths or patterns: the channels that these layers read stay whole."""

    def __post_init__(self) -> None:
        if self.ratios is not None and (not self.ratios or not all(0 < r <= 1 for r in self.ratios)):
            raise ConfigError(f"Ratios are one or more numbers in (0, 1], but got {self.ratios}.")
        if self.multiple_of < 1 or self.min_width < 1:
            raise ConfigError(
                "multiple_of and min_width are at least 1, but got "
                f"multiple_of={self.multiple_of}, min_width={self.min_width}."
            )
        if not 0 <= self.min_ratio <= 1:
            raise ConfigError(f"min_ratio is a share in [0, 1], but got {self.min_ratio}.")

    def of(self, graph: ChannelGraph) -> "Space":
        """The allowed widths of each prunable group of a graph.

        Raises:
            ConfigError: a pattern matches no layer.
        """
        kept = self._protected(graph, self.keep_outputs_of, "out") | self._protected(graph, self.keep_inputs_of, "in")
        return Space(graph, tuple(self._choices(g, g.name in kept) for g in graph.prunable))

    def _protected(self, graph: ChannelGraph, patterns: tuple[str, ...], role: Role) -> set[str]:
        names: set[str] = set()
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name, _ in graph.model.named_modules()):
                raise ConfigError(
                    f"A layer to leave alone is named by its module path or a pattern, but {pattern!r} matches none; "
                    "`widthwise trace` lists the paths."
                )
            for group in graph.prunable:
                if any(m.role == role and fnmatchcase(m.module, pattern) for m in group.members):
                    names.add(group.name)
        return names

    def _choices(self, group: Group, whole: bool) -> Int64[Tensor, "choices"]:
        full = group.width
        if whole:
            return torch.tensor([full], device="cpu")
        least = min(full, max(self.min_width, ceil(self.min_ratio * full - 1e-9)))
        ratios = self.ratios
        widths = set(range(1, full + 1)) if ratios is None else {max(1, round(r * full)) for r in ratios}
        positions = min(m.per_channel for m in group.members)
        allowed = {w for w in widths if w >= least and w * positions % self.multiple_of == 0}
        return torch.tensor(sorted(allowed | {full}), device="cpu")


@dataclass(frozen=True, eq=False)
class Space:
    """The allowed widths of every prunable group of one graph."""

    graph: ChannelGraph
    choices: tuple[Int64[Tensor, "_"], ...]
    """For each group its allowed widths, int64, ascending; the last is the full width."""

    @property
    def smallest(self) -> Int64[Tensor, "groups"]:
        """int64 [groups]: the narrowest allowed widths."""
        return torch.stack([c[0] for c in self.choices])

    @property
    def full(self) -> Int64[Tensor, "groups"]:
        """int64 [groups]: the full widths."""
        return torch.stack([c[-1] for c in self.choices])

    @property
    def size(self) -> float:
        """How many strategies there are."""
        return prod((float(len(c)) for c in self.choices), start=1.0)

    def table(self) -> Int64[Tensor, "groups widths"]:
        """int64 [groups, widest + 1]: the allowed width nearest to each number, the wider one at a tie."""
        widest = int(self.full.max())
        table = torch.zeros(len(self.choices), widest + 1, dtype=torch.int64, device="cpu")
        numbers = torch.arange(widest + 1, device="cpu")
        for row, allowed in zip(table, self.choices, strict=True):
            above = torch.searchsorted(allowed, numbers).clamp(max=len(allowed) - 1)
            below = (above - 1).clamp(min=0)
            nearer = (allowed[above] - numbers).abs() <= (numbers - allowed[below]).abs()
            row.copy_(torch.where(nearer, allowed[above], allowed[below]))
        return table

    def snap(self, widths: Tensor) -> Int64[Tensor, "population groups"]:
        """The nearest allowed widths to any numbers [population, groups]."""
        wanted = widths.round().to(torch.int64).minimum(self.full).clamp(min=0)
        return self.table().expand(len(widths), -1, -1).gather(2, wanted[:, :, None])[:, :, 0]
