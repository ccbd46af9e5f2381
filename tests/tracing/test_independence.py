"""A copy of a model that reads or writes the model itself is refused, and the model is as it was before."""

import logging
import weakref
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import widthwise
from widthwise.errors import UntraceableModel

IMAGE = torch.rand(1, 3, 8, 8)


class Extractor(nn.Module):
    """Its head reads what a hook has stored."""

    def __init__(self, store: Callable[[Any, Tensor], object], read: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.stem, self.mid = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)
        self.feats, self.features, self.queue = dict[str, Tensor](), list[Tensor](), deque[Tensor]()
        self.context, self.nested = SimpleNamespace(feat=None), {"deep": ([None],)}
        self.read = read
        self.register_buffer("kept", torch.zeros(8, 8, 8))
        self.stem.register_forward_hook(lambda _, __, out: (store(self, out), None)[1])

    def forward(self, x: Tensor) -> Tensor:
        self.mid(self.stem(x).relu())
        y: Tensor = self.head(self.read(self).mean((-1, -2)))
        return y


STORES: dict[str, tuple[Callable[[Any, Tensor], object], Callable[[Any], Tensor], str]] = {
    "a dictionary": (lambda s, out: s.feats.update(stem=out), lambda s: s.feats["stem"], "writes to feats of"),
    "a list": (lambda s, out: s.features.append(out), lambda s: s.features[-1], "writes to features of"),
    "a queue": (lambda s, out: s.queue.append(out), lambda s: s.queue[-1], "writes to queue of"),
    "an attribute": (lambda s, out: setattr(s, "feat", out), lambda s: s.feat, "writes to feat of"),
    "an object": (lambda s, out: setattr(s.context, "feat", out), lambda s: s.context.feat, "writes to context.*of"),
    "a list inside": (
        lambda s, out: s.nested["deep"][0].__setitem__(0, out),
        lambda s: s.nested["deep"][0][0],
        "writes to nested of",
    ),
    "a buffer": (lambda s, out: s.kept.copy_(out[0]), lambda s: s.kept[None], "goes on using kept of"),
}


def contents(model: Any) -> list[Any]:
    """What a run may write to, with the tensors by identity."""
    values = [*model.feats.values(), *model.features, *model.queue, model.context.feat, model.nested["deep"][0][0]]
    return [sorted(vars(model)), [id(value) for value in values], id(getattr(model, "feat", None)), model.kept.tolist()]


@pytest.mark.parametrize("run", [False, True])
@pytest.mark.parametrize("name", STORES)
def test_a_hook_that_stores_features_in_the_model_that_it_was_made_for(name: str, run: bool) -> None:
    store, read, what = STORES[name]
    model = Extractor(store, read)
    if run:
        with torch.no_grad():  # tensors with a history are not copied out of every container
            model(IMAGE)
    before = contents(model)
    with pytest.raises(
        UntraceableModel, match=f"write to attributes of its own.*{what} the original.*the hook is given"
    ):
        widthwise.trace(model, IMAGE)
    assert contents(model) == before


class Child(nn.Module):
    """Reads what its parent has put down, through a reference that copies do not follow."""

    def __init__(self, parent: nn.Module) -> None:
        super().__init__()
        self.parent, self.conv = weakref.ref(parent), nn.Conv2d(8, 4, 1)

    def forward(self) -> Any:
        return self.conv(self.parent().context)


class Parent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.child = nn.Conv2d(3, 8, 1), Child(self)

    def forward(self, x: Tensor) -> Any:
        self.context = self.stem(x).relu()
        return self.child()


@pytest.mark.parametrize("run", [False, True])
def test_a_child_that_refers_to_the_parent_that_it_was_made_for(run: bool) -> None:
    model = Parent()
    if run:
        model(IMAGE)
    context = getattr(model, "context", None)
    with pytest.raises(UntraceableModel, match="goes on using context of the original" if run else "'context'"):
        widthwise.trace(model, IMAGE)
    assert getattr(model, "context", None) is context


def test_only_training_writes_to_the_original() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1))
    model.register_forward_hook(lambda m, _, out: setattr(model, "last", out) if m.training else None)
    with pytest.raises(UntraceableModel, match="writes to last of the original"):
        widthwise.trace(model, IMAGE)
    assert "last" not in vars(model)


class Shares(dict):  # type: ignore[type-arg]
    """One for all copies, on purpose."""

    def __deepcopy__(self, memo: object) -> "Shares":
        return self


class Stores(nn.Module):
    """Keeps features in itself and in what all copies share; writes a log."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)
        self.feats, self.shared, self.logger = dict[str, Tensor](), Shares(), logging.getLogger("never used elsewhere")
        self.stem.register_forward_hook(self.store)

    def store(self, _: nn.Module, __: Any, out: Tensor) -> None:
        self.feats["stem"] = self.shared["stem"] = out
        self.logger.debug("stored")

    def forward(self, x: Tensor) -> Tensor:
        self.stem(x)
        y: Tensor = self.head(self.feats["stem"].relu() + self.shared["stem"])
        return y


def test_what_is_copied_along_or_shared_on_purpose_may_be_written_to() -> None:
    model = Stores()
    seen: list[torch.Size] = []
    model.head.register_forward_hook(lambda _, __, out: seen.append(out.shape))
    graph = widthwise.trace(model, IMAGE)
    assert [g.name for g in graph.prunable] == ["stem"]
    assert model.feats == {}
    assert seen
    small = widthwise.materialize(model, graph, graph.subnet(widths={"stem": 3}))
    assert small(IMAGE).shape == (1, 4, 8, 8)
