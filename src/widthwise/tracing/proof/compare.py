"""Two networks made from one probe, compared: the small one, and the reference.

The reference is the full network whose consumers have zero weights for the removed channels (what ``gated`` computes),
which is exact whatever stands in between.
"""

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import widthwise.channels
import widthwise.subnet
from widthwise.channels import Axis, ChannelGraph, Reason, Site, Subnet
from widthwise.subnet.resize import as_built, resized_copy, tensors_of
from widthwise.subnet.shared import SharedSubnet, SuperNet
from widthwise.tracing.follow.reasons import broken
from widthwise.tracing.probe import DOUBLE, Probe, is_number
from widthwise.tracing.proof.observe import difference, observe, worst_difference

__all__ = ["Comparison", "breaks"]

LENIENT = 1e-4
"""Tolerance where a forward does not run in double precision."""

LIKELY = 1e-2
"""Up to here a difference may well be rounding: it is worth a look in double precision that can only say so; in
training mode, where nothing but a mistake is looked for, it passes."""


@contextmanager
def _silenced(probe: Probe, graph: ChannelGraph, kept: Mapping[Axis, Tensor]) -> Iterator[None]:
    """The reference: the removed columns of each consumer are zero inside, and as before after.

    In place, and drawn again after: copies of all weights would take their memory, and longer than a forward.
    """
    tensors = tensors_of(probe.model)
    before: dict[str, Tensor] = {}
    drawn: list[str] = []
    try:
        for (name, dim), role in graph.roles.items():
            if role == "in" and (name, dim) in kept:
                weight = tensors[name]
                if probe.draws(name, weight):
                    drawn.append(name)
                elif name not in before:
                    before[name], weight.data = weight.data, weight.data.clone()
                _clear(weight.data, dim, kept[name, dim])
        yield
    finally:
        for name in drawn:
            probe.draw(name, tensors[name])
        for name, data in before.items():
            tensors[name].data = data


def _clear(weight: Tensor, dim: int, but: Tensor) -> None:
    """Set all positions along a dimension to zero, but for some, in place."""
    kept = torch.zeros(weight.shape[dim], dtype=weight.dtype, device=weight.device)
    kept.index_fill_(0, but.to(weight.device), 1)
    if weight.is_contiguous():  # one long dimension, which is faster than many short ones
        kept = kept.repeat_interleave(weight.stride(dim))
        weight = weight.flatten(dim)
    weight.mul_(kept.reshape([-1 if d == dim else 1 for d in range(weight.ndim)]))


@dataclass(frozen=True)
class Comparison:
    """How the small network of a sub-network is made, run and compared."""

    network: SuperNet
    """Of the probe."""
    probe: Probe
    sites: Mapping[str, list[Site]]
    """Where the channels lie in what each module returns."""
    copied: bool
    """Whether the small one is what ``materialize`` makes, or the probe itself with slices and other sizes, which takes
    a fraction of the time."""

    def failure(self, subnet: Subnet) -> Reason | None:
        """Why the sub-network is not what it should be; None if it is."""
        trains = self.probe.trains and (self.copied or self.probe.branches)
        try:
            if self.probe.coarse:
                worst = self._as_before(subnet)
            else:
                worst = self._difference(subnet)
                if worst > self.probe.tolerance > DOUBLE:  # rounding, or a choice (the best of boxes) made otherwise?
                    worst = self._in_double(subnet, worst)
            if worst > self.probe.tolerance:
                return broken(f"computes something else when pruned (relative difference {worst:.1e})")
            apart = self._apart_in_training(subnet) if trains else 0.0
        except Exception as error:
            return breaks(error)
        if apart <= LIKELY:
            return None
        return broken(f"computes something else in training when pruned (relative difference {apart:.1e})")

    def _apart_in_training(self, subnet: Subnet) -> float:
        """How far the outputs of a copy are apart in training mode; where it draws numbers it only has to run."""
        part = self.network.subnet(subnet)
        found: list[Tensor] = []
        with self._small(part) as model:
            self.probe.run_in_training(model)
            if self.copied:
                found = self.probe.run_in_training(model, calm=True)
        del model
        if not found or self.probe.draws_numbers:
            return 0.0
        with _silenced(self.probe, self.network.graph, part.kept):
            expected = self.probe.run_in_training(calm=True)
        return difference(*([t for t in outputs if is_number(t)] for outputs in (found, expected)))

    def _difference(self, subnet: Subnet) -> float:
        """How far the small network is from the reference, relative to what is compared.

        One after the other, so that the memory of one of them, beside the probe's, is enough.
        """
        part = self.network.subnet(subnet)
        with self._small(part) as model:
            found = observe(self.probe, model, self.sites, subnet, small=True)
        del model
        with _silenced(self.probe, self.network.graph, part.kept):
            expected = observe(self.probe, self.probe.model, self.sites, subnet, found, small=False)
        return worst_difference(found, expected)

    @contextmanager
    def _small(self, part: SharedSubnet) -> Iterator[nn.Module]:
        """The small network. In a copy, parameters of which nothing is removed are the probe's own."""
        if self.copied:
            small = resized_copy(self.probe.model, part.parameters(), part.sizes)
            as_built(small, self.network.graph.model, part.sizes)  # its first forward is still to come
            yield small
        else:
            with part.applied() as model:
                yield model

    def _in_double(self, subnet: Subnet, worst: float) -> float:
        """Zero if double precision shows that the difference was rounding; the difference otherwise."""
        if worst <= LIKELY and self.probe.coarse != "throughout":
            with suppress(Exception), self.probe.in_double(by_module=True):
                if self._difference(subnet) <= DOUBLE:
                    self.probe.coarse = "by module"
                    return 0.0
        return self._throughout(subnet, worst)

    def _as_before(self, subnet: Subnet) -> float:
        """The difference in the double precision that has run before: an error is now one of the small network."""
        if self.probe.coarse == "by module":
            with self.probe.in_double(by_module=True):
                worst = self._difference(subnet)
            return worst if worst <= DOUBLE else self._throughout(subnet, worst)
        with self.probe.in_double(by_module=False):
            return self._difference(subnet)

    def _throughout(self, subnet: Subnet, worst: float) -> float:
        """The difference with everything in double precision, for a small network that runs in another."""
        try:
            with self.probe.in_double(by_module=False):
                exact = self._difference(subnet)
            if exact > DOUBLE:
                return exact
            self.probe.coarse = "throughout"
            return 0.0
        except Exception:  # a forward that insists on single precision
            return 0.0 if worst <= LENIENT else worst


def breaks(error: Exception) -> Reason:
    """What to say of a forward that no longer runs, and where.

    Raises:
        the error, if it is a mistake of ours: it must not pass for one of the model's.
    """
    if isinstance(error, _MISTAKES) and _raised_in(error) in _OURS:
        raise error
    message = (str(error) or "no message").splitlines()[0]
    return broken(f"breaks the forward when pruned ({type(error).__name__}: {message})", _module_of(error))


_MISTAKES = (NameError, AttributeError, TypeError, AssertionError, LookupError)
"""Errors that say of their place that it is wrong; a RuntimeError may be the model's doing."""

_OURS = [Path(file).resolve().parent for file in (__file__, widthwise.channels.__file__, widthwise.subnet.__file__)]
"""Folders of the code that runs in a proof and is not the model's."""


def _raised_in(error: Exception) -> Path | None:
    """The folder of the code that an error comes from; none for an operation of the model that we only passed on."""
    frames = traceback.extract_tb(error.__traceback__)
    own = frames and frames[-1].name != "__torch_dispatch__"
    return Path(frames[-1].filename).resolve().parent if own else None


def _module_of(error: Exception) -> str:
    """Path of the module whose forward raised an error; empty for the root, and where none did."""
    running = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = list(dict.fromkeys(module for module in running if isinstance(module, nn.Module)))
    if not modules:
        return ""
    paths: dict[int, str] = {id(module): path for path, module in modules[0].named_modules()}
    return paths.get(id(modules[-1]), "")
