"""What the records mean: which networks are proved, and which goals are met. Arithmetic on plain data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "INFINITE",
    "MEMORY",
    "PEERS",
    "Goal",
    "Miss",
    "Record",
    "Row",
    "ended",
    "fewer",
    "goals_of",
    "memory_ratio",
    "proof",
    "rows_of",
]

ERROR = 1e-4
"""Largest relative difference of a proved network."""

EFFECT = 1e-6
"""Smallest change that a sub-network must make for the comparison to say something."""

PASSES = 50
"""Forward passes that a trace may take."""

MEMORY = 3
"""Times the memory of one forward pass that a trace may take."""

INFINITE = 1e9
"""An error that stands for infinity, as :mod:`benchmarks.coverage.compare` writes it."""

SHARE = 0.95
"""Share of the networks that suffices, where not all are asked for."""

PEERS = {"torch_pruning": "Torch-Pruning", "fastnas": "FastNAS"}

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One network with the records of all tools."""

    name: str
    kind: str
    module: str
    records: Mapping[str, Record] = field(default_factory=dict)

    @property
    def ours(self) -> Record:
        """Our record; one that says so where there is none."""
        return self.records.get("widthwise", {"outcome": "missing", "why": "not measured"})

    @property
    def label(self) -> str:
        """The model without its library, after the timm module where it differs."""
        model = self.name.partition("/")[2]
        return f"{self.module}: {model}" if self.module and self.module != model else model


@dataclass(frozen=True)
class Miss:
    """A network that misses a goal."""

    network: str
    why: str


@dataclass(frozen=True)
class Goal:
    """One goal and what came of it."""

    text: str
    found: str
    held: bool
    misses: tuple[Miss, ...]


def rows_of(records: Sequence[Record]) -> list[Row]:
    """One row per network, in the order in which they first appear."""
    rows: dict[str, dict[str, Record]] = {}
    for record in records:
        rows.setdefault(record["name"], {})[record["tool"]] = record
    firsts = {name: next(iter(tools.values())) for name, tools in rows.items()}
    return [Row(name, firsts[name]["kind"], firsts[name]["module"], tools) for name, tools in rows.items()]


def proof(ours: Record) -> str:
    """Why a network is not proved; empty if it is, or if it has no layer that could be pruned."""
    if "groups" in ours and not ours["groups"]:
        return _nothing(ours)
    if "error" not in ours:
        return ended(ours)
    if not ours["numbers"]:
        return "its outputs are NaN or all zero, so that nothing can be compared"
    if ours["effect"] < EFFECT:
        return "the removed channels do not change its outputs, so that nothing can be compared"
    if ours["error"] >= INFINITE:
        return "returns other shapes or infinities than the reference"
    if ours["error"] > ERROR:
        return f"differs from the reference by {ours['error']:.1e}"
    return ""


def _nothing(ours: Record) -> str:
    if not ours["layers"]:
        return ""
    reasons = "; ".join(f"{channels} {reason}" for channels, reason in ours["reasons"][:2])
    return f"nothing but pinned channels ({reasons})"


def ended(record: Record) -> str:
    """How a process ended that did not get to its results."""
    stage = f" at: {record['stage']}" if "stage" in record else ""
    return f"{record['outcome']}{stage}: {record.get('why', 'no reason')}"


def memory_ratio(ours: Record, *, beside_model: bool = True) -> float:
    """Growth during the trace by the memory of a forward pass: model and activations, or activations alone."""
    one = ours["forward_bytes"] + (ours["model_bytes"] if beside_model else 0)
    return float(ours["trace_bytes"] / max(1, one))


def peer_channels(row: Row, *, claimed: bool = False) -> dict[str, int]:
    """Channels by peer, of those whose pruned network runs; or as far as each got, if only claims are asked for."""
    found = {peer: row.records.get(peer, {}) for peer in PEERS}
    return {p: int(r["channels"]) for p, r in found.items() if "channels" in r and (claimed or r.get("works"))}


def goals_of(rows: Sequence[Row]) -> list[Goal]:
    """The goals that apply to these networks, with every miss."""
    classifiers = [row for row in rows if row.kind == "classification"]
    timm = [row for row in rows if row.kind == "timm"]
    others = [row for row in rows if row.kind not in ("classification", "timm")]
    traced = [row for row in rows if "trace_s" in row.ours]
    compared = [row for row in rows if "error" in row.ours]
    channels = f"prunable channels: at least as many as either peer, on {SHARE:.0%} of"
    within = f"proved within {ERROR:.0e}:"
    goals = [
        _goal(f"{within} every torchvision classifier", classifiers, lambda r: proof(r.ours), 1.0),
        _goal(f"{channels} the torchvision classifiers", classifiers, fewer, SHARE),
        _goal(f"{within} {SHARE:.0%} of the timm modules", timm, lambda r: proof(r.ours), SHARE),
        _goal(f"{channels} the timm modules (not asked for)", timm, fewer, SHARE),
        _goal(f"{within} segmentation, detection and video", others, lambda r: proof(r.ours), 1.0),
        _goal("multiply-adds and parameters equal an independent count", compared, _inexact, 1.0),
        _goal(f"a trace takes less time than {PASSES} forward passes", traced, _slow, 1.0),
        _goal(f"a trace takes less than {MEMORY} times the memory of a forward pass", traced, _large, 1.0),
    ]
    return [goal for goal in goals if goal is not None]


def _goal(text: str, rows: Sequence[Row], why: Callable[[Row], str], share: float) -> Goal | None:
    if not rows:
        return None
    misses = tuple(Miss(row.name, reason) for row in rows if (reason := why(row)))
    held = len(rows) - len(misses)
    return Goal(text, f"{held} of {len(rows)} ({held / len(rows):.1%})", held >= share * len(rows), misses)


def fewer(row: Row, *, claimed: bool = False) -> str:
    """Which peer finds more channels than we do; empty if none."""
    if "channels" not in row.ours:
        return "we find none: " + ended(row.ours)
    ours = int(row.ours["channels"])
    more = {peer: count for peer, count in peer_channels(row, claimed=claimed).items() if count > ours}
    return "; ".join(f"{PEERS[peer]} finds {count:,}, we find {ours:,}" for peer, count in more.items())


def _inexact(row: Row) -> str:
    ours = row.ours
    macs = max(ours["macs_exact"], ours["unfused_macs_exact"])
    if macs == ours["params_exact"] == ours["draws"]:
        return ""
    parts = f"parameters {ours['params_exact']}, multiply-adds {macs} of {ours['draws']} sub-networks exact"
    last, plain, unfused = ours["last_macs"]
    return parts + f" (the last one: {last:,}; counted {plain:,}, with attention written out {unfused:,})"


def _slow(row: Row) -> str:
    passes = row.ours["trace_passes"]
    if passes < PASSES:
        return ""
    return f"{passes:.0f} passes: {row.ours['trace_s']:.2f} s, one pass {1000 * row.ours['forward_s']:.1f} ms"


def _large(row: Row) -> str:
    ratio, ours = memory_ratio(row.ours), row.ours
    if ratio < MEMORY:
        return ""
    sizes = [f"{ours[key] / 2**20:.0f}" for key in ("trace_bytes", "model_bytes", "forward_bytes")]
    return f"{ratio:.1f} passes: {sizes[0]} MiB, model {sizes[1]} MiB, activations {sizes[2]} MiB"
