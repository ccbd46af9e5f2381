"""Stage-wise pruning from a model, data and a budget to a trained network, on the embedded data."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import widthwise
from widthwise import CostModel, WidthSpace
from widthwise.cost.budget import TOLERANCE
from widthwise.errors import ConfigError, InfeasibleBudget, NonFiniteLoss, NoStages
from widthwise.methods import Stagewise
from widthwise.methods.initialise import fresh
from widthwise.parallel import ParallelConfig
from widthwise.runs import Journal
from widthwise.search import DivisionSettings, EvolutionSettings
from widthwise.train import TrainConfig

SHORT = Stagewise(
    chained=10,
    supernet=TrainConfig(epochs=1, batch_size=64, lr=0.05),
    division=DivisionSettings(evaluations=40, exhaustive=50),
    search_images=200,
    search_batch=100,
    retrain=TrainConfig(epochs=1, lr=0.1),
)


def digits_net() -> nn.Module:
    torch.manual_seed(0)
    return widthwise.build_model("digits_net")


def pruned(method: Stagewise, run=None, budget: widthwise.Budget | None = None) -> widthwise.Result:
    return widthwise.compress(
        digits_net(),
        "digits",
        budget=budget or widthwise.Budget(macs=0.5),
        method=method,
        run=run,
        finetune=TrainConfig(epochs=1, lr=0.02),
        builder="digits_net",
    )


def assert_filled(result: widthwise.Result, method: Stagewise, budget: widthwise.Budget) -> None:
    """Close to its tightest limit, or no layer fits at its next width: a step of digits_net may cost 2 % of it."""
    cost, space = CostModel(result.graph), WidthSpace().of(result.graph)
    limits, widths = budget.on(cost, space), result.graph.widths(result.subnet)
    used = float(limits.used(widths[None])[0])
    assert used <= 1
    for group, choices in enumerate(method.search_space(space).choices):
        wider = widths.clone()
        wider[group] = next((int(c) for c in choices if c > widths[group]), int(widths[group]))
        if used < 1 - TOLERANCE and wider[group] > widths[group]:
            assert float(limits.used(wider[None])[0]) > 1


def test_the_whole_way(tmp_path):
    model = digits_net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    method = replace(
        SHORT,
        chained=0,
        supernet=TrainConfig(epochs=8, batch_size=64, lr=0.1),
        division=DivisionSettings(evaluations=150, exhaustive=0),
        retrain=TrainConfig(epochs=8, lr=0.1),
    )
    result = widthwise.compress(
        model,
        "digits",
        budget=widthwise.Budget(macs=0.5, params=0.6),
        method=method,
        run=tmp_path / "run",
        builder="digits_net",
    )
    full, after = result.metrics["before"], result.metrics["after"]
    assert after.macs <= 0.5 * full.macs
    assert after.params <= 0.6 * full.params
    assert_filled(result, method, widthwise.Budget(macs=0.5, params=0.6))
    assert after.test_accuracy is not None
    assert after.test_accuracy > 0.85
    assert full.val_accuracy > 0.85  # the super-net's full network, trained on the way
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(widthwise.load(tmp_path / "run")(x), result.model(x))
    with Journal.open(tmp_path / "run" / "journal.jsonl") as journal:
        events = [e for e in journal.events if e["event"] == "stage_loss"]
        (end,) = [e for e in journal.events if e["event"] == "division"]
    genes = [(e["stage"], tuple(e["widths"])) for e in events]
    assert len(genes) == len(set(genes))
    assert end["stages"] == ["block1", "block2"]
    assert result.trials[0].score == pytest.approx(-sum(end["chosen"]["losses"]))
    known = {(e["stage"], tuple(e["widths"])): e["loss"] for e in events}
    genes = [(stage, tuple(end["chosen"]["widths"][g] for g in own)) for stage, own in enumerate(end["own"])]
    assert end["chosen"]["losses"] == pytest.approx([known[gene] for gene in genes])
    assert result.trials[0].widths.tolist() == end["chosen"]["widths"]


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "inherited", "chained": 0},
        {"start": "fresh", "smallest": False},
        {"teacher": "given"},
        {"teacher": "digits_net"},
        {"stages": ("block2",)},
        {"ratios": 0},
        {
            "division": DivisionSettings(
                how="evolution",
                manager=EvolutionSettings(population=4, iterations=2),
                stage=EvolutionSettings(population=6, iterations=2),
            )
        },
    ],
    ids=lambda change: "-".join(change),
)
def test_every_option_meets_the_budget(change):
    result = pruned(replace(SHORT, **change))
    assert 0.45 * result.metrics["before"].macs < result.metrics["after"].macs <= 0.5 * result.metrics["before"].macs


def test_workers_and_kills_do_not_change_the_result(tmp_path):
    short = replace(SHORT, chained=30)
    whole = pruned(short, tmp_path / "a")
    assert len(whole.trials) == 30
    assert whole.trials[0].score == max(trial.score for trial in whole.trials)
    assert whole.graph.widths(whole.subnet).tolist() == whole.trials[0].widths.tolist()
    files = tmp_path / "a" / "journal.jsonl"
    lines = files.read_text().splitlines(keepends=True)
    for name, keep in (("b", 0.1), ("c", 0.6), ("d", 0.85)):  # as if killed in the search: no later file is there
        part = tmp_path / name
        (part / "checkpoints").mkdir(parents=True)
        for file in ("config.json", "environment.json"):
            (part / file).write_bytes((tmp_path / "a" / file).read_bytes())
        (part / "checkpoints" / "supernet.pt").write_bytes(
            (tmp_path / "a" / "checkpoints" / "supernet.pt").read_bytes()
        )
        (part / "journal.jsonl").write_text("".join(lines[: int(keep * len(lines))]))
        method = replace(short, parallel=ParallelConfig(workers=2)) if name == "c" else short
        again = pruned(method, part)
        assert again.subnet == whole.subnet
        with Journal.open(part / "journal.jsonl") as journal:
            told = [(e["stage"], tuple(e["widths"])) for e in journal.events if e["event"] == "stage_loss"]
            assert sum(e["event"] == "division" for e in journal.events) == 1
        assert len(told) == len(set(told))
        for mine, theirs in zip(again.model.parameters(), whole.model.parameters(), strict=True):
            assert torch.equal(mine, theirs)


def test_a_budget_below_the_smallest_ratio_is_refused():
    with pytest.raises(InfeasibleBudget, match="narrowest"):
        pruned(replace(SHORT, least_ratio=0.9), budget=widthwise.Budget(macs=0.2))


def test_a_model_that_is_no_chain_is_refused():
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(1, 8, 1)
            self.out = nn.Linear(8, 10)

        def forward(self, x):
            return self.out((self.b(self.a(x).relu()) + self.c(x)).relu().mean((2, 3)))

    with pytest.raises(NoStages, match="FNNP"):
        widthwise.compress(Skips(), "digits", budget=widthwise.Budget(macs=0.5), method=SHORT)


@pytest.mark.parametrize(("teacher", "judged"), [("inplace", 10), ("given", 0)])
def test_only_stages_that_learn_what_the_next_one_takes_are_judged_in_a_chain(teacher, judged, tmp_path):
    pruned(replace(SHORT, teacher=teacher), tmp_path / "run")
    with Journal.open(tmp_path / "run" / "journal.jsonl") as journal:
        assert sum(event["event"] == "trial" for event in journal.events) == judged


def test_a_chain_whose_loss_is_no_number_is_told(monkeypatch):
    monkeypatch.setattr(widthwise.supernet.StageLoss, "chained", lambda self, widths: float("nan"))
    with pytest.raises(NonFiniteLoss, match="chain of stages"):
        pruned(SHORT)


def test_a_teacher_of_other_widths_teaches_the_same_in_every_process(tmp_path):
    """A ResNet-20 has one resolution more than the student, and other channels: its adapters start at random."""
    losses = []
    for state in (1, 2):
        model = digits_net()
        torch.manual_seed(state)
        method = replace(SHORT, teacher="resnet20", division=DivisionSettings(evaluations=10, exhaustive=0))
        folder = tmp_path / str(state)
        widthwise.compress(
            model, "digits", budget=widthwise.Budget(macs=0.5), method=method, run=folder, builder="digits_net"
        )
        with Journal.open(folder / "journal.jsonl") as journal:
            losses.append([e["loss"] for e in journal.events if e["event"] == "stage_loss"])
    assert losses[0]
    assert losses[0] == losses[1]


def test_the_search_judges_stages_as_the_settings_say(tmp_path):
    losses = {}
    for name, change in {"ours": {}, "sum": {"positions": "sum"}, "learned": {"adapters": "learned"}}.items():
        pruned(replace(SHORT, chained=0, **change), tmp_path / name)
        with Journal.open(tmp_path / name / "journal.jsonl") as journal:
            events = [e for e in journal.events if e["event"] == "stage_loss"]
        losses[name] = {(e["stage"], tuple(e["widths"])): e["loss"] for e in events}
    shared = [gene for gene in losses["ours"] if all(gene in found for found in losses.values())]
    assert {stage for stage, _ in shared} == {0, 1}
    for stage, widths in shared:
        ours, summed, learned = (losses[name][stage, widths] for name in ("ours", "sum", "learned"))
        assert summed == pytest.approx(ours * (64, 16)[stage])
        assert learned != pytest.approx(ours, rel=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ratios": 1},
        {"chained": -1},
        {"least_ratio": 1.0},
        {"search_images": 1},
        {"teacher_stages": ("a",)},
        {"supernet": TrainConfig(distill_weight=0.5)},
    ],
)
def test_settings_are_checked(wrong):
    with pytest.raises(ConfigError):
        replace(SHORT, **wrong)


def test_thirty_one_ratios_from_a_tenth():
    model = digits_net()
    graph = widthwise.trace(model, torch.randn(1, 1, 8, 8))
    space = Stagewise().search_space(widthwise.WidthSpace().of(graph))
    for group, choices in zip(graph.prunable, space.choices, strict=True):
        assert choices[-1] == group.width
        assert choices[0] == max(1, round(0.1 * group.width))
        assert len(choices) == min(31, len(choices))


def test_fresh_weights_hang_on_the_seed():
    first, second, other = digits_net(), digits_net(), digits_net()
    for model, seed in ((first, 1), (second, 1), (other, 2)):
        fresh(model, seed)
    weights = [m.state_dict() for m in (first, second, other)]
    assert all(torch.equal(weights[0][n], weights[1][n]) for n in weights[0])
    assert not all(torch.equal(weights[0][n], weights[2][n]) for n in weights[0])


def test_one_stage_may_be_named_without_a_tuple():
    result = pruned(replace(SHORT, stages="block1"))
    assert result.metrics["after"].macs <= 0.5 * result.metrics["before"].macs


def test_the_trained_super_net_is_the_teacher_of_the_winner(monkeypatch: pytest.MonkeyPatch):
    teachers = []
    original = widthwise.methods.Trainer.fit

    def watched(self, name, model, config, **options):
        teachers.append((name, options.get("teacher"), model))
        return original(self, name, model, config, **options)

    monkeypatch.setattr(widthwise.methods.Trainer, "fit", watched)
    pruned(replace(SHORT, retrain=TrainConfig(epochs=1, lr=0.1, distill_weight=0.5)))
    supernet = next(model for name, _, model in teachers if name == "supernet")
    assert [teacher for name, teacher, _ in teachers if name == "finalist-1"] == [supernet]
