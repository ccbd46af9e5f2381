"""The loop: one step by hand, what is restored, precision, errors."""

import copy
import dataclasses
import io
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState, is_initialized
from rich.console import Console
from torch import Tensor, nn
from train_worker import CONFIG, Examples, examples, network

from widthwise.errors import ConfigError, EmptyData, LabelOutOfRange, NonFiniteLoss
from widthwise.evaluate import accuracy
from widthwise.train import EpochRecord, History, Plan, RichReporter, StepStatus, TrainConfig, fit


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def reference_sgd(net: nn.Module, split: Examples, config: TrainConfig, teacher: nn.Module | None = None) -> None:
    """Whole-batch SGD with Nesterov momentum, weight decay, smoothing and clipping, written out."""
    velocity = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for _ in range(config.epochs):
        logits = net(split.images)
        loss = F.cross_entropy(logits, split.labels, label_smoothing=config.label_smoothing)
        if teacher is not None:
            t = config.distill_temperature
            p = (teacher(split.images) / t).softmax(1)
            divergence = (p * (p.log() - (logits / t).log_softmax(1))).sum(1).mean()
            loss = (1 - config.distill_weight) * loss + config.distill_weight * t * t * divergence
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        clip = 1.0 if config.clip_norm is None else min(1.0, config.clip_norm / (norm + 1e-6))
        with torch.no_grad():
            for (name, parameter), gradient in zip(net.named_parameters(), gradients, strict=True):
                decays = config.decay_norm or parameter.ndim > 1
                g = gradient * clip + (config.weight_decay * parameter if decays else 0)
                v = velocity[name].mul_(config.momentum).add_(g)
                parameter -= config.lr * (g + config.momentum * v if config.nesterov else v)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"nesterov": False, "label_smoothing": 0.2},
        {"decay_norm": False, "weight_decay": 0.1},
        {"clip_norm": 0.05},
        {"channels_last": True},
        {"distill_weight": 0.4},
    ],
    ids=str,
)
def test_steps_equal_the_formula(change: dict[str, object]) -> None:
    settings = {"epochs": 3, "batch_size": 100, "lr": 0.2, "schedule": "constant", "augment": False}
    config = TrainConfig(**{**settings, **change})
    net, split = network(dropout=0.0), examples()
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)) if config.distill_weight else None
    by_hand = copy.deepcopy(net).train()
    reference_sgd(by_hand, split, config, teacher)
    fit(net, split, config, teacher=teacher)
    for name, parameter in by_hand.named_parameters():
        torch.testing.assert_close(net.get_parameter(name), parameter, rtol=1e-4, atol=1e-5, msg=name)


def test_adamw_equals_torch() -> None:
    config = TrainConfig(
        epochs=3, batch_size=100, optimizer="adamw", lr=0.01, weight_decay=0.1, schedule="constant", augment=False
    )
    net, split = network(dropout=0.0), examples()
    by_hand = copy.deepcopy(net).train()
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(by_hand(split.images), split.labels).backward()
        optimizer.step()
    fit(net, split, config)
    for name, parameter in by_hand.named_parameters():
        if name != "0.bias":  # no gradient through batch norm but noise, which AdamW blows up
            torch.testing.assert_close(net.get_parameter(name), parameter, rtol=1e-3, atol=1e-4, msg=name)


def test_it_learns_and_the_history_says_so() -> None:
    net, split = network(), examples(200)
    val = examples(60)
    history = fit(net, split, TrainConfig(epochs=6, batch_size=20, lr=0.1), val=val)
    assert [(r.epoch, r.steps) for r in history.epochs] == [(e, 10 * e) for e in range(1, 7)]
    assert history.epochs[-1].train_loss < history.epochs[0].train_loss
    assert history.val_accuracy == accuracy(net, val) > 0.8
    assert history.steps == 60


def test_the_seed_alone_decides_and_the_global_random_state_is_kept() -> None:
    found = []
    for global_seed, seed in ((0, 3), (1, 3), (0, 4)):
        net = network()
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        fit(net, examples(), dataclasses.replace(CONFIG, seed=seed))
        assert torch.equal(torch.get_rng_state(), state)
        found.append(weights(net)["6.weight"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_max_steps_cuts_an_epoch_short_and_spans_the_schedule() -> None:
    history = fit(network(), examples(), TrainConfig(max_steps=9, epochs=1, batch_size=16, lr=0.1))
    assert [r.steps for r in history.epochs] == [7, 9]
    assert history.epochs[-1].lr == pytest.approx(0.1 * (1 + math.cos(math.pi * 8 / 9)) / 2)


@pytest.mark.parametrize("settings", [{"epochs": 0}, {"max_steps": 0}])
def test_nothing_to_train(settings: dict[str, int]) -> None:
    net = network()
    before = weights(net)
    assert fit(net, examples(), TrainConfig(**settings)) == History(())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_precisions_one_after_the_other_in_one_process() -> None:
    found = {}
    for precision in ("bf16", "fp32", "fp16", "fp32"):
        net = network(dropout=0.0)
        config = TrainConfig(epochs=3, batch_size=20, precision=precision, channels_last=precision == "bf16")
        found[precision] = fit(net, examples(), config).epochs[-1].train_loss
        assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert found["bf16"] == pytest.approx(found["fp32"], rel=0.05)
    assert found["fp16"] == pytest.approx(found["fp32"], rel=0.05)
    assert len(set(found.values())) == 3


def test_the_model_comes_back_as_it_was_but_trained() -> None:
    net = network()
    net.eval()
    net[1].train()
    net[0].weight.requires_grad_(False)
    parameters = [id(p) for p in net.parameters()]
    flags = [m.training for m in net.modules()]
    attributes = [set(vars(m)) for m in net.modules()]
    frozen, head = net[0].weight.clone(), net[6].weight.clone()
    teacher = network(norm=False).train()
    config = TrainConfig(
        epochs=1, batch_size=20, precision="bf16", channels_last=True, distill_weight=0.5, clip_norm=1.0
    )
    fit(net, examples(), config, teacher=teacher)
    assert [id(p) for p in net.parameters()] == parameters
    assert [m.training for m in net.modules()] == flags
    assert [set(vars(m)) for m in net.modules()] == attributes
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())
    assert all(p.grad is None and p.is_contiguous() for p in net.parameters())
    assert torch.equal(net[0].weight, frozen)
    assert not torch.equal(net[6].weight, head)
    assert all(m.training for m in teacher.modules())
    assert torch.equal(teacher[6].weight, network(norm=False)[6].weight)
    copy.deepcopy(net)


def test_half_precision_models_are_trained_in_float32_and_rounded() -> None:
    full = network(dropout=0.0)
    half = copy.deepcopy(full).bfloat16()
    full.load_state_dict(half.state_dict())
    config = TrainConfig(epochs=2, batch_size=20)
    fit(full, examples(), config)
    fit(half, examples(), config)
    for name, value in full.state_dict().items():
        assert torch.equal(half.state_dict()[name], value.to(half.state_dict()[name].dtype)), name


def test_double_precision_models() -> None:
    net = network().double()
    fit(net, examples(), TrainConfig(epochs=1), val=examples(20))
    assert {p.dtype for p in net.parameters()} == {torch.float64}


def test_accelerate_is_left_as_it_was() -> None:
    try:
        fit(network(), examples(), TrainConfig(epochs=1))
        assert not is_initialized()
        Accelerator(mixed_precision="bf16")  # not refused after a fit
        with pytest.raises(ConfigError, match="create that with mixed_precision='no'"):
            fit(network(), examples(), TrainConfig(epochs=1))
        AcceleratorState._reset_state()
        own = Accelerator(mixed_precision="no")
        fit(network(), examples(), TrainConfig(epochs=1, precision="bf16"))
        assert own.mixed_precision == "no"
    finally:
        AcceleratorState._reset_state()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_on_an_accelerator(precision: str) -> None:
    net = network(dropout=0.0)
    config = TrainConfig(epochs=6, batch_size=20, precision=precision, channels_last=True)
    history = fit(net, examples(200), config, val=examples(60), teacher=None)
    assert history.val_accuracy is not None
    assert history.val_accuracy > 0.8
    assert {t.device.type for t in net.state_dict().values()} == {"cpu"}
    with pytest.raises(NonFiniteLoss, match=r"became nan in epoch 1 at step [1-7] of 28"):
        fit(net, Poisoned(50), CONFIG)


class Poisoned(Examples):
    def __init__(self, at: int) -> None:
        super().__init__(examples().images, examples().labels)
        self.images[at] = float("nan")


def test_nan_stops_with_step_and_rate_and_weights_are_those_before() -> None:
    net = network(norm=False)
    with pytest.raises(NonFiniteLoss, match=r"became nan in epoch 1 at step [1-7] of 28, with learning rate 0\.") as e:
        fit(net, Poisoned(50), CONFIG)
    assert "lower lr, raise warmup_epochs, set clip_norm" in str(e.value)
    assert all(p.isfinite().all() and p.grad is None for p in net.parameters())
    assert net.training


def test_divergence_stops() -> None:
    config = TrainConfig(epochs=40, batch_size=20, lr=1e12, momentum=0.0, nesterov=False, schedule="constant")
    with pytest.raises(NonFiniteLoss, match="must stay finite"):
        fit(network(norm=False), examples(), config)


def test_weights_spoiled_by_the_last_step_are_noticed() -> None:
    net = network(norm=False)
    config = TrainConfig(max_steps=1, batch_size=100, lr=3e38, weight_decay=1e9, schedule="constant")
    with pytest.raises(NonFiniteLoss, match=r"a weight \(0.weight\) became nan in epoch 1 at step 1"):
        fit(net, examples(), config)


def test_a_last_single_image_is_left_out_where_there_is_batch_norm() -> None:
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(3), nn.Linear(3, 3))
    config = TrainConfig(epochs=1, batch_size=33, augment=False)
    assert fit(net, examples(100), config).steps == 3  # and 1 image over
    plain = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    assert fit(plain, examples(100), config).steps == 4


def test_bad_input() -> None:
    one_epoch = TrainConfig(epochs=1)
    with pytest.raises(EmptyData, match="at least 2 images"):
        fit(network(), examples(1), one_epoch)
    with pytest.raises(LabelOutOfRange, match=r"the training split has label [34] at position"):
        fit(network(), examples(classes=5), one_epoch)
    with pytest.raises(ConfigError, match="distillation needs a teacher"):
        fit(network(), examples(), TrainConfig(distill_weight=0.5))
    with pytest.raises(ConfigError, match="requires_grad"):
        fit(network().requires_grad_(False), examples(), one_epoch)
    with pytest.raises(ConfigError, match="class scores"):
        fit(nn.Conv2d(3, 3, 3), examples(), one_epoch)


class Recorder:
    def __init__(self) -> None:
        self.calls: list[object] = []

    def start(self, plan: Plan) -> None:
        self.calls.append(plan)

    def step(self, status: StepStatus) -> None:
        self.calls.append(status)

    def epoch(self, record: EpochRecord) -> None:
        self.calls.append(record)

    def finish(self) -> None:
        self.calls.append("finish")


def test_the_reporter_hears_everything_in_order() -> None:
    recorder = Recorder()
    history = fit(network(), examples(64), TrainConfig(epochs=2, batch_size=32), progress=recorder)
    kinds = [type(call).__name__ for call in recorder.calls]
    epoch = ["StepStatus", "StepStatus", "EpochRecord"]
    assert kinds == ["Plan", *epoch, *epoch, "str"]
    assert recorder.calls[0] == Plan(epochs=2, total_steps=4, done_steps=0)
    last = recorder.calls[-3]
    assert (last.epoch, last.step) == (2, 4)
    assert last.loss == pytest.approx(history.epochs[-1].train_loss)


def test_the_reporter_is_finished_after_an_error() -> None:
    recorder = Recorder()
    with pytest.raises(NonFiniteLoss):
        fit(network(), Poisoned(3), CONFIG, progress=recorder)
    assert recorder.calls[-1] == "finish"


@pytest.mark.parametrize("terminal", [True, False])
def test_rich_progress(terminal: bool) -> None:
    out = io.StringIO()
    reporter = RichReporter("fine-tuning", Console(file=out, force_terminal=terminal, width=200))
    fit(network(), examples(64), TrainConfig(epochs=2, batch_size=32), val=examples(20), progress=reporter)
    text = out.getvalue()
    if terminal:
        assert "epoch 2/2, loss" in text
        assert "left" in text
    else:
        assert len(text.splitlines()) == 2
        assert "fine-tuning: epoch 2/2, loss" in text
        assert "validation" in text


def test_tensorboard_through_accelerate(tmp_path: Path) -> None:
    for _ in range(2):  # twice: trackers are closed and the process stays usable
        fit(network(), examples(64), TrainConfig(epochs=2, batch_size=32), val=examples(20), trackers=tmp_path)
    events = list(tmp_path.rglob("events.out.tfevents*"))
    assert events
    assert b"val_accuracy" in b"".join(path.read_bytes() for path in events)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, when inductor is imported
def test_compiled_training_equals_eager() -> None:
    eager, compiled = network(dropout=0.0), network(dropout=0.0)
    fit(eager, examples(), TrainConfig(epochs=2, batch_size=20))
    fit(compiled, examples(), TrainConfig(epochs=2, batch_size=20, compile=True))
    assert type(compiled) is nn.Sequential
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, rtol=1e-3, atol=1e-4)
