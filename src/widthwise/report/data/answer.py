"""What a report says first: which network, how much smaller, how accurate, how much faster, and why this one."""

from collections.abc import Iterator
from dataclasses import dataclass

from widthwise.methods import RunRecord
from widthwise.report.data.candidates import Candidate, Candidates
from widthwise.report.data.probabilities import Samples
from widthwise.report.data.stages import Division
from widthwise.report.data.summary import Summary
from widthwise.report.data.widths import Layers
from widthwise.report.words import amount, counted, ordinal, percent

__all__ = ["Answer", "answer_of"]

TOO_SLOW = 1.1
"""Times the latency that was asked for: timings of one machine differ by less."""

POOR_FIT = 0.15
"""Median relative error of predicted times, above which a reader is warned."""

TOO_COSTLY = 105
"""Percent of the budget: where draws at the end of an exploration cost more, it has not converged."""


_RULES = {
    "uniform": "every layer keeps the same share of its channels, as large as the budget allows",
    "shared": "channels stay the more, the more layers share them, as many as the budget allows",
    "balanced": "layers are as wide as the sensitivities of their channels ask for, for what these cost",
}
"""What each rule of a baseline does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The beginning of a report, in sentences."""

    found: str
    """What the network is; of an unfinished run, how far it came."""
    why: str
    """Why this one among all that were looked at."""
    warnings: tuple[str, ...]
    """What speaks against trusting the result."""
    notes: tuple[str, ...]
    """What one has to know to read the figures rightly."""


def answer_of(
    run: RunRecord,
    summary: Summary,
    layers: Layers | None,
    candidates: Candidates | None,
    division: Division | None,
    samples: Samples | None,
) -> Answer:
    """The answer of one run."""
    return Answer(
        found=_found(summary, layers) if summary.finished else _unfinished(run),
        why=" ".join(_why(run, summary.finished, candidates, division, samples)),
        warnings=tuple(_warnings(summary, samples)),
        notes=tuple(_notes(run, summary)),
    )


def _found(summary: Summary, layers: Layers | None) -> str:
    assert summary.macs is not None
    assert summary.params is not None
    macs, params = summary.macs, summary.params
    text = (
        f"The network that was found needs {amount(macs.after)} multiply-adds instead of {amount(macs.before)} "
        f"({_less(macs.dropped)}) and {amount(params.after)} parameters instead of {amount(params.before)} "
        f"({_less(params.dropped)})."
    )
    if layers is not None:
        kept, full = sum(row.after for row in layers.groups), sum(row.before for row in layers.groups)
        text += f" It keeps {kept:,} of {full:,} prunable channels."
    if summary.accuracy is not None:
        kind = "test" if summary.test else "validation"
        text += f" It is right on {summary.accuracy.after:.2f}% of the {kind} images, {_points(summary)}."
    if summary.latency:
        batch, time = max(summary.latency.items())
        images = "A single image" if batch == 1 else f"A batch of {batch} images"
        text += (
            f" {images} takes {time.after:.2f} ms instead of {time.before:.2f} ms ({time.speedup:.2f} times as fast)."
        )
    return text


def _less(dropped: float) -> str:
    return f"{percent(abs(dropped))} {'fewer' if dropped >= 0 else 'more'}"


def _points(summary: Summary) -> str:
    assert summary.accuracy is not None
    gain = summary.accuracy.gain
    if abs(gain) < 0.005:
        return f"as many as {summary.reference}"
    return f"{abs(gain):.2f} points {'more' if gain > 0 else 'less'} than {summary.reference}"


def _unfinished(run: RunRecord) -> str:
    phases = [f"\N{LEFT DOUBLE QUOTATION MARK}{name}\N{RIGHT DOUBLE QUOTATION MARK}" for name in run.seconds]
    return (
        "This run is not finished: it is under way or was cut. "
        + (f"It came to the phase {phases[-1]}. " if phases else "No phase has begun. ")
        + "What follows is what is there so far; the same command goes on with it."
    )


def _why(
    run: RunRecord,
    finished: bool,
    candidates: Candidates | None,
    division: Division | None,
    samples: Samples | None,
) -> Iterator[str]:
    if division is not None:
        yield from _of_stages(division)
    tried = sum(len(event["losses"]) for event in run.of("widths"))
    if tried and candidates is None:
        yield f"The search starts at the best of {tried:,} width strategies, judged by its own losses."
    if candidates is not None:
        yield from _of_candidates(candidates, finished, limited=run.config.get("budget") is not None)
    elif samples is not None:
        yield (
            f"{counted(samples.count, 'sampled sub-network')} in {counted(len(samples.steps), 'step')} moved a keep "
            "probability for every channel, under the budget."
        )
        if finished:
            yield "The network keeps the channels that ended likelier kept than not, fitted to the budget."
    elif finished and run.method == "Baseline":
        scratch = run.config["method"].get("scratch")
        how = "and is trained from fresh weights" if scratch else f"ranked by {run.config['method']['importance']}"
        yield f"Nothing was searched: {_RULES[run.config['method']['widths']]}, {how}."


def _of_candidates(candidates: Candidates, finished: bool, *, limited: bool) -> Iterator[str]:
    chosen, count = candidates.chosen, counted(len(candidates.items), candidates.noun)
    best = max(candidates.items, key=lambda c: (c.score, -c.index))
    if not finished or chosen is None:
        yield (
            f"{count} {'has' if len(candidates.items) == 1 else 'have'} been scored; the best so far is "
            f"{_named(candidates, best)}, with {_score(candidates, best)} ({candidates.score})."
        )
        return
    if candidates.noun == "round":
        yield (
            f"Of {count}, each with a sub-network of its own, {_named(candidates, chosen)} had the best "
            f"{candidates.score}: {_score(candidates, chosen)}. Its network was fine-tuned."
        )
        return
    within = " within the budget" if limited else ""
    yield f"{count}{within} were scored ({candidates.score})."
    if len(candidates.finalists) == 1:
        yield f"{_named(candidates, chosen).capitalize()} had the best score, {_score(candidates, chosen)}."
        return
    yield (
        f"The {len(candidates.finalists)} best were fine-tuned, and {_named(candidates, chosen)}, "
        f"{ordinal(chosen.finalist or 0)} by score with {_score(candidates, chosen)}, had the best validation accuracy "
        "after that" + (f": {chosen.trained:.2f}%." if chosen.trained is not None else ".")
    )


def _named(candidates: Candidates, candidate: Candidate) -> str:
    return f"{candidates.noun} {candidate.index}"


def _score(candidates: Candidates, candidate: Candidate) -> str:
    return f"{candidate.score:.2f}%" if candidates.percent else f"{candidate.score:.4g}"


def _of_stages(division: Division) -> Iterator[str]:
    stages = counted(len(division.stages), "stage")
    yield f"{counted(division.looked_at, 'choice')} of widths were looked at in {stages}."
    if division.loss is None:
        return
    yield f"The budget was divided over them so that the sum of their losses is smallest: {division.loss:.4g}."
    if division.gap == 0:
        yield "No combination of the choices that were looked at is better."
    elif division.gap is not None:
        yield f"No combination of the choices that were looked at is better by more than {division.gap:.2g}."


def _warnings(summary: Summary, samples: Samples | None) -> Iterator[str]:
    if samples is not None and summary.finished and samples.used and samples.used[-1] > TOO_COSTLY:
        yield (
            "The search was too short: at its end a network drawn from the probabilities still costs "
            f"{samples.used[-1]:.0f}% of the budget on average, so fitting it to the budget decided more than the "
            "search did. Take more epochs, or raise settings.lr and lower settings.decay."
        )
    if summary.asked is not None:
        batch, asked = summary.asked
        took = summary.latency[batch].after
        if took > TOO_SLOW * asked:
            yield (
                f"The network takes {took:.2f} ms for a batch of {batch}, and {asked:.2f} ms were asked for: the "
                "search goes by times that are predicted. Measure again with nothing beside it (widthwise evaluate), "
                "or ask for less."
            )
    if summary.fit_error is not None and summary.fit_error > POOR_FIT:
        yield (
            f"Predicted times are off by {summary.fit_error:.0%} in the median. Kernels are slow for some widths: "
            "allow only those that the hardware likes (space.multiple_of=16, say), and run nothing beside the "
            "measurement."
        )


def _notes(run: RunRecord, summary: Summary) -> Iterator[str]:
    settings = run.config.get("method", {})
    if summary.fit_error is not None:
        yield (
            "The budget of latency is about predicted times, fitted to those of a few sub-networks; on others they "
            f"were off by {summary.fit_error:.1%} in the median."
        )
    if summary.finished and summary.within:
        yield f"The full network here is {summary.reference} as this method trained it, not the model as it came."
    if summary.finished and run.method == "Joint" and settings.get("finetune_images") == "all":
        yield "The winner was trained on the validation images too: its accuracy on them is no estimate."
    powers = [event["exponent"] for event in run.of("round") if event.get("thresholds")]
    if powers and run.config.get("budget") is not None:
        yield (
            "So that every sampled network meets the budget, its thresholds were raised to one power, from "
            f"{min(powers):.2f} to {max(powers):.2f} over the rounds; at 1 they are what the policy chose."
        )
    if summary.at_least:
        killed = "A process was killed at work" if summary.finished else "A phase is not over"
        yield f"{killed}, so the times are lower bounds (≥)."
    if summary.finished and summary.test is None:
        yield "The data has no test images; accuracies are on the validation images, which also chose the network."
    if summary.latency:
        yield "Latencies are medians, measured at the end of the run on the machine named below."
