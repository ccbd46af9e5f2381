"""Joint search-and-training through ``compress``: budgets, ablations, what is delivered, and that it goes on."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import widthwise
from widthwise import Budget, CostModel, Joint, Subnet, TrainConfig, WidthSpace, build_model, compress, load_data, trace
from widthwise.errors import ConfigError, InvalidBudget
from widthwise.evaluate import accuracy
from widthwise.joint import FilterWeights, JointSearch, MassSampler, RoundSettings
from widthwise.joint.search import _EPISODE, _NETWORK, Round
from widthwise.methods import Result, Trainer
from widthwise.runs import Journal, read_events
from widthwise.train import History, fit
from widthwise.train.progress import SilentReporter, StepStatus
from widthwise.train.setup import derived_seed

BRIEF = TrainConfig(epochs=1, batch_size=128, lr=0.1)
ROUNDS = RoundSettings(
    rounds=3,
    network=replace(BRIEF, lr=0.05),
    late=replace(BRIEF, lr=0.01),
    late_round=2,
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
    for event in rounds:
        assert (
            result.graph.widths(Subnet.from_dict({**result.subnet.to_dict(), "kept": event["kept"]})).tolist()
            == (event["widths"])
        )


def test_without_a_budget_thresholds_stay_as_they_are(tmp_path: Path) -> None:
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


def search_of(
    folder: Path,
    settings: RoundSettings,
    *,
    model: nn.Module | None = None,
    budget: Budget | None = None,
    reporter: Callable[[str], SilentReporter] = lambda name: SilentReporter(),
    on_round: Callable[[Round], None] = lambda done: None,
) -> JointSearch:
    """A search on a network with equal filter weights."""
    data, model = load_data("digits"), model or net()
    graph = trace(model, data.example())
    weights = FilterWeights(graph)
    weights.alpha.data.zero_()
    space, cost = WidthSpace().of(graph), CostModel(graph)

    class Watched(Trainer):
        def fit(self, name: str, model: nn.Module, config: TrainConfig, **given: Any) -> History:
            split = given.pop("train") or data.train
            del given["validate"]
            return fit(model, split, config, progress=reporter(name), **given)

    limits = widthwise.cost.Limits(cost, {}) if budget is None else budget.on(cost, space)
    journal = Journal.open(folder / "journal.jsonl")
    state, trainer = folder / "joint.pt", Watched(folder, data)
    return JointSearch(model, weights, space, limits, settings, data, trainer, state, journal, on_round=on_round)


class Steps(SilentReporter):
    """Keeps the loss after every step, the mean of its epoch so far."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def step(self, status: StepStatus) -> None:
        self.losses.append(status.loss)


def test_with_all_thresholds_one_and_no_noise_a_search_is_ordinary_training(tmp_path: Path) -> None:
    """Two rounds have the losses, step by step, of two trainings of the full network one after the other."""
    plain, steps = net(), {}
    settings = RoundSettings(
        rounds=2,
        network=replace(BRIEF, epochs=2),
        weights=replace(BRIEF, lr=1e-12, schedule="constant"),
        thresholds=(1.0,),
        noise=0.0,
        episodes=1,
        policy_steps=1,
    )

    def reporter(name: str) -> Steps:
        steps[name] = Steps()
        return steps[name]

    best = search_of(tmp_path, settings, model=copy.deepcopy(plain), reporter=reporter).run()
    assert bool(best.subnet.keep.all())
    for index in range(2):
        ordinary, seed = Steps(), derived_seed(0, 0, index, _NETWORK)
        fit(plain, load_data("digits").train, replace(settings.network, seed=seed), progress=ordinary)
        assert len(ordinary.losses) > 10
        assert steps[f"round-{index}-network"].losses == pytest.approx(ordinary.losses, rel=1e-3)


def test_every_round_sees_the_images_in_another_order(tmp_path: Path) -> None:
    """Also when it is a few steps long, and another one for every seed of the method."""
    seen: list[list[float]] = []
    for seed in (0, 0, 1):
        steps: dict[str, Steps] = {}
        brief = replace(BRIEF, max_steps=2, lr=1e-12)
        settings = replace(ROUNDS, rounds=2, network=brief, late=None, weights=brief, noise=0.0, thresholds=(1.0,))
        method = search_of(
            tmp_path / str(len(seen)), settings, reporter=lambda name, s=steps: s.setdefault(name, Steps())
        )
        method._seed = seed
        method.run()
        seen.append([steps[f"round-{index}-network"].losses[0] for index in range(2)])
    assert seen[0] == seen[1]
    assert len({*seen[0], *seen[2]}) == 4


def test_the_reward_is_the_loss_and_gamma_times_the_share_of_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equation 3."""
    told: list[tuple[Any, Any]] = []
    search = search_of(tmp_path, replace(ROUNDS, rounds=1, gamma=3.0, policy_steps=2))
    monkeypatch.setattr(search, "_loss", lambda subnet, images, labels: 10.0 + float(subnet.keep.sum()))
    monkeypatch.setattr(search.policy, "learn", lambda alpha, choices, rewards: told.append((choices, rewards)))
    search.run()
    graph, cost = search._graph, search._cost
    assert [len(rewards) for _, rewards in told] == [3, 3]
    for step, (choices, rewards) in enumerate(told):
        for episode, (row, reward) in enumerate(zip(choices, rewards, strict=True)):
            thresholds = search.policy.thresholds(row)
            seed = derived_seed(0, 0, _EPISODE, step, episode)
            keep = MassSampler(WidthSpace().of(graph), noise=0.25).draw(search.weights.alpha, thresholds, seed).subnet
            expected = -(10.0 + float(keep.keep.sum()) + 3.0 * cost.params(keep) / cost.full["params"])
            assert float(reward) == pytest.approx(expected)


def test_gamma_makes_networks_smaller(tmp_path: Path) -> None:
    """Without a budget the policy learns lower thresholds where parameters count more than the loss."""
    means = []
    for gamma in (0.0, 200.0):
        settings = replace(ROUNDS, rounds=1, gamma=gamma, noise=0.0, policy_steps=40, policy_lr=1e-2, entropy=0.0)
        search = search_of(tmp_path / str(gamma), settings)
        search.run()
        thresholds = search.policy.net.thresholds
        chances = search.policy.net(search.weights.alpha.detach()).detach().exp().double()
        means.append(float((chances @ thresholds).mean()))
    assert means[1] < 0.63 < means[0]


def test_the_folded_network_computes_what_the_search_saw(tmp_path: Path) -> None:
    """Its accuracy is the one of its round, to the last image."""
    seen: list[Round] = []
    search = search_of(tmp_path, replace(ROUNDS, rounds=2), budget=Budget(macs=0.5), on_round=seen.append)
    best = search.run()
    small = widthwise.materialize(net(1), search._graph, best.subnet)
    small.load_state_dict(dict(best.network))
    assert accuracy(small, load_data("digits").val) == seen[best.round].accuracy == max(done.accuracy for done in seen)


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
        ({"fixed_rate": 1.0}, "fixed rate"),
        ({"policy_steps": 0}, "policy_steps"),
    ],
)
def test_impossible_rounds_are_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        RoundSettings(**change)


def test_a_threshold_of_one_cannot_meet_a_budget() -> None:
    with pytest.raises(ConfigError, match="below 1"):
        pruned(None, replace(METHOD, rounds=replace(ROUNDS, thresholds=(0.8, 1.0))))
