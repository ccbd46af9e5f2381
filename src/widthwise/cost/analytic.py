"""Cost as arithmetic on widths: multiply-adds, parameters and latency of many sub-networks, without running one."""

from collections.abc import Callable
from functools import cached_property
from math import prod
from typing import overload

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from widthwise.channels.graph import ChannelGraph
from widthwise.channels.subnet import Subnet
from widthwise.cost.latency import Latency
from widthwise.errors import ConfigError, SubnetMismatch

__all__ = ["CostModel"]

CHUNK = 1 << 14
"""Sub-networks per pass: small enough for the intermediate products to stay in cache."""


class _Form:
    """A sum of products of kept positions, ``sum_l constant_l * prod_a kept_a``, as a quadratic form.

    Nearly every term has at most two axes (a weight's rows and columns), so with the kept positions of the distinct
    axes, and a one in front, in a vector k the sum is ``k C k``; the few longer products are added one by one.
    Everything is an integer below 2^53, so float64 is exact.
    """

    def __init__(self, num_groups: int) -> None:
        self._rows: dict[tuple[int, ...], int] = {(1, *[0] * num_groups): 0}
        self._pairs: dict[tuple[int, int], float] = {}
        self._longer: list[tuple[float, list[int]]] = []

    def add(self, constant: int, fixed: tuple[int, ...], per_channel: Int64[Tensor, "axes groups"]) -> None:
        """Add one term: ``constant`` times, for each axis, ``fixed + per_channel . widths``."""
        axes = []
        for offset, row in zip(fixed, per_channel.tolist(), strict=True):
            if any(row):
                axes.append(self._rows.setdefault((offset, *row), len(self._rows)))
            else:
                constant *= offset
        if len(axes) <= 2:
            first, second = [0, 0, *sorted(axes)][-2:]
            self._pairs[first, second] = self._pairs.get((first, second), 0.0) + constant
        else:
            self._longer.append((float(constant), axes))

    def groups(self) -> set[int]:
        """The groups that the sum depends on."""
        return {group for row in self._rows for group, count in enumerate(row[1:]) if count}

    def compile(self, dtype: torch.dtype = torch.float64) -> "_Compiled":
        """The arrays that evaluate the form."""
        table = torch.tensor(list(self._rows), dtype=dtype, device="cpu")
        square = torch.zeros(len(table), len(table), dtype=dtype, device="cpu")
        for (a, b), constant in self._pairs.items():
            square[a, b] = constant
        return _Compiled(table[:, 0].clone(), table[:, 1:].t().contiguous(), square, self._longer)


class _Compiled:
    """A :class:`_Form` as arrays of one type."""

    def __init__(self, fixed: Tensor, linear: Tensor, square: Tensor, longer: list[tuple[float, list[int]]]) -> None:
        self._fixed, self._linear, self._square, self._longer = fixed, linear, square, longer

    def __call__(self, widths: Tensor) -> Tensor:
        """``[population, groups]`` to ``[population]``."""
        out = torch.empty(len(widths), dtype=self._linear.dtype, device="cpu")
        for start in range(0, len(widths), CHUNK):
            part = widths[start : start + CHUNK].to(self._linear.dtype)
            kept = torch.addmm(self._fixed, part, self._linear)
            total = torch.linalg.vecdot(kept @ self._square, kept)
            for constant, axes in self._longer:
                total += constant * kept[:, axes].prod(1)
            out[start : start + CHUNK] = total
        return out

    def expected(self, means: Tensor, variances: Tensor) -> Tensor:
        """``[population, groups]`` twice to ``[population]``: the expectation over independent widths.

        Exact for the quadratic form, because ``E[a b] = E[a] E[b] + Cov(a, b)``; in the few longer products the
        covariances are left out.
        """
        kept = torch.addmm(self._fixed, means, self._linear)
        total: Tensor = torch.linalg.vecdot(kept @ self._square, kept) + variances @ self._curvature
        for constant, axes in self._longer:
            total = total + constant * kept[:, axes].prod(1)
        return total

    @cached_property
    def _curvature(self) -> Tensor:
        """[groups]: what the variance of each width adds."""
        return ((self._linear @ self._square) * self._linear).sum(1)


class CostModel:
    """Multiply-adds, parameters and latency of the sub-networks of a graph, or of a part of each of them.

    ``macs`` counts the multiply-adds of convolutions, linear layers and matrix products of one forward pass on the
    example inputs of the trace (what ``torch.utils.flop_counter`` counts, halved, and what it leaves out: products
    with a vector and deformable convolutions); ``params`` counts all parameters; ``latency`` is what a forward pass is
    predicted to take, in ticks of 10 femtoseconds, if measured times are given. They take a :class:`Subnet` (and return
    an int) or widths ``[population, groups]`` (and return int64 ``[population]``).

    Args:
        graph: the network.
        modules: whether the module at a path counts (without what lies below it, which is asked for by its own
            path). An operation belongs to the module that runs it, a parameter to the module that owns it. So the
            costs of the parts add up to the cost of the whole, exactly, where each path is accepted by one part.
            All of them count if not given.
        latency: what the modules take, from :func:`widthwise.measure_latency`.
    """

    def __init__(
        self, graph: ChannelGraph, modules: Callable[[str], bool] | None = None, *, latency: Latency | None = None
    ) -> None:
        self.graph, self.timed = graph, latency
        self.layers = tuple(layer for layer in graph.layers if modules is None or modules(layer.module))
        """The operations that are counted."""
        owned = [(name, parameter, name.rpartition(".")[0]) for name, parameter in graph.model.named_parameters()]
        owned = [item for item in owned if modules is None or modules(item[2])]
        self.modules = tuple(dict.fromkeys([*(layer.module for layer in self.layers), *(item[2] for item in owned)]))
        """The paths of the modules that are counted: those with an operation or with parameters of their own."""
        widths = graph.full_widths
        macs, params = _Form(len(widths)), _Form(len(widths))
        for layer in self.layers:
            macs.add(layer.constant, layer.fixed, layer.per_channel)
        for name, parameter, _ in owned:
            params.add(*_numel(graph, name, parameter, widths))
        forms = {"macs": macs, "params": params}
        if latency is not None:
            forms["latency"] = _Form(len(widths))
            for path, ticks, term in latency.terms(graph):
                if modules is None or modules(path):
                    forms["latency"].add(ticks, *term)
        self.groups = tuple(sorted(set[int]().union(*(form.groups() for form in forms.values()))))
        """The prunable groups (their indices) that the cost depends on."""
        self._forms = {metric: form.compile() for metric, form in forms.items()}
        self._fast = {metric: form.compile(torch.float32) for metric, form in forms.items()}

    def part(self, modules: Callable[[str], bool]) -> "CostModel":
        """The cost of these modules alone."""
        return CostModel(self.graph, modules, latency=self.timed)

    @overload
    def macs(self, subnet: Subnet) -> int: ...
    @overload
    def macs(self, subnet: Tensor) -> Tensor: ...
    def macs(self, subnet: Subnet | Tensor) -> int | Tensor:
        """Multiply-adds of one sub-network, or int64 [population]."""
        return self.measure("macs", subnet)

    @overload
    def params(self, subnet: Subnet) -> int: ...
    @overload
    def params(self, subnet: Tensor) -> Tensor: ...
    def params(self, subnet: Subnet | Tensor) -> int | Tensor:
        """Parameters of one sub-network, or int64 [population]."""
        return self.measure("params", subnet)

    def measure(self, metric: str, subnet: Subnet | Tensor) -> int | Tensor:
        """``macs``, ``params`` or ``latency`` by name.

        Raises:
            ConfigError: none of that name, or latency without measured times.
            SubnetMismatch: neither a sub-network of this graph nor widths of its groups.
        """
        if metric not in self._forms:
            raise ConfigError(
                f"This cost model knows {', '.join(self._forms)}, but got {metric!r}; latency is known to "
                "CostModel(graph, latency=widthwise.measure_latency(model, graph, example))."
            )
        groups = len(self.graph.prunable)
        if not isinstance(subnet, Tensor):
            return int(self._forms[metric](self.graph.widths(subnet)[None])[0].round().item())
        if subnet.ndim != 2 or subnet.shape[1] != groups:
            raise SubnetMismatch(
                f"Widths of a population have the shape [population, {groups} groups], but got {list(subnet.shape)}."
            )
        return self._forms[metric](subnet).round().to(torch.int64)

    def estimate(self, metric: str, widths: Tensor) -> Tensor:
        """Float32 [population]: the same to about six digits, at twice the speed, for filters that check again."""
        return self._fast[metric](widths)

    def expected(
        self,
        metric: str,
        means: Float64[Tensor, "population groups"],
        variances: Float64[Tensor, "population groups"],
    ) -> Float64[Tensor, "population"]:
        """The expected cost of random sub-networks whose widths are independent; differentiable.

        Args:
            metric: ``macs``, ``params`` or ``latency``.
            means: of the widths.
            variances: of the widths; zero gives the cost as a smooth function of real-valued widths.
        """
        return self._forms[metric].expected(means, variances)

    @property
    def full(self) -> dict[str, int]:
        """Cost in the full model by metric."""
        widths = self.graph.full_widths[None]
        return {metric: int(form(widths)[0].round().item()) for metric, form in self._forms.items()}

    def per_layer(self, subnet: Subnet) -> list[tuple[str, int]]:
        """(module path, multiply-adds) of each operation, in the order of the forward pass."""
        widths = self.graph.widths(subnet)
        return [
            (
                layer.module,
                layer.constant * prod((torch.tensor(layer.fixed, device="cpu") + layer.per_channel @ widths).tolist()),
            )
            for layer in self.layers
        ]


def _numel(
    graph: ChannelGraph, name: str, parameter: Tensor, widths: Int64[Tensor, "groups"]
) -> tuple[int, tuple[int, ...], Int64[Tensor, "axes groups"]]:
    """A parameter's size as a term: positions of each axis, fixed and per channel of each group."""
    constant, fixed, rows = 1, [], []
    for dim, size in enumerate(parameter.shape):
        ids = graph.axes.get((name, dim))
        if ids is None or not bool((ids >= 0).any()):
            constant *= size
            continue
        fixed.append(int((ids < 0).sum()))
        rows.append(torch.bincount(graph.channels[ids[ids >= 0]], minlength=len(widths)) // widths)
    table = torch.stack(rows) if rows else torch.zeros(0, len(widths), dtype=torch.int64, device="cpu")
    return constant, tuple(fixed), table
