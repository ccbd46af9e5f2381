"""What a correlation found: sub-networks, each with its scores and its accuracy, and how the two hang together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

from matplotlib.figure import Figure

from widthwise.evaluate.ranking import Correlation, Estimate, correlation
from widthwise.experiments.table import Table
from widthwise.report.figures import scatter_figure

__all__ = ["Correlations", "Judged"]


@dataclass(frozen=True)
class Judged:
    """One sub-network with its scores and its accuracy."""

    widths: tuple[int, ...]
    macs: int
    accuracy: float
    """Top-1 after training, in [0, 1]; on the test images where there are any."""
    scores: Mapping[str, float | None]
    """By proxy; higher should be better. None where a proxy gave no finite number: it is judged without this one."""


@dataclass(frozen=True)
class Correlations:
    """What :func:`correlate` found."""

    networks: tuple[Judged, ...]
    by_proxy: Mapping[str, Correlation]
    """With 95 % bootstrap intervals over the networks."""
    seconds: Mapping[str, float]
    """That one judgement takes, mean by proxy."""

    @classmethod
    def of(cls, networks: Sequence[Judged], seconds: Mapping[str, float], k: int, seed: int) -> "Correlations":
        """How each proxy's scores and the accuracies hang together.

        Args:
            networks: with a score of every proxy.
            seconds: of one judgement, by proxy.
            k: of phi.
            seed: of the bootstrap.
        """
        reached = [network.accuracy for network in networks]
        scores = {name: [network.scores[name] for network in networks] for name in seconds}
        return cls(tuple(networks), {name: _of_known(of, reached, k, seed) for name, of in scores.items()}, seconds)

    def table(self) -> Table:
        """A row per proxy."""
        k = max(found.k for found in self.by_proxy.values())  # less for a proxy that judged fewer networks
        title = f"{len(self.networks)} sub-networks; 95 % bootstrap intervals over them."
        if any(c.models < len(self.networks) for c in self.by_proxy.values()):
            title += " A proxy that gave no number for some of them is judged by the others."
        columns = ("proxy", "Pearson", "Kendall", "Spearman", f"phi({k})", "seconds each")
        rows = [
            (name, c.pearson, c.kendall, c.spearman, c.phi, self.seconds[name]) for name, c in self.by_proxy.items()
        ]
        return Table(title, columns, tuple(rows))

    def networks_table(self) -> Table:
        """A row per sub-network: what was drawn, how it was judged and what became of it."""
        columns = ("network", "widths", "MACs", "accuracy (%)", *self.by_proxy)
        rows = [
            (
                place,
                " ".join(map(str, n.widths)),
                n.macs,
                100 * n.accuracy,
                *("" if score is None else score for score in n.scores.values()),
            )
            for place, n in enumerate(self.networks)
        ]
        return Table("The sub-networks that were judged and trained.", columns, tuple(rows))

    def figure(self) -> Figure:
        """Every proxy's scores against the accuracies."""
        scores = {name: [network.scores[name] for network in self.networks] for name in self.by_proxy}
        taus = {name: str(found.kendall) for name, found in self.by_proxy.items()}
        return scatter_figure([network.accuracy for network in self.networks], scores, taus)


def _of_known(scores: Sequence[float | None], reached: Sequence[float], k: int, seed: int) -> Correlation:
    known = [(score, accuracy) for score, accuracy in zip(scores, reached, strict=True) if score is not None]
    if not known:  # it says nothing; the others do
        return Correlation(0, 0, *[Estimate(nan, nan, nan)] * 4)
    return correlation([score for score, _ in known], [accuracy for _, accuracy in known], k, seed=seed)
