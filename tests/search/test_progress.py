"""What a person is told of a search: accuracies as shares, losses as losses."""

import io

import pytest
import torch
from rich.console import Console

from widthwise.search import RichSearchReporter, Trial


@pytest.mark.parametrize(("terminal", "kind"), [(t, k) for t in (False, True) for k in ("accuracy", "loss")])
def test_scores_are_shown_as_what_they_are(terminal: bool, kind: str) -> None:
    text = io.StringIO()
    console = Console(file=text, width=120, force_terminal=terminal)
    scores = {"accuracy": [0.5, 0.75, 0.25], "loss": [-0.5, -0.0421, -3.0]}[kind]
    with RichSearchReporter(console, kind=kind) as reporter:
        for index, score in enumerate(scores):
            reporter.trial(Trial(index, torch.tensor([1]), score, 0.1), 3)
    shown = {("accuracy", False): "best score 0.7500", ("accuracy", True): "best 75.00%"}
    assert shown.get((kind, terminal), "best loss 0.0421") in text.getvalue()
    assert ("%" in text.getvalue()) == ((kind, terminal) == ("accuracy", True))
