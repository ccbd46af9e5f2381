"""Latency as arithmetic on widths, fitted to the measured times of a few sub-networks on the user's device.

The time of a forward pass is taken apart at the starts of its modules with multiply-adds. Each stretch (a convolution,
and the norm, the activation and the sum that follow it) is a constant, plus so much for every channel that comes in,
goes out, or goes into the next of them, plus so much for every pair of an input and an output. No coefficient is
negative, so that a wider network is never said to be faster. It is the same form as the multiply-adds, so whatever
searches under a budget of those searches under one of latency.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from widthwise.channels.graph import ChannelGraph, Layer
from widthwise.errors import CorruptRun, SubnetMismatch

__all__ = ["Latency", "Term", "fit_latency", "latency_terms"]

TICKS = 10**14
"""Per second. Whole numbers keep sums exact; on an accelerator a pair of channels may cost a picosecond, and 90 seconds
stay below 2^53."""

EVERY = 4
"""One network in so many is held out to see how far the fit can be trusted."""

Term = tuple[tuple[int, ...], Int64[Tensor, "axes groups"]]
"""A product of kept positions: those of each axis that are always kept, and those of one channel of each group."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """What the modules of one network take on one device.

    Made by :func:`widthwise.measure_latency`.
    """

    modules: Mapping[str, tuple[int, ...]]
    """Ticks per unit of each term of :func:`latency_terms`, by the path of the module, in order of the calls."""
    graph: str
    """Fingerprint of the network."""
    shape: tuple[int, ...]
    """Of the images that were timed, ``(batch, channels, height, width)``."""
    device: str
    """Where."""
    networks: int
    """Sub-networks that were timed."""
    error: float
    """Median relative error of the whole network's time, on sub-networks that the fit had not seen."""

    @property
    def batch(self) -> int:
        """Images of a forward pass that was timed."""
        return self.shape[0]

    def to_json(self) -> dict[str, Any]:
        """As JSON data; the order of the modules matters."""
        modules = [[path, *coefficients] for path, coefficients in self.modules.items()]
        return {**vars(self), "modules": modules, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, data: Any, source: object) -> "Latency":
        """From :meth:`to_json`.

        Args:
            data: what was read.
            source: the file that it came from, for the message.

        Raises:
            CorruptRun: it is something else.
        """
        try:
            modules = {path: tuple(coefficients) for path, *coefficients in data["modules"]}
            return cls(**{**data, "modules": modules, "shape": tuple(data["shape"])})
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptRun(
                f"Measured times have the fields {', '.join(cls.__annotations__)}, but those in {source} do not fit "
                f"({type(error).__name__}: {error}). Restore the file from a backup, or start in a new folder."
            ) from error

    def terms(self, graph: ChannelGraph) -> Iterator[tuple[str, int, Term]]:
        """(module path, ticks, product) of every term that costs something.

        Raises:
            SubnetMismatch: these are the times of another network.
        """
        if self.graph != graph.fingerprint:
            raise SubnetMismatch(
                f"Measured times belong to one network, but these are of {self.graph}, and this one is "
                f"{graph.fingerprint}. Measure its own with widthwise.measure_latency(model, graph, example); where a "
                "folder holds a latency.json of another network, name another folder."
            )
        found = latency_terms(graph, tuple(self.modules))
        for path, terms in found.items():
            for coefficient, term in zip(self.modules[path], terms, strict=True):
                if coefficient:
                    yield path, coefficient, term


def latency_terms(graph: ChannelGraph, paths: tuple[str, ...]) -> dict[str, list[Term]]:
    """The products that the time of each module is a sum of: one, its axes and the next module's, its multiply-adds.

    And those of the modules that it lies in, if they compute something themselves (attention between its projections):
    that is done after some module inside has begun, and counts with it.

    Args:
        graph: the network.
        paths: of modules with multiply-adds, in the order in which they are called.
    """
    layers: dict[str, list[Layer]] = {path: [] for path in paths}
    for layer in graph.layers:
        if layer.module in layers:
            layers[layer.module].append(layer)
    found: dict[str, list[Term]] = {}
    for path, following in zip(paths, [*paths[1:], paths[-1]], strict=True):
        own = [layer for outer in paths if _within(path, outer) for layer in layers[outer]]
        axes = (axis for layer in own for axis in _axes(layer))
        inputs = (axis for layer in layers[following] for axis in _axes(layer)[-1:])
        products = ((layer.fixed, layer.per_channel) for layer in own if len(_axes(layer)) > 1)
        one: Term = ((), torch.zeros(0, len(graph.prunable), dtype=torch.int64))
        terms = {_key(term): term for term in (one, *axes, *inputs, *products)}
        found[path] = list(terms.values())
    return found


def fit_latency(
    graph: ChannelGraph,
    widths: Int64[Tensor, "networks groups"],
    seconds: Mapping[str, Float64[Tensor, "networks"]],
    *,
    shape: tuple[int, ...],
    device: str,
) -> Latency:
    """Fit the times of some sub-networks by least squares with coefficients of zero or more.

    Errors count relative to the time of the whole network.

    Args:
        graph: the network.
        widths: of the sub-networks.
        seconds: what each module took, from its start to the next one's, in the order of the calls.
        shape: of the images that were timed.
        device: where.
    """
    terms = latency_terms(graph, tuple(seconds))
    designs = {path: torch.stack([_values(term, widths) for term in own], 1) for path, own in terms.items()}
    total = torch.stack(list(seconds.values())).sum(0)
    seen = torch.arange(len(widths)) % EVERY != EVERY - 1
    tried = _fitted(designs, seconds, total, seen)
    predicted = sum(designs[path] @ torch.tensor(own, dtype=torch.float64) for path, own in tried.items())
    errors = (torch.as_tensor(predicted) / TICKS / total - 1).abs()[~seen]
    return Latency(
        modules=_fitted(designs, seconds, total, torch.ones_like(seen)),
        graph=graph.fingerprint,
        shape=shape,
        device=device,
        networks=len(widths),
        error=median(errors.tolist()),
    )


def _fitted(
    designs: Mapping[str, Tensor], seconds: Mapping[str, Tensor], total: Tensor, rows: Tensor
) -> dict[str, tuple[int, ...]]:
    from scipy.optimize import nnls

    found = {}
    for path, design in designs.items():
        sizes = design.amax(0).clamp(min=1)
        left = (design[rows] / sizes / total[rows, None]).numpy()
        solution, _ = nnls(left, (seconds[path][rows] / total[rows]).numpy())
        found[path] = tuple(np.rint(solution / sizes.numpy() * TICKS).astype(int).tolist())
    return found


def _within(path: str, outer: str) -> bool:
    """Whether a module is another one or lies in it."""
    return path == outer or not outer or path.startswith(f"{outer}.")


def _axes(layer: Layer) -> list[Term]:
    """Each axis whose kept positions depend on widths; what comes out of a weight before what goes in."""
    rows = zip(layer.fixed, layer.per_channel, strict=True)
    return [((fixed,), row[None]) for fixed, row in rows if bool(row.any())]


def _key(term: Term) -> tuple[object, ...]:
    fixed, rows = term
    return (fixed, *map(tuple, rows.tolist()))


def _values(term: Term, widths: Int64[Tensor, "networks groups"]) -> Float64[Tensor, "networks"]:
    fixed, rows = term
    return (widths @ rows.T + torch.tensor(fixed, dtype=torch.int64)).double().prod(1)
