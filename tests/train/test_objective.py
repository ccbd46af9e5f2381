"""Objectives that a caller hands over: two backward passes, parameters of their own, resuming, several processes."""

import copy
import dataclasses
import io
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from test_checkpoint import StopAt, StopError, run_worker, same, timeless
from torch import nn
from train_worker import CONFIG, Branch, Examples, examples, network

from widthwise.errors import ConfigError, LabelOutOfRange, NonFiniteLoss, RunMismatch
from widthwise.train import Objective, Outcome, RichReporter, Step, Supervised, TrainConfig, fit
from widthwise.train.setup import derived_seed

WORKER = Path(__file__).with_name("train_worker.py")
BY_HAND = TrainConfig(epochs=3, batch_size=100, lr=0.2, schedule="constant", augment=False, clip_norm=0.3, seed=5)


def train_by_hand(net: nn.Module, branch: Branch, split: Examples, config: TrainConfig) -> list[float]:
    """One loss with both parts, one gradient, SGD with Nesterov momentum and clipping, written out."""
    parameters = [*net.parameters(), *branch.own.parameters()]
    velocity = [torch.zeros_like(p) for p in parameters]
    losses = []
    for number in range(config.epochs):
        seed = derived_seed(config.seed, number, 0, 0x0B1EC7)
        mask = torch.rand(3, 1, 1, generator=torch.Generator().manual_seed(seed)) > 0.5
        target = net[0](split.images).detach()
        loss = F.cross_entropy(net(split.images), split.labels)
        loss = loss + branch.weight * (branch.own(net[0](split.images * mask)) - target).square().mean()
        gradients = torch.autograd.grad(loss, parameters)
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        clip = min(1.0, (config.clip_norm or math.inf) / (norm + 1e-6))
        with torch.no_grad():
            for parameter, v, gradient in zip(parameters, velocity, gradients, strict=True):
                g = gradient * clip + config.weight_decay * parameter
                v.mul_(config.momentum).add_(g)
                parameter -= config.lr * (g + config.momentum * v)
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("change", [{}, {"channels_last": True}], ids=str)
def test_two_backward_passes_equal_a_loop_by_hand(change: dict[str, Any]) -> None:
    config = dataclasses.replace(BY_HAND, **change)
    net, branch, split = network(dropout=0.0), Branch(), examples()
    net_by_hand, branch_by_hand = copy.deepcopy(net).train(), Branch()
    losses = train_by_hand(net_by_hand, branch_by_hand, split, config)
    history = fit(net, split, config, objective=branch)
    assert [r.train_loss for r in history.epochs] == pytest.approx(losses, rel=1e-4)
    for record in history.epochs:
        assert record.parts["task"] + record.parts["branch"] == pytest.approx(record.train_loss)
    for name, parameter in net_by_hand.named_parameters():
        torch.testing.assert_close(net.get_parameter(name), parameter, rtol=1e-4, atol=1e-5, msg=name)
    for name, parameter in branch_by_hand.own.named_parameters():
        torch.testing.assert_close(branch.own.get_parameter(name), parameter, rtol=1e-4, atol=1e-5, msg=name)
    assert all(p.grad is None and p.is_contiguous() for p in (*net.parameters(), *branch.own.parameters()))


def test_the_default_is_an_objective_like_any_other() -> None:
    config = dataclasses.replace(CONFIG, distill_weight=0.3, precision="bf16")
    teacher = network(norm=False)
    given, implied = network(), network()
    want = fit(implied, examples(), config, teacher=teacher)
    found = fit(given, examples(), config, objective=Supervised(config, teacher))
    assert same(given, implied)
    assert timeless(found) == timeless(want)
    assert isinstance(Supervised(CONFIG), Objective)
    assert isinstance(Branch(), Objective)


class OneByOne:
    """The mean cross-entropy, from one backward pass per half of the batch."""

    one_pass = False
    own = None
    frozen = ()

    def describe(self) -> dict[str, Any]:
        return {"objective": "halves"}

    def step(self, step: Step) -> Outcome:
        logits, losses = [], []
        for half in (slice(0, None, 2), slice(1, None, 2)):
            logits.append(step.forward(step.images[half]))
            losses.append(F.cross_entropy(logits[-1], step.labels[half], reduction="sum") / len(step.labels))
            step.backward(losses[-1])
        both = torch.empty(len(step.labels), logits[0].shape[1])
        both[::2], both[1::2] = logits[0].detach(), logits[1].detach()
        return Outcome(logits=both, loss=(losses[0] + losses[1]).detach())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_gradients_of_the_parts_add_up(precision: Any) -> None:
    config = TrainConfig(epochs=2, batch_size=20, lr=0.1, precision=precision, clip_norm=0.5)
    whole, halves = network(norm=False, dropout=0.0), network(norm=False, dropout=0.0)
    want = fit(whole, examples(), config)
    found = fit(halves, examples(), config, objective=OneByOne())
    tolerance = 1e-5 if precision == "fp32" else 2e-3
    for a, b in zip(want.epochs, found.epochs, strict=True):
        assert (a.train_accuracy, a.train_loss) == pytest.approx((b.train_accuracy, b.train_loss), rel=2e-2)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(halves.state_dict()[name], value, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize(
    "change", [{}, {"optimizer": "adamw", "lr": 0.01}, {"precision": "fp16", "clip_norm": 0.5}], ids=str
)
def test_resuming_gives_the_bits_of_the_uninterrupted_run(tmp_path: Path, change: dict[str, Any]) -> None:
    config = dataclasses.replace(CONFIG, **change)
    whole, branch = network(), Branch()
    want = fit(whole, examples(), config, objective=branch)
    path = tmp_path / "last.pt"
    with pytest.raises(StopError):
        fit(network(), examples(), config, objective=Branch(), checkpoint=path, progress=StopAt(17))
    resumed, resumed_branch = network(), Branch()
    nn.init.zeros_(resumed_branch.own.weight)  # comes from the checkpoint
    found = fit(resumed, examples(), config, objective=resumed_branch, checkpoint=path)
    assert same(whole, resumed)
    assert same(branch.own, resumed_branch.own)
    assert not same(branch.own, Branch().own)
    assert timeless(found) == timeless(want)


def test_killed_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    checkpoint, out = tmp_path / "last.pt", tmp_path / "weights.pt"
    with run_worker(checkpoint, out, "--objective", "--hang-at", 17) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "step 17\n":
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    with run_worker(checkpoint, out, "--objective") as process:
        assert process.communicate()[0].splitlines()[0] == "start 14"
    whole, branch = network(), Branch()
    fit(whole, examples(), CONFIG, val=examples(30), objective=branch)
    found = torch.load(out, weights_only=True)["weights"]
    for name, value in {**whole.state_dict(), **branch.own.state_dict(prefix="own.")}.items():
        assert torch.equal(found[name], value), name


def test_a_checkpoint_belongs_to_an_objective_with_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    config = dataclasses.replace(CONFIG, epochs=1)
    fit(network(), examples(), config, objective=Branch(), checkpoint=path)
    with pytest.raises(RunMismatch, match=r"'weight': 0\.5.* there and .*'weight': 0\.7"):
        fit(network(), examples(), config, objective=Branch(0.7), checkpoint=path)
    with pytest.raises(RunMismatch, match="'supervised'"):
        fit(network(), examples(), config, checkpoint=path)
    wider = Branch()
    wider.own = nn.Conv2d(8, 8, 3, padding=1)
    with pytest.raises(RunMismatch, match="objective's parameters is"):
        fit(network(), examples(), config, objective=wider, checkpoint=path)


def test_checkpoints_of_the_former_format_are_named(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    torch.save({"format": 1, "model": {}}, path)
    with pytest.raises(RunMismatch, match=r"format 2 can be read, but .* has 1; delete it"):
        fit(network(), examples(), CONFIG, checkpoint=path)


def test_placement_modes_and_types_follow_the_model_and_come_back() -> None:
    seen = []

    class Watching(Branch):
        def __init__(self, teacher: nn.Module) -> None:
            super().__init__()
            self.frozen = (teacher,)

        def step(self, step: Step) -> Outcome:
            seen.append((self.own.weight.dtype, self.own.training, self.frozen[0].training))
            self.frozen[0](step.images)
            return super().step(step)

    objective = Watching(network().half())
    objective.own.eval()
    before = copy.deepcopy(objective.frozen[0].state_dict())
    fit(network().double(), examples(), TrainConfig(epochs=1, batch_size=50), objective=objective)
    assert set(seen) == {(torch.float64, True, False)}
    assert objective.own.weight.dtype == torch.float32
    assert not objective.own.training
    assert objective.frozen[0].training
    for name, value in objective.frozen[0].state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])


def test_seeds_depend_on_seed_and_step_alone() -> None:
    seeds: dict[int, list[int]] = {}
    for seed in (0, 1, 0):
        found: list[int] = []

        class Seeing(Branch):
            def step(self, step: Step, found: list[int] = found) -> Outcome:
                found.append(step.seed)
                assert step.number == len(found) - 1
                return super().step(step)

        fit(network(), examples(), TrainConfig(epochs=2, batch_size=25, seed=seed), objective=Seeing())
        assert seeds.setdefault(seed, found) == found
    assert len({*seeds[0], *seeds[1]}) == 16


class Nan(Branch):
    def step(self, step: Step) -> Outcome:
        outcome = super().step(step)
        return outcome if step.number < 3 else dataclasses.replace(outcome, loss=outcome.loss * math.nan)


def test_nan_stops_before_the_weights_are_touched() -> None:
    net, branch = network(norm=False), Nan()
    with pytest.raises(NonFiniteLoss, match=r"became nan in epoch 1 at step 4 of 28"):
        fit(net, examples(), CONFIG, objective=branch)
    three, three_branch = network(norm=False), Branch()
    with pytest.raises(StopError):
        fit(three, examples(), CONFIG, objective=three_branch, progress=StopAt(3))
    assert same(net, three)
    assert same(branch.own, three_branch.own)
    assert all(p.grad is None for p in (*net.parameters(), *branch.own.parameters()))


class Changing(Branch):
    def step(self, step: Step) -> Outcome:
        outcome = super().step(step)
        return dataclasses.replace(outcome, parts={f"stage {step.number}": outcome.loss})


class Odd(Branch):
    def describe(self) -> dict[str, Any]:
        return {"weights": torch.zeros(3)}


def test_bad_objectives_and_arguments() -> None:
    one_epoch = TrainConfig(epochs=1)
    with pytest.raises(ConfigError, match=r"the same parts of its loss at every step, but got .'stage 1'"):
        fit(network(), examples(), TrainConfig(epochs=1, batch_size=20), objective=Changing())
    with pytest.raises(ConfigError, match="describe itself by JSON data"):
        fit(network(), examples(), one_epoch, objective=Odd())
    with pytest.raises(ConfigError, match="got one beside Branch; hand it to that"):
        fit(network(), examples(), one_epoch, objective=Branch(), teacher=network())
    with pytest.raises(LabelOutOfRange, match="the training split has label"):
        fit(network(), examples(classes=5), one_epoch, objective=Branch())


@pytest.mark.parametrize("terminal", [True, False])
def test_parts_in_the_progress_line(terminal: bool) -> None:
    out = io.StringIO()
    reporter = RichReporter("super-net", Console(file=out, force_terminal=terminal, width=200))
    fit(network(), examples(64), TrainConfig(epochs=2, batch_size=32), objective=Branch(), progress=reporter)
    assert "(task " in out.getvalue()
    assert ", branch 0." in out.getvalue()


def test_parts_in_tensorboard(tmp_path: Path) -> None:
    fit(network(), examples(64), TrainConfig(epochs=1, batch_size=32), objective=Branch(), trackers=tmp_path)
    events = b"".join(path.read_bytes() for path in tmp_path.rglob("events.out.tfevents*"))
    assert b"parts/branch" in events


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    found = []
    for processes in (1, 2):
        out = tmp_path / f"weights{processes}.pt"
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        arguments = [str(WORKER), str(tmp_path / f"last{processes}.pt"), str(out), "--plain", "--objective"]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "ACCELERATE_USE_CPU": "true",
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        }
        subprocess.run([*launch, *arguments], check=True, env=environment, timeout=300)
        found.append(torch.load(out, weights_only=True))
    assert found[0]["val"] == found[1]["val"]
    assert "own.weight" in found[0]["weights"]
    for name, value in found[0]["weights"].items():
        torch.testing.assert_close(found[1]["weights"][name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_seeds_depend_on_every_number_and_on_how_many_there_are() -> None:
    sets = [(7,), (7, 0), (7, 0, 0), (0, 7), (7, 1), (1, 7), (8,)]
    assert len({derived_seed(*numbers) for numbers in sets}) == len(sets)
