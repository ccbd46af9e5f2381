"""Small runs of every method on the embedded digits, for the tests of reports."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import widthwise
from widthwise import FNNP, Baseline, Exploration, Joint, Stagewise, TrainConfig
from widthwise.exploration import ExplorationSettings
from widthwise.joint import RoundSettings
from widthwise.methods import Method
from widthwise.search import DivisionSettings

BRIEF = TrainConfig(epochs=1, batch_size=128, lr=0.1)

METHODS: dict[str, Method] = {
    "fnnp": FNNP(candidates=12, finalists=2, calibration_images=100, validation_images=100),
    "l1": Baseline(widths="uniform", importance="l1"),
    "stagewise": Stagewise(
        chained=12,
        supernet=BRIEF,
        division=DivisionSettings(evaluations=30, exhaustive=20),
        search_images=100,
        search_batch=50,
        retrain=BRIEF,
    ),
    "joint": Joint(
        coarse=BRIEF,
        rounds=RoundSettings(
            rounds=3,
            network=replace(BRIEF, lr=0.05),
            late=replace(BRIEF, lr=0.01),
            late_round=2,
            weights=replace(BRIEF, lr=1e-3, schedule="constant"),
            episodes=2,
            episode_images=32,
        ),
    ),
    "exploration": Exploration(
        epochs=2,
        images=200,
        batch=100,
        settings=ExplorationSettings(samples=3, resamplings=1, lr=0.05),
        calibration_images=100,
    ),
}


@dataclass(frozen=True)
class Made:
    """The folder of a run, and what the call that made it returned."""

    path: Path
    result: widthwise.Result


Make = Callable[[str], Made]
"""The run of a method, by its name in ``METHODS``; tests only read it."""

Cut = Callable[[str, int], Path]
"""A copy of a run as if it had been killed after so many events of its search."""
