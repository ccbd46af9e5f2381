"""``docs/coverage.md`` from the records: a pure function, so that it can be drawn again without measuring."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.coverage.method import METHOD
from benchmarks.coverage.summary import (
    INFINITE,
    MEMORY,
    PEERS,
    Goal,
    Record,
    Row,
    ended,
    fewer,
    goals_of,
    memory_ratio,
    proof,
    rows_of,
)
from benchmarks.report import page
from widthwise.experiments import Table

__all__ = ["coverage_page"]

_UNTRIED: Record = {"outcome": "missing"}

_KINDS = {
    "classification": "torchvision: classification",
    "segmentation": "torchvision: segmentation",
    "detection": "torchvision: detection",
    "video": "torchvision: video",
    "timm": "timm: the smallest network of each module",
}


def coverage_page(
    records: Sequence[Record], environment: Mapping[str, Any], command: str, raw: str, remark: str = ""
) -> str:
    """The whole page as Markdown.

    Args:
        records: one per network and tool, as measured (``outcome`` "missing" where it was not).
        environment: from ``widthwise.runs.describe_environment``, of the machine that measured.
        command: that measures everything again.
        raw: path of the raw results, from the page's folder.
        remark: on how this run was made.
    """
    rows = rows_of(records)
    goals = goals_of(rows)
    tables = [_goals(goals, rows, remark), _worked(rows), _misses(goals)]
    for kind, title in _KINDS.items():
        part = [row for row in rows if row.kind == kind]
        if part:
            tables.append(_networks(title, part))
    tables += [_failures(rows), _pinned(rows)]
    shown = [table for table in tables if table.rows]
    text = page("What can be pruned, beside the peers", command, _facts(environment, records), shown)
    return f"{text}\n{METHOD}\nRaw results: [{raw.rpartition('/')[2]}]({raw}).\n"


def _facts(environment: Mapping[str, Any], records: Sequence[Record]) -> dict[str, Any]:
    """The environment with the versions that were measured and the threads of the processes."""
    packages: dict[str, set[str]] = {}
    for record in records:
        for name, version in record.get("versions", {}).items():
            packages.setdefault(name, set()).add(version)
    packages.pop("code", None)
    measured = {name: " and ".join(sorted(versions)) for name, versions in packages.items()}
    threads = sorted({record["limits"]["threads"] for record in records if "limits" in record})
    return {
        **environment,
        "packages": {**environment["packages"], **measured},
        "torch_threads": ", ".join(map(str, threads)) + " per process",
    }


def _goals(goals: Sequence[Goal], rows: Sequence[Row], remark: str) -> Table:
    cells = tuple((g.text, g.found, "yes" if g.held else "**no**") for g in goals)
    return Table(
        "Goals", ("goal", "reached by", "held"), cells, " ".join([_limits(rows), *_beside(rows), remark]).strip()
    )


def _limits(rows: Sequence[Row]) -> str:
    limits = {tuple(r["limits"].values()) for row in rows for r in row.records.values() if "limits" in r}
    memory, minutes = max((m for m, _, _ in limits), default=0), max((t for _, t, _ in limits), default=0)
    return (
        f"{len(rows)} networks, each with each tool in a process of its own, killed beyond {memory:g} GiB of "
        f"resident memory or {minutes:g} minutes."
    )


def _beside(rows: Sequence[Row]) -> list[str]:
    """What the goals leave open, in the same run."""
    compared = [row for row in rows if any(peer in row.records for peer in PEERS)]
    claimed = sum(not fewer(row, claimed=True) for row in compared)
    traced = [row.ours for row in rows if "trace_s" in row.ours]
    strict = sum(memory_ratio(ours, beside_model=False) < MEMORY for ours in traced)
    return [
        f"Counting also what a peer claims on networks that it then breaks, we find as many channels on {claimed} "
        f"of {len(compared)}.",
        f"Memory is compared with model and activations of one pass; with the activations alone, {strict} of "
        f"{len(traced)} traces stay below {MEMORY} passes.",
    ]


def _worked(rows: Sequence[Row]) -> Table:
    cells = []
    for kind, title in _KINDS.items():
        part = [row for row in rows if row.kind == kind]
        if part:
            proved = sum(not proof(row.ours) for row in part)
            cells.append((title, str(len(part)), str(proved), *(_worked_by(peer, part) for peer in PEERS)))
    columns = ("networks", "all", "Widthwise proved", *(f"{name} runs" for name in PEERS.values()))
    note = "For the peers: the pruned network runs. Whether it computes what it should, they do not say."
    return Table("Networks that work", columns, tuple(cells), note)


def _worked_by(peer: str, rows: Sequence[Row]) -> str:
    tried = [row.records[peer] for row in rows if peer in row.records]
    return str(sum(bool(record.get("works")) for record in tried)) if tried else "-"


def _misses(goals: Sequence[Goal]) -> Table:
    cells = tuple((miss.network, goal.text, _plain(miss.why)) for goal in goals for miss in goal.misses)
    return Table("Every miss", ("network", "goal", "why"), cells)


def _networks(title: str, rows: Sequence[Row]) -> Table:
    peers = [peer for peer in PEERS if any(peer in row.records for row in rows)]
    columns = (
        *("network", "groups", "channels", *(PEERS[peer] for peer in peers), "MACs in reach", "params in reach"),
        *("least MACs", "error", "trace", "passes", "memory"),
    )
    note = "For the peers: channels and seconds to prune or convert." if peers else ""
    return Table(title, columns, tuple(_network(row, peers) for row in rows), note)


def _network(row: Row, peers: Sequence[str]) -> tuple[str, ...]:
    ours = row.ours
    theirs = [_peer_cell(row.records.get(peer)) for peer in peers]
    extent = [_share(ours, key) for key in ("macs_share", "params_share", "least_share")]
    return (
        row.label,
        str(ours.get("groups", "-")),
        f"{ours['channels']:,}" if "channels" in ours else f"**{ours['outcome']}**",
        *theirs,
        *extent,
        _error(ours),
        f"{ours['trace_s']:.1f} s" if "trace_s" in ours else "-",
        f"{ours['trace_passes']:.0f}" if "trace_passes" in ours else "-",
        f"{memory_ratio(ours):.1f}" if "trace_bytes" in ours else "-",
    )


def _peer_cell(record: Record | None) -> str:
    if record is None or record["outcome"] == "missing":
        return "-"
    if record.get("works"):
        return f"{record['channels']:,} ({record['seconds']:.1f} s)"
    return "killed" if record["outcome"] == "killed" else "fails"


def _share(ours: Record, key: str) -> str:
    if key not in ours:
        return "-"
    percent = 100 * ours[key]
    return f"{percent:.0f}%" if percent >= 10 else f"{percent:.2g}%"


def _error(ours: Record) -> str:
    if "error" not in ours:
        return "-"
    if ours["error"] >= INFINITE:
        return "**infinite**"
    return f"**{ours['error']:.0e}**" if proof(ours) else f"{ours['error']:.0e}"


def _failures(rows: Sequence[Row]) -> Table:
    cells = [
        (row.name, name, _plain(ended(row.records[peer])))
        for row in rows
        for peer, name in PEERS.items()
        if not row.records.get(peer, _UNTRIED).get("works") and row.records.get(peer, _UNTRIED)["outcome"] != "missing"
    ]
    note = "Neither peer is patched for any model; a killed process went beyond the limits above."
    return Table("Where a peer fails", ("network", "peer", "how"), tuple(cells), note)


def _pinned(rows: Sequence[Row]) -> Table:
    totals: Counter[str] = Counter()
    networks: Counter[str] = Counter()
    for row in rows:
        for channels, reason in row.ours.get("reasons", ()):
            totals[reason] += channels
            networks[reason] += 1
    cells = tuple((_plain(r), str(networks[r]), f"{totals[r]:,}") for r, _ in networks.most_common(40))
    note = "The reasons that pin most in each network, without their place; `widthwise trace` names it."
    return Table("Why channels are pinned", ("reason", "networks", "channels"), cells, note)


def _plain(text: str) -> str:
    """Text of others that cannot become markup, and not longer than a line or two."""
    short = text if len(text) <= 200 else text[:200] + " ..."
    return short.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_").replace("\n", " ")
