"""A trace changes nothing of the user's model, and nothing about its state changes the trace."""

import copy
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

import widthwise
from widthwise.errors import UntraceableModel


class Noisy(nn.Module):
    """Draws from every generator, counts its calls, and may fail half-way."""

    def __init__(self, fail: bool) -> None:
        super().__init__()
        self.conv1, self.norm, self.conv2 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)
        self.dropout, self.fc = nn.Dropout(0.5), nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.fail = fail

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        torch.rand(3), np.random.rand(3), random.random()
        x = self.dropout(self.norm(self.conv1(x)).relu_())
        if self.fail:
            raise ValueError("half-way")
        return self.fc(self.conv2(x).mean((2, 3)))


def state(model: nn.Module) -> list[Any]:
    """All that must stay, as comparable values."""
    parameters = [
        (n, id(p), p._version, p.requires_grad, p.detach().clone(), p.grad) for n, p in model.named_parameters()
    ]
    buffers = [(n, id(b), b.clone()) for n, b in model.named_buffers()]
    modules = [
        (m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), sorted(vars(m)))
        for m in model.modules()
    ]
    numbers = [torch.get_rng_state().clone(), np.random.get_state()[1].tolist()]  # beartype draws from `random`
    return [parameters, buffers, modules, numbers]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@pytest.mark.parametrize("fail", [False, True])
def test_nothing_of_the_model_changes(fail: bool) -> None:
    model = Noisy(fail)
    model.norm.eval()  # a mixture of modes
    model.conv1.weight.requires_grad_(False)
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    model.conv2.register_forward_hook(lambda *_: None)
    inputs = torch.randn(2, 3, 8, 8)
    before, example = state(model), inputs.clone()
    if fail:
        with pytest.raises(UntraceableModel, match="half-way"):
            widthwise.trace(model, inputs)
    else:
        assert widthwise.trace(model, inputs).num_channels
    assert same(before, state(model))
    assert torch.equal(inputs, example)


def test_the_random_numbers_of_python_stay() -> None:
    """In a process of its own: the run-time type checker of these tests draws from the same generator."""
    program = (
        "import random, sys, torch, widthwise\n"
        "sys.path[:0] = sys.argv[1:]\n"
        "from test_model_untouched import Noisy\n"
        "random.seed(1)\n"
        "expected = random.getstate()\n"
        "widthwise.trace(Noisy(False), torch.randn(2, 3, 8, 8))\n"
        "assert random.getstate() == expected\n"
    )
    subprocess.run([sys.executable, "-c", program, str(Path(__file__).parent)], check=True, timeout=120)


def test_nothing_of_the_model_changes_when_a_sub_network_runs() -> None:
    model = Noisy(fail=False)
    graph = widthwise.trace(model, torch.randn(2, 3, 8, 8))
    model.eval()
    before = state(model)
    subnet = graph.subnet(widths=dict.fromkeys(graph.prunable, 1), importance="random")
    small = widthwise.materialize(model, graph, subnet)
    assert not {id(t) for t in small.parameters()} & {id(t) for t in model.parameters()}
    for run in (widthwise.shared(model, graph, subnet), widthwise.gated(model, graph, torch.ones(graph.num_channels))):
        with torch.random.fork_rng():
            run.parameters()
            model.calls.sub_(0)
    assert same(before[:1], state(model)[:1])


@pytest.mark.parametrize("way", ["shared", "gated"])
def test_a_module_registered_twice_keeps_its_tensors(way: str) -> None:
    norm = nn.BatchNorm2d(4)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.Conv2d(4, 4, 1), norm, nn.Flatten(), nn.Linear(144, 2)
    )
    inputs = torch.randn(2, 3, 8, 8)
    graph = widthwise.trace(model, inputs)
    model.eval()
    before = state(model)
    keep = torch.arange(graph.num_channels) % 2 == 0
    run = (
        widthwise.shared(model, graph, graph.subnet(keep))
        if way == "shared"
        else widthwise.gated(model, graph, keep.float())
    )
    with torch.no_grad():
        assert run(inputs).shape == (2, 2)
    assert same(before, state(model))


VARIANTS: dict[str, Callable[[nn.Module], object]] = {
    "frozen": lambda m: m.requires_grad_(False),
    "evaluation mode": lambda m: m.eval(),
    "float16": lambda m: m.half(),
    "bfloat16": lambda m: m.bfloat16(),
    "float64": lambda m: m.double(),
    "channels last": lambda m: m.to(memory_format=torch.channels_last),
    "zero weights": lambda m: [nn.init.zeros_(p) for p in m.parameters()],
}


@pytest.fixture(scope="module")
def plain() -> tuple[nn.Module, Tensor, dict[tuple[str, int], list[int]]]:
    model = torchvision.models.mobilenet_v3_small(num_classes=4)
    inputs = torch.randn(1, 3, 48, 48)
    return model, inputs, numbers(model, inputs)


def numbers(model: nn.Module, inputs: Tensor) -> dict[tuple[str, int], list[int]]:
    return {axis: ids.tolist() for axis, ids in widthwise.trace(model, inputs).axes.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_ids_do_not_depend_on_the_state_of_the_model(variant: str, plain: Any) -> None:
    model, inputs, expected = plain
    other = copy.deepcopy(model)
    VARIANTS[variant](other)
    found = numbers(other, inputs.to(next(other.parameters()).dtype))
    assert found == expected


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_ids_do_not_depend_on_the_context(context: Any, plain: Any) -> None:
    model, inputs, expected = plain
    with context():
        assert numbers(model, inputs) == expected
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert numbers(model, inputs) == expected


def test_a_graph_from_inference_mode_trains() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    inputs = torch.randn(1, 3, 6, 6)
    with torch.inference_mode():
        graph = widthwise.trace(model, inputs)
    gates = torch.ones(graph.num_channels, requires_grad=True)
    widthwise.gated(model, graph, gates)(inputs).sum().backward()
    assert gates.grad is not None
    widthwise.shared(model, graph, graph.subnet([True, False, True, True]))(inputs).sum().backward()
    assert model[0].weight.grad is not None


class Unusual(nn.Module):
    def __init__(self, function: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.a, self.b, self.h = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def body(s: Any, x: Tensor) -> Tensor:
    return s.h(s.b(s.a(x).relu()).mean((2, 3)))


def test_inputs_that_the_forward_changes_in_place_and_infinite_outputs() -> None:
    model = Unusual(lambda s, x: body(s, x.mul_(2)).masked_fill(torch.eye(2, dtype=torch.bool), float("-inf")))
    inputs = torch.randn(2, 3, 8, 8)
    before = inputs.clone()
    graph = widthwise.trace(model, inputs)
    assert [g.name for g in graph.prunable] == ["a", "b"]
    assert torch.equal(inputs, before)


def test_operations_inside_vmap_and_scripted_modules_never_crash() -> None:
    inputs = torch.randn(2, 3, 8, 8)
    vmapped = Unusual(lambda s, x: torch.vmap(s.h)(s.b(s.a(x).relu()).mean((2, 3))))
    assert "a" in [g.name for g in widthwise.trace(vmapped, inputs).prunable]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script = torch.jit.script(nn.Conv2d(4, 4, 1))
    scripted = nn.Sequential(nn.Conv2d(3, 4, 3), script, nn.Conv2d(4, 2, 1))
    assert [g.name for g in widthwise.trace(scripted, inputs).prunable] == []  # read by the script


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda s, x: None, "must return tensors"),
        (lambda s, x: s.h(x), "must run on the example inputs"),
        (
            lambda s, x: (
                body(s, x) + id(object()) % 97 + len(s.__dict__.setdefault("seen", [])) + (s.seen.append(1) or 0)
            ),
            "twice",
        ),
    ],
)
def test_what_cannot_be_traced_is_refused(function: Any, message: str) -> None:
    with pytest.raises(UntraceableModel, match=message):
        widthwise.trace(Unusual(function), torch.randn(1, 3, 8, 8))


class Once(nn.Module):
    """Has to be reset before it is called again."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.seen, self.ready = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), list[int](), True
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        if not self.ready:
            raise RuntimeError("call reset() first")
        self.ready = False
        self.seen.append(len(x))
        self.calls += 1
        return self.b(self.a(x).relu())


def test_a_forward_that_runs_only_once_is_refused() -> None:
    model, inputs = Once(), torch.randn(1, 3, 8, 8)
    before = state(model)
    with pytest.raises(UntraceableModel, match=r"as often as it is called.*second.*call reset\(\) first.*Let its"):
        widthwise.trace(model, inputs)
    assert same(before, state(model))
    assert (model.ready, model.seen) == (True, [])


def test_a_list_of_a_hook_in_which_the_first_entry_is_wanted() -> None:
    """The list is the model's, whether a closure reaches it or the copy has one of its own."""

    class Pops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.f = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), list[Tensor]()
            self.a.register_forward_hook(lambda _, __, out: self.f.append(out))

        def forward(self, x: Tensor) -> Any:
            self.a(x)
            return self.b(self.f[0] if len(self.f) == 1 else [][0])

    model = Pops()
    with pytest.raises(UntraceableModel, match="writes to f of the original"):
        widthwise.trace(model, torch.randn(1, 3, 8, 8))
    assert model.f == []


def test_a_model_on_the_meta_device_is_refused() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1))
    with pytest.raises(UntraceableModel, match="meta"):
        widthwise.trace(model, torch.randn(1, 3, 8, 8))
