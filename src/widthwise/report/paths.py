"""Many module paths in few words."""

import re
from collections import defaultdict
from collections.abc import Iterable

__all__ = ["gather", "in_words", "skeleton"]

_NUMBER = re.compile(r"(\d+)")


def skeleton(name: str) -> str:
    """A path with ``*`` for every number but those in the last part's name: ``"layer1.0.conv2"`` is ``"layer*.*.conv2"``.

    The last part tells the layers of a block apart (``conv1`` and ``conv2``), unless it is nothing but a number.
    """
    head, dot, last = name.rpartition(".")
    return _NUMBER.sub("*", head) + dot + ("*" if last.isdigit() else last)


def gather(names: Iterable[str]) -> list[tuple[str, int]]:
    """(pattern, how many paths it stands for), in the order in which they first appear.

    A pattern has a ``*`` where its paths have different numbers, and is one that ``trace(..., pin=[...])`` understands.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(names):
        alike[skeleton(name)].append(name)
    return [(_pattern(found), len(found)) for found in alike.values()]


def _pattern(names: list[str]) -> str:
    """The common parts of paths of one skeleton, and ``*`` where they differ."""
    columns = zip(*(_NUMBER.split(name) for name in names), strict=True)
    return "".join(column[0] if len(set(column)) == 1 else "*" for column in columns)


def in_words(names: Iterable[str], limit: int | None = None) -> str:
    """Paths as a list of patterns, each with how many it stands for; the first few, and how many more."""
    patterns = gather(names)
    shown = patterns[:limit]
    rest = sum(count for _, count in patterns[len(shown) :])
    words = [pattern + f" ({count})" * (count > 1) for pattern, count in shown]
    return ", ".join(words) + f" and {rest} more" * bool(rest)
