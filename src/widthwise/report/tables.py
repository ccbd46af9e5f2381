"""What the terminal shows: a traced model, and a network before and after. Drawing only; the facts come ready."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from widthwise.methods import Figures
from widthwise.report.facts import Amount, Explanation, PinnedFor, PinnedGroup, PrunableGroup
from widthwise.report.paths import in_words, skeleton
from widthwise.report.words import counted

__all__ = ["comparison_table", "graph_tables"]

ROWS = 20
"""Prunable groups that are shown unless all are asked for; those that save most."""

PATHS = 3
"""Patterns of module paths that are shown in one place unless all are asked for."""


def graph_tables(facts: Explanation, *, every: bool = False) -> list[RenderableType]:
    """What can be pruned in a model, what cannot and why, for a terminal of any width.

    Args:
        facts: of :func:`widthwise.report.explain`.
        every: show every layer, and every group by itself, instead of telling of many alike in one line.
    """
    parts: list[RenderableType] = [_totals(facts)]
    if every:
        parts.append(_layers(facts))
    parts += _prunable(facts, every)
    if every and facts.followers:
        names = [_attribute(f.module, f.attribute, f.index) + f" = {f.value}" for f in facts.followers]
        parts.append(Text(f"Attributes that follow the widths: {', '.join(names)}.\n"))
    parts += _pinned(facts, every)
    parts += [Text(f"Note: {note}", style="yellow") for note in facts.notes]
    return parts


def _attribute(module: str, attribute: str, index: int | None) -> str:
    return f"{module}.{attribute}".removeprefix(".") + (f"[{index}]" if index is not None else "")


def _table(*columns: str, left: Sequence[str] = (), title: str | None = None, caption: str | None = None) -> Table:
    """A table in which nothing is cut off: numbers to the right, words (named in ``left``) folded."""
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left")
    for column in columns:
        words = column in left
        table.add_column(column, justify="left" if words else "right", overflow="fold", no_wrap=not words)
    return table


def _percent(part: float) -> str:
    """A share of one in at most five characters, which never turns something into nothing."""
    return "0%" if part == 0 else "<0.1%" if part < 0.0005 else f"{part:.1%}"


def _shares(facts: Explanation, amount: Amount) -> tuple[str, str]:
    return _percent(amount.macs / max(1, facts.macs)), _percent(amount.params / max(1, facts.params))


def _totals(facts: Explanation) -> Table:
    least = _shares(facts, facts.smallest)
    table = _table("", "MACs", "parameters", left=("",))
    table.add_row("full model", f"{facts.macs:,}", f"{facts.params:,}")
    table.add_row("within prunable groups", _percent(facts.macs_share), _percent(facts.params_share))
    table.add_row("smallest within reach", f"{facts.smallest.macs:,}", f"{facts.smallest.params:,}")
    table.add_row("  of the full model", *least)
    return table


def _layers(facts: Explanation) -> Table:
    what = "layer, and the groups that make it cheaper"
    table = _table("MACs", "share", what, left=(what,), title="Layers")
    for layer in facts.layers:
        text = Text(f"{layer.module or '(root)'}: {', '.join(layer.groups) or 'none'}")
        table.add_row(f"{layer.macs:,}", _percent(layer.macs / max(1, facts.macs)), text)
    return table


def _prunable(facts: Explanation, every: bool) -> list[RenderableType]:
    if not facts.prunable:
        return [Text("Nothing can be pruned.\n")]
    proved = "each proved" if all(group.proved for group in facts.prunable) else "those with a ! not proved"
    what = "made by -> read by"
    table = _table(
        *("width", "MACs", "params", what),
        left=(what,),
        title=f"Prunable: {facts.channels:,} channels in {counted(len(facts.prunable), 'group')}, {proved}",
        caption="MACs, params: what goes when one such group is cut to a single channel.",
    )
    rows = [(group,) for group in facts.prunable] if every else _alike(facts.prunable)
    shown = rows if every else rows[:ROWS]
    for row in shown:
        table.add_row(f"{row[0].width:,}", *_shares(facts, row[0].saves), _channels(row, every))
    rest = len(facts.prunable) - sum(len(row) for row in shown)
    more = [Text(f"{counted(rest, 'more group')} that save less; --all shows them.")] if rest else []
    return [table, *more, Text()]


def _alike(groups: Iterable[PrunableGroup]) -> list[tuple[PrunableGroup, ...]]:
    """Groups that one row tells of (the same place in several blocks); those that save most first."""
    rows: dict[object, list[PrunableGroup]] = defaultdict(list)
    for group in groups:
        ends = (frozenset(map(skeleton, paths)) for paths in (group.made_by, group.read_by))
        rows[skeleton(group.name), group.width, group.saves, group.proved, *ends].append(group)
    ordered = sorted(rows.values(), key=lambda row: (-row[0].saves.macs, -row[0].saves.params))
    return [tuple(row) for row in ordered]


def _channels(row: Sequence[PrunableGroup], every: bool) -> Text:
    """The groups' names, what else makes their channels, and what reads them."""
    limit = None if every else PATHS
    names = {group.name for group in row}
    others = [path for group in row for path in group.made_by if path not in names and path != _maker(group)]
    readers = [path for group in row for path in group.read_by]
    text = "" if row[0].proved else "! "
    text += in_words((group.name for group in row), limit)
    text += f" with {in_words(others, limit)}" * bool(others)
    return Text(text + f" -> {in_words(readers, limit)}" * bool(readers))


def _maker(group: PrunableGroup) -> str:
    """The module after which a group is named."""
    return group.name.partition("#")[0]


def _pinned(facts: Explanation, every: bool) -> list[RenderableType]:
    groups = sum(len(reason.groups) for reason in facts.pinned)
    shown = [reason for reason in facts.pinned if every or not _minor(reason)]
    rest = groups - sum(len(reason.groups) for reason in shown)
    parts: list[RenderableType] = []
    if shown:
        head = Text(f"Pinned: {counted(groups, 'group')}", style="italic")
        parts.append(head.append("; shares are what would go with all but one channel of each.\n", style="not italic"))
    remedies: dict[str, int] = {}
    for number, reason in enumerate(shown, start=1):
        parts.append(_reason(facts, reason, number, remedies.setdefault(reason.remedy, number), every))
    if rest:
        more = f"{counted(rest, 'more pinned group')} that no layer makes (inputs, position tables, masks)"
        parts.append(Text(f"{more} or of one channel; --all shows them.\n"))
    return parts


def _minor(reason: PinnedFor) -> bool:
    """Whether nothing could be gained, or no layer makes these channels: then there is nothing to prune."""
    gain = reason.would_save
    return not (gain.macs or gain.params) or not any(group.made_by for group in reason.groups)


def _reason(facts: Explanation, reason: PinnedFor, number: int, first: int, every: bool) -> Table:
    """What is pinned, how much that is, why, and what one could do; the latter in full where it is ``first`` said."""
    count = len(reason.groups)
    channels = counted(reason.channels, "channel") + f" in {count} groups" * (count > 1)
    lines = [
        f"{channels} with {_in_words(facts, reason.would_save)}.",
        f"{'Each' if count > 1 else 'It'} {reason.what}{_place(reason)}.",
    ]
    if reason.remedy:
        lines.append(f"What to do: {f'as for {first}.' if first < number else reason.remedy}")
    if every and count > 1:
        lines += [f"- {group.name}: {_one(facts, reason, group)}" for group in reason.groups]
    text = Text(in_words((group.name for group in reason.groups), PATHS), style="bold")
    text.append("".join(f"\n{line}" for line in lines) + "\n", style="not bold")
    block = Table.grid(padding=(0, 1))
    block.add_column(justify="right", width=3)
    block.add_column(overflow="fold")
    block.add_row(f"{number}.", text)
    return block


def _in_words(facts: Explanation, amount: Amount) -> str:
    macs, params = _shares(facts, amount)
    return f"{macs} of the MACs and {params} of the parameters"


def _place(reason: PinnedFor) -> str:
    """The operation, and the modules in which it runs; a module with a rule of its own is its own operation."""
    if not reason.operation:
        return ""
    paths = in_words((group.module or "(root)" for group in reason.groups), PATHS)
    operation = f"{reason.operation} in " if reason.operation != reason.module_class else ""
    return f": {operation}{reason.module_class} {paths}"


def _one(facts: Explanation, reason: PinnedFor, group: PinnedGroup) -> str:
    """What one group of many has to itself."""
    text = f"{counted(group.width, 'channel')} with {_in_words(facts, group.would_save)}"
    text += f"; in {group.module or '(root)'}" * bool(reason.operation)
    return text + (f"; {group.what}" if group.what != reason.what else "")


def comparison_table(metrics: Mapping[str, Figures]) -> Table:
    """MACs, parameters, accuracy and latency of the full network and the small one."""
    before, after = metrics["before"], metrics["after"]
    table = Table(title="Before and after")
    for column in ("", "before", "after", "change"):
        table.add_column(column, justify="right" if column else "left")
    for name, a, b in (("MACs", before.macs, after.macs), ("parameters", before.params, after.params)):
        table.add_row(name, f"{a:,}", f"{b:,}", f"{b / a:.1%} of it")
    accuracies = (
        ("validation accuracy", before.val_accuracy, after.val_accuracy),
        ("test accuracy", before.test_accuracy, after.test_accuracy),
    )
    for name, x, y in accuracies:
        if x is not None and y is not None:
            table.add_row(name, f"{x:.2%}", f"{y:.2%}", f"{100 * (y - x):+.2f} points")
    for batch in sorted(before.latency_ms.keys() & after.latency_ms.keys()):
        time, small = before.latency_ms[batch], after.latency_ms[batch]
        table.add_row(
            f"latency, batch {batch}", f"{time:.2f} ms", f"{small:.2f} ms", f"{time / small:.2f} times as fast"
        )
    return table
