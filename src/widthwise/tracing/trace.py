"""``trace``: from a model and an example to a proved channel graph."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from widthwise.channels.graph import ChannelGraph
from widthwise.errors import ConfigError, UntraceableModel
from widthwise.subnet.resize import refresh, tensors_of
from widthwise.tracing.follow import Draft, Flow
from widthwise.tracing.follow.reasons import OUTPUT, TRAINING_OUTPUT, asked
from widthwise.tracing.probe import (
    Probe,
    as_example,
    check_made,
    check_model,
    did_not_run_again,
    independent_of,
    make_probe,
    making_on,
)
from widthwise.tracing.proof import difference, prove
from widthwise.tracing.rules import MODULE_RULES, RULES, unknown

__all__ = ["Layers", "modules_named", "trace"]


Layers = str | type[nn.Module] | Sequence[str | type[nn.Module]]
"""One or several layers, by module path, by pattern (``"stage4.*"``; a module stands for all inside it) or by type."""


def trace(model: nn.Module, example_inputs: Any, *, pin: Layers = (), unproved: Layers = ()) -> ChannelGraph:
    """Number the prunable channels of a model, and prove that each group of them can be pruned.

    The model's own forward runs on a private copy while channel ids flow through it (again where an axis may be split
    in another way, and in training mode where that uses or returns more); then random sub-networks are compared with
    the reference, in evaluation and, where it draws no random numbers, in training mode, and whatever does not hold is
    pinned with the reason. The model itself is not run and not changed: not its mode, gradients, hooks, buffers or the
    state of the random numbers. Its hooks run on the copy; what they keep in objects of their own is overwritten, and a
    model whose hooks write to the model itself through a closure is refused.

    Args:
        model: any eager module that takes tensors.
        example_inputs: one tensor, a tuple of positional or a mapping of keyword arguments (nested as the model
            wants them). Multiply-adds are counted for these inputs: give a batch of one for the usual figures.
        pin: layers to leave exactly as they are, inputs and outputs.
        unproved: layers whose output channels are offered although they are pinned, at your own risk: without them the
            network computes another function (channels behind a layer norm), and only that it runs is checked.

    Raises:
        ConfigError: a pattern or type matches no layer.
        UntraceableModel: the model is wrapped, quantised or without values, cannot be copied, does not run on the
            inputs, returns no tensor, or returns something else each time (``refuse.py`` lists it all).
    """
    check_model(model)
    # A caller's inference mode would hand over operations whole and make tensors that cannot be trained on later;
    # a compiled part of the model would compile anew for every sub-network.
    home = torch.get_default_device()  # where the forward makes tensors; those of the trace itself are on the CPU
    with torch.inference_mode(False), torch.compiler.set_stance("force_eager"), making_on(torch.device("cpu")):
        probe = make_probe(model, as_example(example_inputs), home)
        check_made(model, probe.model)
        _run_again(model, probe)
        refused = modules_named(probe.model, pin)
        risked = modules_named(probe.model, unproved).keys() - refused.keys()
        flow = _follow(probe, refused)
        draft = Draft(flow, risked)
        while others := draft.other_followers():
            flow = _follow(probe, refused, {**flow.followers, **others})
            draft = Draft(flow, risked)
        graph = prove(draft, draft.graph(model), probe)
        sites = {path: tuple(calls) for path, calls in draft.sites(every=True).items()}
        return replace(graph, sites=sites, notes=(*_notes(flow, probe), *_in_vain(graph, unproved)))


def _run_again(model: nn.Module, probe: Probe) -> None:
    """Find out whether the copy computes the same again; and whether the example runs in training mode, and whether it
    returns something else there.

    Raises:
        UntraceableModel: it does not compute the same, or not at all, or on the model.
    """
    with independent_of(model, probe.model):
        try:
            again = probe.run()
        except Exception as error:
            raise did_not_run_again(error) from error
        outputs = probe.run_in_training()
    if difference(again, probe.outputs) > probe.tolerance:
        raise UntraceableModel(
            "A model must compute the same twice in evaluation mode, but the outputs of this one differ from run "
            "to run for the same inputs, random seed and weights. Make its forward depend on its inputs alone."
        )
    probe.branches = probe.trains and [t.shape[1:] for t in outputs] != [t.shape[1:] for t in probe.outputs]


def modules_named(model: nn.Module, layers: Layers) -> dict[str, str]:
    """Path of every module that is named, or stands inside one that is, to the name that says so."""
    found: dict[str, str] = {}
    several = [layers] if isinstance(layers, str | type) or not isinstance(layers, Iterable) else layers
    for wanted in several:
        if isinstance(wanted, str):
            tops = [path for path, _ in model.named_modules() if path and fnmatchcase(path, wanted)]
        elif isinstance(wanted, type):
            tops = [path for path, module in model.named_modules() if isinstance(module, wanted)]
        else:
            raise ConfigError(
                f"Layers are named by module path, pattern or type, but got a {type(wanted).__name__}; a module's path "
                "is what model.named_modules() calls it."
            )
        if not tops:
            raise ConfigError(
                f"Layers are named by module path, pattern or type, but {wanted!r} matches none; `widthwise trace "
                "--all` lists the paths."
            )
        name = wanted if isinstance(wanted, str) else wanted.__name__
        for path, _ in model.named_modules():
            if any(path == top or not top or path.startswith(f"{top}.") for top in tops):
                found.setdefault(path, name)
    return found


def _notes(flow: Flow, probe: Probe) -> tuple[str, ...]:
    """What the trace could not look at: weights that only training uses, where it does not run, and inner functions."""
    notes = []
    if not probe.trains and flow.unused():
        notes.append(
            "Some weights are not used in evaluation mode, and the example does not run in training mode "
            f"({probe.training_error}). If training uses them (auxiliary heads), trace with an example that trains."
        )
    if flow.closed:
        notes.append(
            f"What runs in the functions that {', '.join(sorted({*flow.closed}))} calls is not followed, and its "
            "multiply-adds are not counted. Write it with plain operations, if it has layers or costs much."
        )
    return tuple(notes)


def _in_vain(graph: ChannelGraph, unproved: Layers) -> tuple[str, ...]:
    """A line for each name in ``unproved`` that offers nothing."""
    named = modules_named(graph.model, unproved)
    notes = []
    for name in dict.fromkeys(named.values()):
        paths = {path for path, by in named.items() if by == name}
        made = [g for g in graph.groups if any(m.role == "out" and m.module in paths for m in g.members)]
        if made and all(g.pinned for g in made):
            notes.append(f"unproved={name!r} offers nothing: of what it makes, {made[0].name} {made[0].reason}.")
    return tuple(notes)


def _follow(probe: Probe, refused: Mapping[str, str], followers: Mapping[int, int] | None = None) -> Flow:
    """One forward in evaluation mode, and one in training mode if that returns more or uses more (auxiliary heads)."""
    flow = Flow(tensors_of(probe.model), RULES, unknown, MODULE_RULES, followers)
    for path, pattern in refused.items():
        module = probe.model.get_submodule(path)
        for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            flow.pin_all(tensor, asked(pattern))
    refresh(probe.model)  # what modules keep of an earlier run would hide where it comes from
    with flow.inside(probe.model), flow:
        for output in probe.run():
            flow.pin_all(output, OUTPUT)
        probe.branches = probe.trains and (probe.branches or flow.unused())
        if probe.branches:
            counted, made = list(flow.arithmetic), list(flow.made)
            for output in probe.run_in_training():
                flow.pin_all(output, TRAINING_OUTPUT)
            flow.arithmetic[:], flow.made[:] = counted, made
    return flow
