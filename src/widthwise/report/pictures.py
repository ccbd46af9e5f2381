"""Which pictures a report on a run has, each with its words."""

from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from widthwise.report import figures
from widthwise.report.data import Candidates, Curve, Division, Layers, RunReport, Samples
from widthwise.report.words import METRICS, counted, percent

__all__ = ["Picture", "pictures_of"]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One figure of a report."""

    name: str
    """Of its files."""
    section: str
    """Where it belongs: ``comparison``, ``search``, ``shape`` or ``training``."""
    title: str
    caption: str
    """What there is to see."""
    alt: str
    """What it shows, for those who do not see it."""
    figure: Figure


def pictures_of(run: RunReport) -> list[Picture]:
    """All pictures of one run, in the order of the page."""
    found: list[Picture] = []
    if run.division is not None:
        found += _of_stages(run.division)
    if run.candidates is not None:
        found += _of_candidates(run.candidates)
    if run.policy is not None:
        first, last = run.policy.reward[0], run.policy.reward[-1]
        found.append(
            Picture(
                name="policy",
                section="search",
                title="What the policy learned",
                caption="Mean reward of each round's episodes, and how undecided the policy still is.",
                alt=f"Two lines over the rounds: the mean reward goes from {first:.3f} to {last:.3f}, the entropy of "
                f"the policy from {run.policy.entropy[0]:.3f} to {run.policy.entropy[-1]:.3f} nats.",
                figure=figures.policy_figure(run.policy),
            )
        )
    found += _of_exploration(run)
    if run.layers is not None:
        found += _of_layers(run.layers)
    for curve in run.curves:
        found += _of_training(curve, _trained(run, curve))
    return found


def _of_candidates(candidates: Candidates) -> Iterator[Picture]:
    noun, count = candidates.noun, counted(len(candidates.items), candidates.noun)
    best = max(c.score for c in candidates.items)
    chosen = candidates.chosen
    what = f"{candidates.noun} {chosen.index} was chosen" if chosen else "nothing was chosen yet"
    if noun == "round":
        yield Picture(
            name="rounds",
            section="search",
            title="Every sampled network, round by round",
            caption="Accuracy after each round's training, and the size of the network that was sampled.",
            alt=f"{count}; the best {candidates.score} is {best:.2f}%; {what}.",
            figure=figures.rounds_figure(candidates),
        )
    else:
        yield Picture(
            name="order",
            section="search",
            title="Scores in the order of the search",
            caption=f"Each dot is a {noun}; the line is the best so far.",
            alt=f"{count}; the best score is {best:.2f}; {what}.",
            figure=figures.order_figure(candidates),
        )
    if candidates.metric is not None:
        yield Picture(
            name="cost",
            section="search",
            title="Score and cost",
            caption=_cost_caption(candidates),
            alt=f"{count} by {METRICS[candidates.metric]} and {candidates.score}, "
            f"{sum(c.front for c in candidates.items)} of them on the front; {what}.",
            figure=figures.cost_figure(candidates),
        )
    trained = [c for c in candidates.finalists if c.trained is not None]
    if noun != "round" and len(trained) > 1:
        yield Picture(
            name="finalists",
            section="search",
            title="Did the score tell?",
            caption="Score of each finalist before its training, and its validation accuracy after it.",
            alt="; ".join(f"{noun} {c.index}: score {c.score:.2f}, {c.trained:.2f}% after training" for c in trained)
            + ".",
            figure=figures.finalists_figure(candidates),
        )


def _cost_caption(candidates: Candidates) -> str:
    """Says what the other cost is like, which the picture does not show."""
    text = f"No {candidates.noun} on the front is beaten by one that costs no more."
    other = "params" if candidates.metric == "macs" else "macs"
    values = [getattr(c, other) for c in candidates.items]
    whole = candidates.full.get(other)
    if whole and None not in values:
        low, high = percent(min(values) / whole), percent(max(values) / whole)
        between = f"{low}" if low == high else f"{low} to {high}"
        text += f" All have {between} of the {METRICS[other]} of the full network."
    return text


def _of_exploration(run: RunReport) -> Iterator[Picture]:
    if run.probabilities is not None:
        last = run.probabilities.snapshots[-1]
        kept = "; ".join(
            f"{name} median {box.median:.2f}, {box.likely} channels above one half"
            for name, box in zip(run.probabilities.groups, last.boxes, strict=True)
        )
        yield Picture(
            name="probabilities",
            section="search",
            title="How the probabilities parted",
            caption="Keep probabilities of the channels of each group: the box holds the middle half, the line across "
            "it is the median, the whiskers reach to the extremes. What ends above ½ is kept.",
            alt=f"Box plots by group at steps {', '.join(str(s.step) for s in run.probabilities.snapshots)}. "
            f"At the end: {kept}.",
            figure=figures.probabilities_figure(run.probabilities),
        )
    if run.samples is not None:
        yield _of_samples(run.samples)


def _of_samples(samples: Samples) -> Picture:
    return Picture(
        name="samples",
        section="search",
        title="What the samples lost",
        caption="Mean loss of the sub-networks that were drawn, what a draw is expected to cost, and how many channels "
        "have a probability between 0.1 and 0.9.",
        alt=f"{counted(samples.count, 'sample')} in {counted(len(samples.steps), 'step')}: the mean loss goes from "
        f"{samples.loss[0]:.3f} to {samples.loss[-1]:.3f}.",
        figure=figures.samples_figure(samples),
    )


def _of_stages(division: Division) -> Iterator[Picture]:
    costed = [stage for stage in division.stages if any(gene.cost is not None for gene in stage.genes)]
    if costed:
        yield Picture(
            name="stages",
            section="search",
            title="Loss and cost within each stage",
            caption="Each dot is a choice of widths that was looked at, with the cost of its stage. No choice on the "
            "front is beaten by one that costs no more. Where a stage shares its widths with a neighbour, or networks "
            "were judged whole, the choice may lie behind the front.",
            alt="; ".join(
                f"{stage.name}: {counted(len(stage.genes), 'choice')}, {sum(g.front for g in stage.genes)} on the front"
                for stage in division.stages
            )
            + ".",
            figure=figures.stages_figure(division),
        )
    known = [stage for stage in division.stages if stage.before and stage.after is not None]
    if known:
        yield Picture(
            name="division",
            section="search",
            title="How the budget was divided",
            caption="What each stage costs in the full network and in the one that was found.",
            alt="; ".join(f"{stage.name} keeps {percent((stage.after or 0) / (stage.before or 1))}" for stage in known)
            + f" of its {METRICS[division.metric]}.",
            figure=figures.division_figure(division),
        )


def _of_layers(layers: Layers) -> Iterator[Picture]:
    for name, rows, title, unit, draw in (
        ("widths", layers.groups, "How wide each group of channels is", "channels", figures.widths_figure),
        ("macs", layers.macs, "What each operation costs", "multiply-adds", figures.macs_figure),
    ):
        least, most = min(rows, key=lambda row: row.kept), max(rows, key=lambda row: row.kept)
        total = sum(row.after for row in rows) / max(1, sum(row.before for row in rows))
        yield Picture(
            name=name,
            section="shape",
            title=title,
            caption=f"{percent(total)} of all {unit} are left. "
            + ("Behind a bar: its share that is left." if len(rows) <= figures.ROWS else "The table has every row."),
            alt=f"{len(rows)} bars of {unit} before and after; {least.name} keeps least ({percent(least.kept)}), "
            f"{most.name} most ({percent(most.kept)}).",
            figure=draw(layers),
        )


def _trained(run: RunReport, curve: Curve) -> str:
    """What was trained; of a finalist also which candidate it is."""
    finalists = run.candidates.finalists if run.candidates is not None else ()
    for c in finalists:
        if curve.name == f"finalist-{c.finalist}" and run.candidates is not None:
            return f"{curve.what}: {run.candidates.noun} {c.index}" + (", chosen" if c.chosen else "")
    return curve.what


def _of_training(curve: Curve, title: str) -> Iterator[Picture]:
    reached = f", validation accuracy {curve.val[-1]:.2f}%" if curve.val else ""
    yield Picture(
        name=f"training-{curve.name}",
        section="training",
        title=title,
        caption=counted(len(curve.epochs), "epoch") + (f"{reached} at the end." if reached else "."),
        alt=f"Loss from {curve.loss[0]:.3f} to {curve.loss[-1]:.3f}, training accuracy from {curve.train[0]:.2f}% to "
        f"{curve.train[-1]:.2f}%{reached}.",
        figure=figures.training_figure(curve),
    )
    if curve.parts:
        yield Picture(
            name=f"parts-{curve.name}",
            section="training",
            title=f"{title}: parts of the loss",
            caption="Each part as its objective names it, mean over the epoch.",
            alt="; ".join(f"{name} from {v[0]:.4g} to {v[-1]:.4g}" for name, v in curve.parts.items()) + ".",
            figure=figures.parts_figure(curve),
        )
