"""Many module paths in few words."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

__all__ = ["gather", "in_words", "skeleton"]

_INDEX = re.compile(r"(\d+(?=.*\.)|(?<=\.)\d+$|^\d+$)")
"""A number that counts: every one but those in the last part's name, which tell the layers of a block apart."""


def skeleton(name: str) -> str:
    """A path with ``*`` for every number that counts: ``"layer1.0.conv2"`` becomes ``"layer*.*.conv2"``."""
    return _INDEX.sub("*", name)


def gather(names: Iterable[str]) -> list[tuple[str, int]]:
    """(pattern, how many paths it stands for), in the order in which they first appear.

    Paths that differ in a single number become one, with ``*`` in its place, from the last number to the first. A
    pattern is one that ``trace(..., pin=[...])`` understands.
    """
    counts: Mapping[tuple[str, ...], int] = {tuple(_INDEX.split(name)): 1 for name in names}
    for place in reversed(range(1, max(map(len, counts), default=0), 2)):
        counts = _merged(counts, place)
    return [("".join(parts), count) for parts, count in counts.items()]


def _merged(counts: Mapping[tuple[str, ...], int], place: int) -> dict[tuple[str, ...], int]:
    """Those that differ in this place alone as one."""
    alike: dict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
    for parts in counts:
        alike[tuple("*" if i == place else part for i, part in enumerate(parts))].append(parts)
    return {
        pattern if len(found) > 1 else found[0]: sum(counts[parts] for parts in found)
        for pattern, found in alike.items()
    }


def in_words(names: Iterable[str], limit: int | None = None) -> str:
    """Paths as a list of patterns, each with how many it stands for; the first few, and how many more."""
    patterns = gather(names)
    shown = patterns[:limit]
    rest = sum(count for _, count in patterns[len(shown) :])
    words = [pattern + f" ({count})" * (count > 1) for pattern, count in shown]
    return ", ".join(words) + f" and {rest} more" * bool(rest)
