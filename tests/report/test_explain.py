"""The facts about a traced model against networks that are built, counted and compared; and how they are drawn."""

import io
import json
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tests.oracle import call, unfused
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import widthwise
from widthwise import ChannelGraph, CostModel, build_model, trace
from widthwise.report import Explanation, explain, graph_tables
from widthwise.report.paths import gather, in_words, skeleton
from widthwise.tracing.follow.reasons import NORMALISED

IMAGE = torch.randn(1, 3, 16, 16)


class Block(nn.Module):
    """Layer norm over the channels of a residual stream; what is inside may be pruned, the stream may not."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(self.norm(x)).relu())


class Tokens(nn.Module):
    """A stem, blocks, and two heads, one of them with a width as a constant in its forward."""

    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 4, stride=4)
        self.blocks = nn.Sequential(*(Block(12) for _ in range(depth)))
        self.table = nn.Parameter(torch.randn(16, 1))
        self.free, self.read = nn.Linear(12, 8), nn.Linear(8, 5)
        self.fixed, self.head = nn.Linear(12, 4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x).flatten(2).transpose(1, 2) + self.table).mean(1)
        return self.read(self.free(x)) + self.head(self.fixed(x).reshape(-1, 4))


def explained(graph: ChannelGraph) -> Explanation:
    return explain(graph, CostModel(graph))


def counted(graph: ChannelGraph, widths: dict[str, int], inputs: Tensor) -> tuple[int, int]:
    """Multiply-adds and parameters of a network that is built, run and counted by PyTorch."""
    small = widthwise.materialize(graph.model.eval(), graph, graph.subnet(widths=widths))
    with torch.no_grad(), unfused(), FlopCounterMode(display=False) as counter:
        call(small, inputs)
    return counter.get_total_flops() // 2, sum(p.numel() for p in small.parameters())


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "residual": (lambda: build_model("digits_net"), torch.randn(1, 1, 8, 8)),
    "depthwise": (lambda: build_model("mobilenet_v1"), torch.randn(1, 3, 64, 64)),
    "layer norm": (Tokens, IMAGE),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_totals_and_savings_are_those_of_networks_that_were_built(name: str) -> None:
    build, inputs = NETWORKS[name]
    graph = trace(build(), inputs)
    facts = explained(graph)
    full = counted(graph, {}, inputs)
    assert (facts.macs, facts.params) == full
    assert facts.channels == graph.num_channels
    assert (facts.smallest.macs, facts.smallest.params) == counted(graph, {g.name: 1 for g in graph.prunable}, inputs)
    assert [g.name for g in facts.prunable] == [g.name for g in graph.prunable]
    for group in facts.prunable:
        macs, params = counted(graph, {group.name: 1}, inputs)
        assert (group.saves.macs, group.saves.params) == (full[0] - macs, full[1] - params), group.name


@pytest.mark.parametrize("name", ["residual", "depthwise"])
def test_what_hangs_on_pinned_groups_is_what_they_would_save(name: str) -> None:
    build, inputs = NETWORKS[name]
    free, held = explained(trace(build(), inputs)), explained(trace(build(), inputs, pin=["*"]))
    assert held.macs_share == held.params_share == 0
    assert (held.smallest.macs, held.smallest.params) == (held.macs, held.params)
    asked = next(reason for reason in held.pinned if reason.what == "was asked to stay whole (*)")
    found = {group.name: group.would_save for group in asked.groups}
    for group in free.prunable:
        assert found[group.name] == group.saves, group.name


def test_several_pinned_groups_save_together_what_they_share_only_once() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 7, 3), nn.Conv2d(7, 2, 3))
    facts = explained(trace(model, IMAGE, pin=["*"]))
    (asked,) = facts.pinned
    assert [group.width for group in asked.groups if group.made_by] == [5, 7, 2]
    assert asked.would_save.params == facts.params - 3 * (9 + 1)
    assert asked.would_save.macs == facts.macs - 9 * (14**2 + 12**2 + 10**2)
    assert sum(group.would_save.params for group in asked.groups) > facts.params


def test_shares_count_whole_layers_and_whole_tensors() -> None:
    facts = explained(trace(Tokens(depth=1), IMAGE))
    assert [group.name for group in facts.prunable] == ["blocks.0.up", "free"]
    block, free, read, fixed, head = 16 * 12 * 36, 12 * 8, 8 * 5, 12 * 4, 4 * 5
    assert facts.macs == 16 * 12 * 48 + 2 * block + free + read + fixed + head
    assert facts.macs_share == (2 * block + free + read) / facts.macs
    assert facts.params_share == ((12 * 36 + 36) + 36 * 12 + (12 * 8 + 8) + 8 * 5) / facts.params
    assert [layer.groups for layer in facts.layers if layer.module == "blocks.0.down"] == [("blocks.0.up",)]
    assert [layer.groups for layer in facts.layers if layer.module == "stem"] == [()]


class Branches(nn.Module):
    """Norms of two classes over the channels of one layer each."""

    def __init__(self) -> None:
        super().__init__()
        norms = [nn.LayerNorm(6), nn.LayerNorm(7), nn.RMSNorm(8)]
        self.made = nn.ModuleList(nn.Linear(3, n.normalized_shape[0]) for n in norms)
        self.norms = nn.ModuleList(norms)
        self.read = nn.ModuleList(nn.Linear(n.normalized_shape[0], 2) for n in norms)

    def forward(self, x: Tensor) -> list[Tensor]:
        parts = zip(self.made, self.norms, self.read, strict=True)
        return [read(norm(made(x.mean((2, 3))))) for made, norm, read in parts]


def test_groups_pinned_alike_are_told_of_together() -> None:
    graph = trace(Branches(), IMAGE)
    facts = explained(graph)
    (layer_norm,) = [reason for reason in facts.pinned if reason.module_class == "LayerNorm"]
    assert (layer_norm.what, layer_norm.operation) == (NORMALISED.what, "aten::native_layer_norm")
    assert (layer_norm.remedy, layer_norm.channels) == (NORMALISED.remedy, 6 + 7)
    assert [(group.name, group.module) for group in layer_norm.groups] == [("made.0", "norms.0"), ("made.1", "norms.1")]
    assert [reason.module_class for reason in facts.pinned].count("RMSNorm") == 1
    stakes = [
        max(reason.would_save.macs / facts.macs, reason.would_save.params / facts.params) for reason in facts.pinned
    ]
    assert stakes == sorted(stakes, reverse=True)
    names = [group.name for reason in facts.pinned for group in reason.groups]
    assert sorted(names) == sorted(group.name for group in graph.pinned)


class Broken(nn.Module):
    """Views with the widths as constants."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(8, 9), nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x.mean((2, 3))).reshape(-1, 8))
        return self.c(x.reshape(-1, 9))


def test_messages_that_differ_in_their_details_are_one_reason() -> None:
    graph = trace(Broken(), IMAGE)
    assert len({str(group.reason) for group in graph.pinned if group.name in "ab"}) == 2
    (broken,) = [reason for reason in explained(graph).pinned if "breaks" in reason.what]
    assert broken.what.startswith("breaks the forward when pruned (RuntimeError: shape '[-1, 8]' is invalid")
    assert broken.what.endswith("and others like it")
    assert [(group.name, group.what) for group in broken.groups] == [
        (group.name, group.reason.what) for group in graph.pinned if group.reason and group.name in "ab"
    ]


def test_a_model_of_which_nothing_can_be_pruned() -> None:
    facts = explained(trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softmax(1)), IMAGE))
    assert (facts.prunable, facts.macs_share, facts.params_share) == ((), 0, 0)
    assert facts.smallest.macs == facts.macs > 0
    assert "Nothing can be pruned" in drawn(facts, 80)


def test_a_model_without_arithmetic() -> None:
    facts = explained(trace(nn.BatchNorm2d(3), IMAGE))
    assert (facts.macs, facts.macs_share) == (0, 0)
    assert drawn(facts, 80)


class Heads(nn.Module):
    """Whole heads can go, and their number is an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 3
        self.split, self.join = nn.Linear(3, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.split(x.mean((2, 3))).view(-1, self.heads, 4).softmax(-1)
        return self.join(heads.flatten(1))


KEYS = {
    "": "format macs params channels macs_share params_share smallest prunable pinned layers followers notes",
    "smallest": "macs params",
    "prunable": "name width made_by read_by proved saves",
    "pinned": "what operation module_class remedy channels groups would_save",
    "pinned groups": "name width made_by read_by what module would_save",
    "layers": "module macs groups",
    "followers": "module attribute index value",
}
"""What programs may rely on; a change of these needs another ``FORMAT``."""


def test_the_json_form_is_plain_and_its_keys_are_known() -> None:
    facts = explained(trace(Heads(), IMAGE))
    data = facts.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["format"] == 1
    for name in ("", "smallest", "prunable", "pinned", "layers", "followers"):
        value, keys = data[name] if name else data, KEYS[name]
        for row in value if isinstance(value, list) else [value]:
            assert set(row) == set(keys.split()), name
    assert set(data["pinned"][0]["groups"][0]) == set(KEYS["pinned groups"].split())
    assert data["followers"] == [{"module": "", "attribute": "heads", "index": None, "value": 3}]
    assert "Attributes that follow the widths: heads = 3." in drawn(facts, 80, every=True)


def drawn(facts: Explanation, width: int, *, every: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    for part in graph_tables(facts, every=every):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def flat(text: str) -> str:
    """Without any white space: what was folded is in one piece again."""
    return "".join(text.split())


@pytest.fixture(scope="module")
def facts() -> Explanation:
    return explained(trace(Tokens(), IMAGE))


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("every", [False, True])
def test_nothing_is_cut_off(facts: Explanation, width: int, every: bool) -> None:
    text = drawn(facts, width, every=every)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for reason in facts.pinned:
        if every or any(group.made_by for group in reason.groups):
            assert flat(reason.what) in flat(text)
            assert flat(reason.remedy) in flat(text)
    for number in (facts.macs, facts.params, facts.smallest.macs, facts.smallest.params):
        assert f"{number:,}" in text


def test_a_remedy_is_printed_once_and_what_is_no_layer_is_counted(facts: Explanation) -> None:
    text = drawn(facts, 100)
    remedies = {reason.remedy for reason in facts.pinned if reason.remedy and any(g.made_by for g in reason.groups)}
    assert remedies
    assert all(flat(text).count(flat(remedy)) == 1 for remedy in remedies)
    assert "table[0]" not in text
    assert "more pinned group" in text
    assert "blocks.*.up (3) -> blocks.*.down (3)" in text
    whole = drawn(facts, 100, every=True)
    assert all(group.name in whole for reason in facts.pinned for group in reason.groups)
    assert all(group.name in whole for group in facts.prunable)
    assert "more pinned group" not in whole


def test_many_groups_are_counted_unless_all_are_asked_for() -> None:
    model = nn.Sequential(*(nn.Conv2d(3 if i == 0 else 2 + i, 3 + i, 1) for i in range(30)))
    facts = explained(trace(model, IMAGE))
    assert "9 more groups that save less" in drawn(facts, 80)
    shown = drawn(facts, 80, every=True)
    assert "more groups" not in shown
    assert shown.count(" -> ") == 1 + 29


def test_groups_at_the_callers_risk_are_marked() -> None:
    facts = explained(trace(Tokens(), IMAGE, unproved=["stem"]))
    assert [group.name for group in facts.prunable if not group.proved] == ["stem"]
    text = drawn(facts, 80)
    assert "not proved" in text
    assert "! stem" in text


NAMES = st.lists(st.from_regex(r"[ab]\d?(\.([cd]\d?|\d)){0,3}", fullmatch=True), max_size=12)


@given(NAMES)
def test_patterns_stand_for_every_path_once(names: list[str]) -> None:
    found = gather(names)
    assert sum(count for _, count in found) == len(set(names))
    for name in names:
        assert any(fnmatchcase(name, pattern) and skeleton(name) == skeleton(pattern) for pattern, _ in found)
    assert [pattern for pattern, count in found if count == 1 and pattern not in names] == []


def blocks(*sizes: int) -> Iterator[str]:
    yield from (f"layer{i}.{j}.conv1" for i, size in enumerate(sizes) for j in range(size))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], ""),
        (["conv1", "conv2"], "conv1, conv2"),
        (["features.0", "features.3"], "features.* (2)"),
        ([*blocks(2, 2, 2)], "layer*.*.conv1 (6)"),
        ([*blocks(2, 1)], "layer0.*.conv1 (2), layer1.0.conv1"),
        (["a.x", "b.x", "c.x", "d.0.x", "d.1.x"], "a.x, b.x, c.x and 2 more"),
        (["", "a"], ", a"),
    ],
)
def test_paths_in_words(names: list[str], words: str) -> None:
    assert in_words(names, 3) == words
