"""Joint search-and-training through ``compress``: budgets, ablations, what is delivered, and that it goes on."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import widthwise
from widthwise import Budget, CostModel, Joint, TrainConfig, WidthSpace, build_model, compress, load_data, trace
from widthwise.errors import ConfigError, InvalidBudget
from widthwise.evaluate import accuracy
from widthwise.joint import FilterWeights, JointSearch, RoundSettings
from widthwise.joint.search import Round
from widthwise.methods import Result, Trainer
from widthwise.runs import Journal, read_events
from widthwise.train import History, fit

BRIEF = TrainConfig(epochs=1, batch_size=128, lr=0.1)
ROUNDS = RoundSettings(
    rounds=3,
    network=replace(BRIEF, lr=0.05),
    late_round=2,
    late_epochs=1,
    weights=replace(BRIEF, lr=1e-3, schedule="constant"),
    episodes=3,
    episode_images=64,
)
METHOD = Joint(coarse=BRIEF, rounds=ROUNDS)


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_model("digits_net")


def pruned(run: Path | None, method: Joint = METHOD, budget: Budget | None = Budget(macs=0.4)) -> Result:  # noqa: B008
    return compress(net(), "digits", budget=budget, method=method, finetune=BRIEF, run=run)


def rounds_of(run: Path) -> list[dict[str, Any]]:
    return [event for event in read_events(run / "journal.jsonl") if event.get("event") == "round"]


def outcome(run: Path) -> tuple[list[dict[str, Any]], dict[str, Any], bytes]:
    rounds = [{k: v for k, v in event.items() if k not in ("seconds", "crc")} for event in rounds_of(run)]
    return rounds, json.loads((run / "subnet.json").read_text()), (run / "model.safetensors").read_bytes()


def test_every_round_meets_the_budget_and_the_best_is_delivered(tmp_path: Path) -> None:
    result = pruned(tmp_path)
    full = CostModel(result.graph).full["macs"]
    rounds = rounds_of(tmp_path)
    assert len(rounds) == 3
    for event in rounds:
        assert 0.38 * full <= event["macs"] <= 0.4 * full
        assert len(event["thresholds"]) == len(event["widths"]) == len(result.graph.prunable)
        assert event["entropy"] == pytest.approx(torch.tensor(5.0).log().item(), abs=0.2)
    best = max(rounds, key=lambda event: event["accuracy"])
    assert result.graph.widths(result.subnet).tolist() == best["widths"]
    assert result.trials[0].score == best["accuracy"]
    assert [name for name, _ in result.model.named_parameters()] == [name for name, _ in net().named_parameters()]
    again = widthwise.load(tmp_path, builder=net)
    images = load_data("digits").example(4)
    torch.testing.assert_close(again.eval()(images), result.model(images))
    assert not [path for path in (tmp_path / "checkpoints").iterdir() if path.name.startswith("round-")]


def test_without_a_budget_gamma_alone_decides(tmp_path: Path) -> None:
    result = pruned(tmp_path, replace(METHOD, rounds=replace(ROUNDS, noise=0.0)), budget=None)
    assert {event["exponent"] for event in rounds_of(tmp_path)} == {1.0}
    shares = result.graph.widths(result.subnet) / result.graph.full_widths
    assert bool((shares <= 0.85).all())  # no threshold is above 0.8
    with pytest.raises(InvalidBudget, match="FNNP searches under a budget"):
        compress(net(), "digits", method=widthwise.FNNP())


def test_the_ablation_prunes_every_group_alike(tmp_path: Path) -> None:
    result = pruned(tmp_path, replace(METHOD, rounds=replace(ROUNDS, fixed_rate=0.25)), budget=None)
    expected = [round(0.75 * group.width) for group in result.graph.prunable]
    assert [event["widths"] for event in rounds_of(tmp_path)] == [expected] * 3
    assert {event["reward"] for event in rounds_of(tmp_path)} == {None}


class Killed(Exception):
    pass


def test_a_search_that_is_cut_anywhere_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after the state is written, in either training of a round, and in the coarse one."""
    pruned(tmp_path / "whole")
    calls = {"append": 0, "fit": 0}
    append, train = Journal.append, Trainer.fit

    def dying_append(journal: Journal, event: dict[str, Any]) -> None:
        calls["append"] += event["event"] == "round"
        if event["event"] == "round" and calls["append"] == 2:
            raise Killed
        append(journal, event)

    def dying_fit(trainer: Trainer, name: str, *args: Any, **kwargs: Any) -> History:
        calls["fit"] += 1
        history = train(trainer, name, *args, **kwargs)
        if calls["fit"] in (1, 4, 9):
            raise Killed
        return history

    monkeypatch.setattr(Journal, "append", dying_append)
    monkeypatch.setattr(Trainer, "fit", dying_fit)
    deaths = 0
    while not (tmp_path / "broken" / "result.json").exists():
        try:
            pruned(tmp_path / "broken")
        except Killed:
            deaths += 1
    assert deaths == 4
    assert outcome(tmp_path / "broken") == outcome(tmp_path / "whole")


def test_with_all_thresholds_one_and_no_noise_a_round_is_ordinary_training(tmp_path: Path) -> None:
    data, model = load_data("digits"), net()
    plain = copy.deepcopy(model)
    graph = trace(model, data.example())
    weights = FilterWeights(graph)
    weights.alpha.data.zero_()
    settings = RoundSettings(
        rounds=1,
        network=replace(BRIEF, epochs=2),
        weights=replace(BRIEF, lr=1e-12, schedule="constant"),
        thresholds=(1.0,),
        noise=0.0,
        episodes=1,
    )
    trained: dict[str, History] = {}

    class Recorded(Trainer):
        def fit(self, name: str, *args: Any, **kwargs: Any) -> History:
            trained[name] = super().fit(name, *args, **kwargs)
            return trained[name]

    limits = widthwise.cost.Limits(CostModel(graph), {})
    journal = Journal.open(tmp_path / "journal.jsonl")
    search = JointSearch(
        model,
        weights,
        WidthSpace().of(graph),
        limits,
        settings,
        data,
        Recorded(tmp_path, data),
        tmp_path / "joint.pt",
        journal,
    )
    best = search.run()
    ordinary = fit(plain, data.train, settings.network)
    assert bool(best.subnet.keep.all())
    losses = [[epoch.train_loss for epoch in history.epochs] for history in (trained["round-0-network"], ordinary)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for (name, mine), (_, theirs) in zip(model.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4, msg=name)


def test_the_folded_network_computes_what_the_search_saw(tmp_path: Path) -> None:
    """Its accuracy is the one of its round, to the last image."""
    seen: list[Round] = []
    data = load_data("digits")
    model = net()
    graph = trace(model, data.example())
    search = JointSearch(
        model,
        FilterWeights(graph),
        WidthSpace().of(graph),
        Budget(macs=0.5).on(CostModel(graph), WidthSpace().of(graph)),
        replace(ROUNDS, rounds=2),
        data,
        Trainer(tmp_path, data),
        tmp_path / "joint.pt",
        Journal.open(tmp_path / "journal.jsonl"),
        on_round=seen.append,
    )
    best = search.run()
    small = widthwise.materialize(net(1), graph, best.subnet)
    small.load_state_dict(dict(best.network))
    assert accuracy(small, data.val) == seen[best.round].accuracy == max(done.accuracy for done in seen)


def test_impossible_settings_of_joint_are_refused() -> None:
    with pytest.raises(ConfigError, match="penalty"):
        Joint(penalty=-1.0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rounds": 0}, "rounds"),
        ({"episode_images": 1}, "episode_images"),
        ({"gamma": -1.0}, "gamma"),
        ({"thresholds": (0.5, 2.0)}, "thresholds"),
        ({"fixed_rate": 1.0}, "fixed_rate"),
    ],
)
def test_impossible_rounds_are_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        RoundSettings(**change)


def test_a_threshold_of_one_cannot_meet_a_budget() -> None:
    with pytest.raises(ConfigError, match="below 1"):
        pruned(None, replace(METHOD, rounds=replace(ROUNDS, thresholds=(0.8, 1.0))))
