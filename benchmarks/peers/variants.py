"""What is compared: every tool, in the ways that its documentation offers. One visible table."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from benchmarks.peers.lines import count_lines
from widthwise.errors import ConfigError

__all__ = ["TOOLS", "VARIANTS", "Kind", "Tool", "Variant", "chosen"]

Kind = Literal["method", "baseline", "peer"]
"""Of a row: what we publish, what any search has to beat (in our code), or somebody else's."""

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Tool:
    """A package, and the files with the code that a user of it writes."""

    title: str
    """As the page calls it."""
    module: str
    """What to import to see whether it is there."""
    packages: tuple[str, ...]
    """Distributions whose versions are recorded."""
    environment: str
    """File in ``environments`` that installs it."""
    files: tuple[str, ...]
    """Files in this folder that hold its users' code."""


TOOLS: dict[str, Tool] = {
    "torch_pruning": Tool(
        "Torch-Pruning",
        "torch_pruning",
        ("torch-pruning",),
        "torch_pruning.txt",
        ("torch_pruning_peer.py", "bisection.py"),
    ),
    "fastnas": Tool(
        "ModelOpt FastNAS", "modelopt", ("nvidia-modelopt", "torchprofile"), "modelopt.txt", ("fastnas_peer.py",)
    ),
    "widthwise": Tool("Widthwise", "widthwise", ("widthwise",), "widthwise.txt", ("ours.py", "settings.py")),
    "none": Tool("full network", "widthwise", ("widthwise",), "widthwise.txt", ()),
}
"""By the name that ``--python NAME=PATH`` takes."""


@dataclass(frozen=True)
class Variant:
    """One way to use a tool."""

    tool: str
    title: str
    """Row of the page."""
    options: dict[str, str | int | bool] = field(default_factory=dict)
    """What the tool's file is told."""
    labels: tuple[str, ...] = ()
    """Labelled parts of the users' code that this way needs."""
    kind: Kind = "peer"
    """Means nothing for the full network, which is no row of its own."""

    @property
    def lines(self) -> int:
        """Lines of code that a user writes for it."""
        sources = [(_HERE / name).read_text(encoding="utf-8") for name in TOOLS[self.tool].files]
        return sum(count_lines(source, self.labels) for source in sources)


def _pruning(importance: str, scope: str, shortcuts: str = "ignored") -> Variant:
    names = {"l1": "L1", "group_norm": "group norm", "bn_scale": "BN scale", "taylor": "Taylor"}
    said = {"ignored": "", "convolved": ", shortcuts as convolutions", "padded": ", shortcuts not cared for"}
    options: dict[str, str | int | bool] = {"importance": importance, "scope": scope, "shortcuts": shortcuts}
    title = f"Torch-Pruning {names[importance]}, {scope}{said[shortcuts]}"
    return Variant("torch_pruning", title, options, (importance, shortcuts))


def _ours(kind: Kind, titles: dict[str, str]) -> dict[str, Variant]:
    return {
        f"widthwise/{name}": Variant("widthwise", title, {"method": name}, (name, kind), kind)
        for name, title in titles.items()
    }


METHOD_TITLES = {
    "fnnp": "Widthwise FNNP",
    "stagewise": "Widthwise stage-wise",
    "joint": "Widthwise joint",
    "exploration": "Widthwise exploration",
}

BASELINE_TITLES = {
    "uniform": "uniform width, from scratch",
    "l1": "uniform width, L1",
    "shared": "streams nearly whole, L1",
    "balanced": "balanced widths, sensitivity",
    "geometric_median": "uniform width, geometric median",
    "bn_scale": "uniform width, BN scale",
    "random": "uniform width, random filters",
}


def _started(row: Variant) -> Variant:
    """The same search, started at balanced widths too, as is its default."""
    return replace(row, title=f"{row.title}, balanced start", options={**row.options, "balanced": True})


OURS = {**_ours("method", METHOD_TITLES), **_ours("baseline", BASELINE_TITLES)}
OURS["widthwise/fnnp/balanced"] = _started(OURS["widthwise/fnnp"])


def _reconstructed(row: Variant) -> Variant:
    """The same, with weights that are fitted to the full network's outputs before they are fine-tuned."""
    options, labels = {**row.options, "reconstruct": True}, (*row.labels, "reconstructed")
    return replace(row, title=f"{row.title}, reconstructed", options=options, labels=labels)


VARIANTS: dict[str, Variant] = {
    "full": Variant("none", "full network"),
    **OURS,
    **{
        f"{name}/reconstructed": _reconstructed(OURS[name])
        for name in (
            *("widthwise/fnnp", "widthwise/fnnp/balanced", "widthwise/exploration"),
            *("widthwise/l1", "widthwise/shared", "widthwise/balanced"),
        )
    },
    **{
        f"torch_pruning/{importance}/{scope}": _pruning(importance, scope)
        for importance in ("l1", "group_norm", "bn_scale", "taylor")
        for scope in ("local", "global")
    },
    **{
        f"torch_pruning/{importance}/{scope}/convolved": _pruning(importance, scope, "convolved")
        for importance, scope in (
            *(("l1", "local"), ("l1", "global"), ("l1", "isomorphic")),
            *(("taylor", "global"), ("taylor", "isomorphic")),
        )
    },
    "torch_pruning/l1/local/padded": _pruning("l1", "local", "padded"),
    "fastnas/32": Variant("fastnas", "FastNAS, divisor 32 (default)", {"divisor": 32}),
    **{
        f"fastnas/{divisor}": Variant("fastnas", f"FastNAS, divisor {divisor}", {"divisor": divisor})
        for divisor in (16, 8, 4)
    },
}
"""By the name that ``--only`` takes."""


def chosen(patterns: Sequence[str]) -> dict[str, Variant]:
    """The variants whose names match one of the patterns (with wildcards).

    Raises:
        ConfigError: a pattern matches none.
    """
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in VARIANTS):
            raise ConfigError(
                f"--only takes names of what is compared, with wildcards, but got {pattern!r}; there are "
                f"{', '.join(VARIANTS)}."
            )
    return {name: variant for name, variant in VARIANTS.items() if any(fnmatch(name, p) for p in patterns)}
