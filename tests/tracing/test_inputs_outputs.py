"""Whatever a forward takes and returns: tensors are found, their channels kept, and the structure stays."""

import collections
import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import oracle
import widthwise
from widthwise.errors import UntraceableModel


class Pair(NamedTuple):
    image: Tensor
    scale: Tensor | None


@dataclass
class Batch:
    image: Tensor
    mask: Tensor | None = None
    name: str = "batch"


@dataclass(slots=True)
class Slotted:
    logits: Tensor
    features: Tensor


@dataclass
class Result:
    logits: Tensor
    features: dict[str, Tensor]
    loss: Tensor | None = None


class Plain:
    """An object of a user's own."""

    def __init__(self, logits: Tensor, features: Tensor) -> None:
        self.logits, self.features = logits, [features]


class Net(nn.Module):
    """Two convolutions that can be pruned and a head; the forward is a function of the test's."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.a, self.norm, self.b = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 3)
        self.fc, self.words = nn.Linear(6, 4), nn.Embedding(10, 6)

    def features(self, x: Tensor) -> Tensor:
        return self.norm(self.a(x)).relu()

    def head(self, x: Tensor) -> Tensor:
        return self.fc(self.b(x).relu().mean((2, 3)))

    def logits(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def image(seed: int = 0, size: int = 10) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


def tensors(value: Any) -> Iterator[Tensor]:
    """In order, written out for the structures of this file."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors(list(value.values()))
    elif isinstance(value, list | tuple | collections.deque) or type(value) is type({}.values()):
        for item in value:
            yield from tensors(item)
    elif dataclasses.is_dataclass(value):
        yield from tensors([getattr(value, f.name) for f in dataclasses.fields(value)])
    elif isinstance(value, Plain):
        yield from tensors([value.logits, value.features])


def structure(value: Any) -> Any:
    """The nested structure, with the number of axes of each tensor in its place."""
    if isinstance(value, Tensor):
        return value.ndim
    if isinstance(value, Mapping):
        return type(value), {k: structure(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [structure(v) for v in value]
    if dataclasses.is_dataclass(value):
        return type(value), [structure(getattr(value, f.name)) for f in dataclasses.fields(value)]
    return type(value)


def run(model: Any, inputs: Any) -> Any:
    """The call that ``trace`` documents for inputs of each form; tensors in place of which copies are given."""
    inputs = copy.deepcopy(inputs)
    with torch.no_grad():
        if isinstance(inputs, Mapping):
            return model(**inputs)
        return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def check(model: nn.Module, inputs: Any, expected_groups: list[str]) -> Any:
    """Trace, and compare all three ways with the reference; returns what the small network returned."""
    before = copy.deepcopy(inputs)
    graph = widthwise.trace(model, inputs)
    for old, new in zip(tensors(before), tensors(inputs), strict=True):
        assert torch.equal(old, new)
    assert [g.name for g in graph.prunable] == expected_groups
    oracle.randomise(model, 0).eval()
    keep = oracle.random_keep(graph, 0)
    reference = run(oracle.reference(model, graph, keep), inputs)
    subnet = graph.subnet(keep)
    small = widthwise.materialize(model, graph, subnet)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    ways = (small, widthwise.shared(model, graph, subnet), widthwise.gated(model, graph, keep.to(torch.float32)))
    for way in ways:
        found = run(way, inputs)
        assert structure(found) == structure(reference)
        assert oracle.distance(list(tensors(found)), list(tensors(reference))) < 1e-5
    return run(small, inputs)


BOTH = ["a", "b"]
INPUTS: dict[str, tuple[Callable[..., Any], Any]] = {
    "one tensor": (lambda s, x: s.logits(x), image()),
    "positional": (lambda s, x, y: s.logits(x + y), (image(), image(1))),
    "a list of positional": (lambda s, x, y: s.logits(x + y), [image(), image(1)]),
    "a NamedTuple of positional": (lambda s, x, scale: s.logits(x * scale), Pair(image(), torch.tensor(2.0))),
    "keywords": (lambda s, *, image, mask=None: s.logits(image * mask), {"image": image(), "mask": image(1) > 0}),
    "a keyword left out": (lambda s, image, mask=None: s.logits(image if mask is None else mask), {"image": image()}),
    "None as a keyword": (
        lambda s, image, mask=None: s.logits(image if mask is None else mask),
        {"image": image(), "mask": None},
    ),
    "None as a positional": (lambda s, y, x: s.logits(x if y is None else y), (None, image())),
    "numbers, flags and strings": (
        lambda s, x, n, flag, mode="": s.logits(x * n if flag and mode == "scale" else x),
        {"x": image(), "n": 3, "flag": True, "mode": "scale"},
    ),
    "nested lists and dicts": (
        lambda s, parts: s.logits(parts["list"][0] + parts["list"][1]["deep"][0]),
        ({"list": [image(), {"deep": (image(1), None)}], "unused": 1},),
    ),
    "a NamedTuple": (lambda s, pair: s.logits(pair.image), (Pair(image(), None),)),
    "an ordered dict": (lambda s, d: s.logits(d["image"]), (collections.OrderedDict(image=image()),)),
    "a dataclass": (lambda s, batch: s.logits(batch.image), (Batch(image()),)),
    "a dataclass, bare": (lambda s, batch: s.logits(batch.image), Batch(image())),
    "images of several sizes": (
        lambda s, images: torch.stack([s.logits(x[None])[0] for x in images]),
        ([image(0, 10)[0], image(1, 12)[0]],),
    ),
    "integers to look up": (
        lambda s, x, ids: s.fc(s.b(s.features(x)).mean((2, 3)) + s.words(ids)),
        (image(), torch.tensor([1, 2])),
    ),
    "bytes of an image": (
        lambda s, x: s.logits(x.float() / 255),
        torch.randint(0, 256, (2, 3, 10, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
    ),
    "an empty tensor beside": (lambda s, x, boxes: s.logits(x) + boxes.sum(), (image(), torch.zeros(0, 4))),
    "changed in place": (lambda s, x: s.logits(x.mul_(2).add_(1)), image()),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs(name: str) -> None:
    function, inputs = INPUTS[name]
    check(Net(function), inputs, BOTH)


def test_tensors_of_a_dataclass_are_copied_too() -> None:
    check(Net(lambda s, batch: s.logits(batch.image.mul_(2))), (Batch(image()),), BOTH)


OUTPUTS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tuple": lambda y, f: (y, f),
    "list": lambda y, f: [y, f],
    "dict": lambda y, f: {"logits": y, "features": f, "epoch": 3, "name": "x", "nothing": None},
    "ordered dict": lambda y, f: collections.OrderedDict(logits=y, features=f),
    "nested": lambda y, f: (y, [{"deep": ((f,), 1.5)}, None]),
    "NamedTuple": lambda y, f: Pair(y, f),
    "dataclass": lambda y, f: Result(y, {"a": f}),
    "dataclass inside": lambda y, f: [Result(y, {"a": f}, f.sum())],
    "object": lambda y, f: Plain(y, f),
}
"""A structure around logits and features."""

UNUSUAL: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "slots": lambda y, f: Slotted(y, f),
    "slots inside": lambda y, f: (y, Slotted(y, f)),
    "deque": lambda y, f: (y, collections.deque([f])),
    "values of a dict": lambda y, f: (y, {"f": f}.values()),
}


def returning(wrap: Callable[[Tensor, Tensor], Any], features: bool) -> Net:
    """A network that returns its features beside its logits, or else the logits twice."""

    def forward(s: Any, x: Tensor) -> Any:
        f = s.features(x)
        y = s.head(f)
        return wrap(y, f if features else 2 * y)

    return Net(forward)


@pytest.mark.parametrize("name", OUTPUTS)
def test_channels_that_are_returned_are_kept_wherever_they_stand(name: str) -> None:
    small = check(returning(OUTPUTS[name], features=True), image(), ["b"])
    assert [t.shape[1] for t in tensors(small) if t.ndim == 4] == [8]


@pytest.mark.parametrize("name", OUTPUTS)
def test_channels_that_are_not_returned_are_free_in_every_structure(name: str) -> None:
    check(returning(OUTPUTS[name], features=False), image(), BOTH)


@pytest.mark.parametrize("name", UNUSUAL)
def test_channels_that_are_returned_in_unusual_containers_are_kept(name: str) -> None:
    graph = widthwise.trace(returning(UNUSUAL[name], features=True), image())
    assert [g.name for g in graph.prunable] == ["b"]


NUMBERS: dict[str, Callable[[Tensor], Any]] = {
    "an array": lambda f: f.mean((2, 3)).numpy(),
    "an array of integers": lambda f: (100 * f.mean((2, 3))).int().numpy(),
    "a list": lambda f: f.mean((2, 3)).tolist(),
    "a list of one number per channel": lambda f: f[0, :, 0, 0].tolist(),
    "a tuple": lambda f: tuple(f[0, :, 0, 0].tolist()),
    "an array of arrays": lambda f: np.array([f[0, :, 0, 0].numpy(), f[0, :, 0].flatten().numpy()], dtype=object),
    "complex numbers": lambda f: f[0, :, 0].to(torch.complex64).numpy(),
    "a shape": lambda f: f.shape,
}


@pytest.mark.parametrize("name", NUMBERS)
def test_channels_that_are_returned_as_numbers_in_other_forms_are_kept(name: str) -> None:
    def forward(s: Any, x: Tensor) -> Any:
        f = s.features(x)
        return {"logits": s.head(f), "features": NUMBERS[name](f)}

    graph = widthwise.trace(Net(forward), image())
    assert [g.name for g in graph.prunable] == ["b"]
    assert "computes something else" in str(next(g.reason for g in graph.groups if g.name == "a"))


def test_numbers_that_do_not_follow_the_channels_leave_them_free() -> None:
    def forward(s: Any, x: Tensor) -> Any:
        y = s.logits(x)
        rest = (y.tolist(), y.numpy(), y.argmax(1).tolist(), list(x.shape), np.array(["a"]), [float("nan"), 1.0])
        return y, [], ["a", "b"], 3, y.shape[1], rest

    check(Net(forward), image(), BOTH)


DECISIONS: dict[str, Callable[[Any, Tensor], Any]] = {
    "a class": lambda s, x: s.logits(x).argmax(1),
    "a mask": lambda s, x: s.logits(x) > 0,
    "a loss": lambda s, x: s.logits(x).square().mean(),
    "the indices of the best": lambda s, x: s.logits(x).topk(2).indices,
}


@pytest.mark.parametrize("name", DECISIONS)
def test_outputs_that_are_no_activations(name: str) -> None:
    check(Net(DECISIONS[name]), image(), BOTH)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (lambda x: x, lambda x: x),
        (lambda x: {"batch": {"image": [x]}}, lambda batch: batch["image"][0]),
        (lambda x: (Batch(x),), lambda batch: batch.image),
    ],
    ids=["tensor", "nested", "dataclass"],
)
def test_models_of_any_type_with_inputs_of_that_type(dtype: torch.dtype, wrap: Any, unwrap: Any) -> None:
    model = Net(lambda s, *args, **kwargs: s.logits(unwrap(*args, **kwargs))).to(dtype)
    inputs = wrap(image().to(dtype))
    graph = widthwise.trace(model, inputs)
    assert [g.name for g in graph.prunable] == BOTH
    keep = oracle.random_keep(graph, 0)
    oracle.randomise(model, 0).eval()
    expected = run(oracle.reference(model, graph, keep), inputs)
    small = widthwise.materialize(model, graph, graph.subnet(keep))
    found = run(small, inputs)
    assert found.dtype == dtype
    assert oracle.distance([found], [expected]) < {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(dtype, 1e-9)


def test_the_type_of_the_example_does_not_matter() -> None:
    """A model in half precision may be traced with any image, and a trace under autocast is the same."""
    model = Net(lambda s, x: s.logits(x)).half()
    graph = widthwise.trace(model, image())
    assert [g.name for g in graph.prunable] == BOTH
    assert {t.dtype for t in widthwise.materialize(model, graph, graph.subnet()).parameters()} == {torch.float16}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert [g.name for g in widthwise.trace(model.float(), image()).prunable] == BOTH


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_small_networks_with_nested_inputs_compile_export_and_script_trace() -> None:
    model = Net(lambda s, batch: {"logits": s.logits(batch["image"]), "bias": s.fc.bias * 2})
    inputs = ({"image": image()},)
    graph = widthwise.trace(model, inputs)
    small = widthwise.materialize(model, graph, graph.subnet(oracle.random_keep(graph, 0))).eval()
    expected = list(tensors(run(small, inputs)))
    exported = torch.export.export(small, copy.deepcopy(inputs)).module()
    with torch.no_grad():
        traced = torch.jit.trace(small, copy.deepcopy(inputs), strict=False)
    torch._dynamo.reset()
    compiled = torch.compile(small, backend="eager", fullgraph=True)
    for other in (exported, traced, compiled):
        assert oracle.distance(list(tensors(run(other, inputs))), expected) < 1e-6


REFUSED: dict[str, tuple[Callable[..., Any], Any, tuple[str, ...]]] = {
    "no tensor": (lambda s, x: None, image(), ("must return tensors", "none was found", "returns a tensor")),
    "a number": (lambda s, x: float(s.logits(x).sum()), image(), ("must return tensors", "Wrap it")),
    "nothing in the tensors": (
        lambda s, x: s.logits(x)[:0],
        image(),
        ("compares what a model returns", "[0, 4] on cpu", "an example for which it returns numbers"),
    ),
    "an empty batch": (
        lambda s, x: s.logits(x),
        image()[:0],
        ("nothing to compute", "float32 [0, 3, 10, 10] on cpu", "batch of at least one"),
    ),
    "an input without numbers": (
        lambda s, x: s.logits(x),
        {"x": image().to("meta")},
        ("runs the model on the example", "on meta", "inputs with numbers"),
    ),
    "the wrong number of axes": (
        lambda s, x: s.fc(x),
        image(),
        ("must run on the example inputs", "float32 [2, 3, 10, 10] on cpu", "Pass inputs"),
    ),
    "integers for a convolution": (
        lambda s, x: s.logits(x),
        image().long(),
        ("must run on the example inputs", "int64 [2, 3, 10, 10] on cpu", "Pass inputs"),
    ),
    "an argument too few": (
        lambda s, x, y: s.logits(x + y),
        image(),
        ("must run", "argument: 'y'", "tuple for positional"),
    ),
    "an unknown keyword": (lambda s, x: s.logits(x), {"y": image()}, ("must run", "'y'", "a dict for keyword")),
    "None": (lambda s, x: s.logits(x), None, ("must run", "no tensors", "Pass inputs")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_traced_is_refused_with_the_rule_what_was_got_and_a_remedy(name: str) -> None:
    function, inputs, words = REFUSED[name]
    with pytest.raises(UntraceableModel) as error:
        widthwise.trace(Net(function), inputs)
    for word in words:
        assert word in str(error.value)
