"""What docs/predictions.md says, as far as a program can check it, against what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.peers.rows import Found, Summary
from benchmarks.report import Check

__all__ = ["checks_of"]


def checks_of(found: Found, full_macs: int | None) -> list[Check]:
    """The checks that have their rows, budget by budget.

    Args:
        found: by budget, the most accurate first.
        full_macs: multiply-adds of the full network, if known.
    """
    checks = []
    for budget, of in found.items():
        by_name = {summary.name: summary for summary in of}
        predictions = [*_ahead(of), *_among_peers(by_name), *_fastnas(by_name, full_macs)]
        predictions += [*_times(by_name), *_reconstruction(by_name)]
        for check in predictions:
            checks.append(Check(f"{check.prediction} ({budget:.0%})", check.measured, check.held))
    return checks


def _ahead(of: Sequence[Summary]) -> list[Check]:
    """The goal: our best method is more accurate than every peer by more than both spreads, in less time than each.

    No check without two seeds of each: one seed has no spread, and a peer without one cannot be left out.
    """
    ours, peers = ([s for s in of if s.kind == kind] for kind in ("method", "peer"))
    if not ours or not peers:
        return []
    best = max(ours, key=lambda s: s.score)
    leads = [lead for lead in (_lead(best, peer) for peer in peers) if lead is not None]
    if len(leads) < len(peers):
        return []
    nearest = min(leads, key=lambda lead: lead.gap - lead.spread)
    caught = [lead.peer for lead in leads if lead.gap <= lead.spread]
    said = f"{best.name} {nearest.gap:+.2f} points beside {nearest.peer}, the nearest; "
    said += f"the larger spread is {nearest.spread:.2f}" + (f"; not ahead of {', '.join(caught)}" if caught else "")
    goal = Check("goal: our best method is ahead of every peer by more than the spread", said, not caught)
    fastest = min(peers, key=lambda s: s.total_seconds)
    took = f"{best.name} {best.total_seconds:.0f} s, {fastest.name} {fastest.total_seconds:.0f} s"
    return [goal, Check("goal: in less total time than every peer", took, best.total_seconds < fastest.total_seconds)]


@dataclass(frozen=True)
class _Lead:
    """Of our best method over a peer."""

    peer: str
    gap: float
    """Points by which the mean is higher."""
    spread: float
    """The larger of the two standard deviations, in points."""


def _lead(mine: Summary, theirs: Summary) -> _Lead | None:
    """None where one of them has no spread."""
    spreads = [summary.spread(summary.metric) for summary in (mine, theirs)]
    known = [100 * spread for spread in spreads if spread is not None]
    return _Lead(theirs.name, 100 * (mine.score - theirs.score), max(known)) if len(known) == 2 else None


def _among_peers(by_name: Mapping[str, Summary]) -> list[Check]:
    checks = []
    local = [s for name, s in by_name.items() if name.startswith("Torch-Pruning") and name.endswith(", local")]
    if len(local) == 4:
        scores = [100 * summary.score for summary in local]
        text = "Torch-Pruning's four importances lie within a point of each other at uniform ratios"
        checks.append(Check(text, f"{max(scores) - min(scores):.2f} points", max(scores) - min(scores) <= 1))
    pruning = [s for name, s in by_name.items() if name.startswith("Torch-Pruning")]
    taylor = [s for s in pruning if "Taylor" in s.name]
    if taylor and len(pruning) > len(taylor):
        best = max(pruning, key=lambda s: s.score)
        checks.append(Check("its best variant is one with Taylor importance", best.name, best in taylor))
    ignored, padded = (by_name.get(f"Torch-Pruning L1, local{end}") for end in ("", ", shortcuts not cared for"))
    if ignored is not None and padded is not None:
        gap = 100 * (ignored.score - padded.score)
        text = "not caring for the zero-padded shortcuts costs Torch-Pruning more than a point, after fine-tuning too"
        checks.append(Check(text, f"{gap:.2f} points", gap > 1))
    return checks


def _fastnas(by_name: Mapping[str, Summary], full_macs: int | None) -> list[Check]:
    fast = [s for name, s in by_name.items() if name.startswith("FastNAS")]
    pruning = [s for name, s in by_name.items() if name.startswith("Torch-Pruning")]
    checks = []
    if "FastNAS, divisor 4" in by_name and full_macs is not None:
        finest = by_name["FastNAS, divisor 4"]
        used = (finest.mean("macs") or 0.0) / (finest.rows[0].budget * full_macs)
        checks.append(Check("FastNAS with divisor 4 uses 95 % of the budget or more", f"{used:.1%}", used >= 0.95))
    if fast and pruning:
        gap = 100 * (max(s.score for s in fast) - max(s.score for s in pruning))
        text = "FastNAS is more accurate than Torch-Pruning's best variant, by less than a point"
        checks.append(Check(text, f"{gap:+.2f} points", 0 < gap < 1))
    return checks


def _reconstruction(by_name: Mapping[str, Summary]) -> list[Check]:
    checks = []
    for name, fitted in by_name.items():
        plain = by_name.get(name.removesuffix(", reconstructed"))
        if plain is not None and plain is not fitted:
            gap = 100 * (fitted.score - plain.score)
            text = f"reconstruction helps {plain.name} after fine-tuning too"
            checks.append(Check(text, f"{gap:+.2f} points", gap > 0))
    return checks


def _times(by_name: Mapping[str, Summary]) -> list[Check]:
    checks = []
    for name, text, low, high in (
        ("Torch-Pruning L1, local", "Torch-Pruning prunes in less than a tenth of the time of its fine-tuning", 0, 0.1),
        ("FastNAS, divisor 4", "FastNAS with divisor 4 searches for longer than its network is fine-tuned", 1, 1e9),
        ("Widthwise FNNP", "FNNP searches for longer than its network is fine-tuned", 1, 1e9),
    ):
        if name in by_name:
            search, tuning = (by_name[name].mean(f"{part}_seconds") or 0.0 for part in ("search", "finetune"))
            share = search / max(tuning, 1e-9)
            checks.append(Check(text, f"{share:.2f} times", low < share < high))
    return checks
