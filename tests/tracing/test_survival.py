"""What is done to networks is done to sub-networks too: stored, copied, compiled, exported, trained, cast, moved."""

import copy
import functools
import gc
import io
import multiprocessing
import pickle
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import oracle
import widthwise
from widthwise import ChannelGraph, Subnet
from widthwise.zoo import build_model


class Forked(nn.Module):
    """What real networks are seldom made of, all in one: tied weights, a free parameter, a transposed and a grouped
    convolution, a module registered twice, buffers that are and are not saved, a dictionary as output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.left, self.right = nn.Conv2d(12, 8, 1), nn.Conv2d(12, 8, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.act = self.same_act = nn.PReLU(6)
        self.scale = nn.Parameter(torch.ones(1, 8, 1, 1))
        self.register_buffer("offset", torch.zeros(1, 8, 1, 1))
        self.register_buffer("hidden", torch.full((1, 6, 1, 1), 0.5), persistent=False)
        self.mix, self.head, self.aux = nn.Linear(6, 6, bias=False), nn.Linear(6, 5), nn.Linear(6, 2)
        self.mix_again = nn.Linear(6, 6, bias=False)
        self.mix_again.weight = self.mix.weight

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.norm(self.stem(x)).relu()
        x = (self.left(x) * self.scale + self.right(x) + self.offset).relu()
        x = self.same_act(self.act(self.up(x)) * self.hidden).mean((2, 3))
        return {"main": self.head(self.mix_again(self.mix(x).relu())), "aux": self.aux(x)}


@dataclass(frozen=True)
class Case:
    build: Callable[[], nn.Module]
    graph: ChannelGraph
    inputs: Tensor
    others: Tensor

    @property
    def model(self) -> nn.Module:
        return self.graph.model

    def subnet(self, kind: str = "random") -> Subnet:
        if kind == "random":
            return self.graph.subnet(oracle.random_keep(self.graph, 1))
        return self.graph.subnet(widths=dict.fromkeys(self.graph.prunable, 1), importance="random")

    def small(self, kind: str = "random") -> nn.Module:
        """In evaluation mode, with random weights and statistics."""
        return widthwise.materialize(self.model, self.graph, self.subnet(kind)).eval()


BUILDERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "forked": (Forked, (3, 8, 8)),
    "digits_net": (lambda: build_model("digits_net", num_classes=5), (1, 8, 8)),
    "resnet20": (lambda: build_model("resnet20", num_classes=5), (3, 32, 32)),
    "mobilenet_v1": (lambda: build_model("mobilenet_v1", num_classes=5), (3, 32, 32)),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=5), (3, 32, 32)),
    "shufflenet_v2_x0_5": (lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=5), (3, 32, 32)),
    "mobilenet_v3_small": (lambda: torchvision.models.mobilenet_v3_small(num_classes=5), (3, 32, 32)),
    "densenet121": (lambda: torchvision.models.densenet121(num_classes=5), (3, 32, 32)),
}


def tiny(name: str) -> tuple[Callable[[], nn.Module], tuple[int, int, int]]:
    """One of timm's networks for tests."""
    return lambda: timm.create_model(name, num_classes=5), timm.get_pretrained_cfg(name).input_size


BUILDERS.update({name: tiny(name) for name in timm.list_models("test_*")})
QUICK = (
    *("forked", "digits_net", "mobilenet_v1", "resnet18", "shufflenet_v2_x0_5", "mobilenet_v3_small"),
    *("test_byobnet", "test_convnext", "test_vit"),
)
COMPILED = ("forked", "digits_net", "shufflenet_v2_x0_5")
"""Those that are compiled and exported in the quick tests."""


def over(quick: tuple[str, ...]) -> Any:
    """Run a test on some networks, and on all others where slow tests are run."""
    rest = [pytest.param(name, marks=pytest.mark.slow) for name in BUILDERS if name not in quick]
    return pytest.mark.parametrize("name", [*quick, *rest])


@functools.cache
def case(name: str) -> Case:
    build, shape = BUILDERS[name]
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    inputs, others = (torch.randn(4, *shape, generator=generator) for _ in range(2))
    graph = widthwise.trace(build(), inputs[:1])
    oracle.randomise(graph.model, 0).eval()
    return Case(build, graph, inputs, others)


def call(model: Any, inputs: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return oracle.call(model, inputs)


def storages(model: nn.Module) -> set[int]:
    return {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers()) if t.numel()}


def assert_same(found: Any, expected: list[Tensor], inputs: Tensor, tolerance: float = 1e-6) -> None:
    """Up to rounding, which depends on where a tensor lies in memory."""
    assert oracle.distance(call(found, inputs), expected) <= tolerance


KINDS = pytest.mark.parametrize("kind", ["random", "narrowest"])


@KINDS
@over(QUICK)
def test_a_state_dict_fits_every_copy_of_the_same_subnetwork(name: str, kind: str) -> None:
    this = case(name)
    first = this.small(kind)
    other = widthwise.materialize(oracle.randomise(this.build(), 7), this.graph, this.subnet(kind)).eval()
    assert list(first.state_dict()) == list(this.model.state_dict()) == list(other.state_dict())
    expected = call(first, this.inputs)
    assert oracle.distance(call(other, this.inputs), expected) > 1e-3
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    result = other.load_state_dict(torch.load(buffer, weights_only=True), strict=True)
    assert not result.missing_keys
    assert not result.unexpected_keys
    assert_same(other, expected, this.inputs)
    with pytest.raises(RuntimeError, match="size mismatch"):
        this.build().load_state_dict(first.state_dict())


@KINDS
@over(QUICK)
def test_saved_and_loaded_it_is_the_same_module(name: str, kind: str, tmp_path: Path) -> None:
    this = case(name)
    small = this.small(kind)
    with torch.no_grad():
        for parameter in small.parameters():  # trained since
            parameter.mul_(1.01)
    widthwise.save(tmp_path, small, this.graph, this.subnet(kind))
    again = widthwise.load(tmp_path, builder=this.build)
    assert repr(again) == repr(small)  # sizes in attributes
    assert again.state_dict().keys() == small.state_dict().keys()
    for tensor, value in small.state_dict().items():
        assert torch.equal(again.state_dict()[tensor], value), tensor
    assert_same(again, call(small, this.inputs), this.inputs)


@KINDS
@over(QUICK)
def test_copied_and_pickled_it_is_the_same_module_with_tensors_of_its_own(name: str, kind: str) -> None:
    this = case(name)
    small = this.small(kind)
    expected = call(small, this.inputs)
    for other in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert repr(other) == repr(small)
        assert not storages(other) & storages(small)
        assert not storages(other) & storages(this.model)
        assert_same(other, expected, this.inputs)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
    assert_same(small, expected, this.inputs)


@over(("forked", "digits_net"))
def test_it_holds_nothing_of_the_model_that_it_was_made_of(name: str) -> None:
    build, shape = BUILDERS[name]
    model = build()
    graph = widthwise.trace(model, torch.randn(1, *shape))
    small = widthwise.materialize(model, graph, graph.subnet(oracle.random_keep(graph, 0)))
    modules = {id(m) for m in model.modules()}
    assert not modules & {id(m) for m in small.modules()}
    gone = [weakref.ref(m) for m in (*model.modules(), *model.parameters())]
    del model, graph
    gc.collect()
    assert not [r() for r in gone if r() is not None]
    assert call(small.eval(), torch.randn(1, *shape))


def loss_of(model: nn.Module, inputs: Tensor) -> Tensor:
    targets = torch.arange(len(inputs)) % 5
    torch.manual_seed(0)  # dropout
    out = model(inputs)
    if isinstance(out, dict):
        return nn.functional.cross_entropy(out["main"], targets) + out["aux"].square().mean()
    return nn.functional.cross_entropy(out, targets)


@over(QUICK)
def test_a_training_step_changes_it_as_the_gradient_says(name: str) -> None:
    """Down the gradient by a step for which the loss should fall by a thousandth: it falls by that."""
    this = case(name)
    before = {n: t.clone() for n, t in this.model.state_dict().items()}
    small = this.small().double().train()
    inputs = this.inputs.double()
    statistics = {n: b.clone() for n, b in small.named_buffers()}
    loss = loss_of(small, inputs)
    loss.backward()
    gradients = {n: p.grad for n, p in small.named_parameters()}
    assert [n for n, g in gradients.items() if g is None or not g.isfinite().all()] == []
    for module_name, module in small.named_modules():
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            for buffer in ("running_mean", "running_var", "num_batches_tracked"):
                old = statistics[f"{module_name}.{buffer}"]
                assert not torch.equal(old, module.get_buffer(buffer)), f"{module_name}.{buffer}"
    length = sum(float(g.square().sum()) for g in gradients.values() if g is not None)
    assert length > 0
    expected_fall = 1e-4 * loss.item()
    torch.optim.SGD(small.parameters(), lr=expected_fall / length).step()
    fall = loss.item() - loss_of(small, inputs).item()
    assert 0.5 * expected_fall < fall < 1.5 * expected_fall
    assert all(torch.equal(before[n], t) for n, t in this.model.state_dict().items())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.06), (torch.float16, 0.01)])
@over(QUICK)
def test_in_half_precision(name: str, dtype: torch.dtype, tolerance: float) -> None:
    this = case(name)
    small = this.small()
    expected = call(small, this.inputs)
    cast = small.to(dtype)
    found = call(cast, this.inputs.to(dtype))
    assert {t.dtype for t in found} == {dtype}
    assert oracle.distance(found, expected) < tolerance
    parent = copy.deepcopy(this.model).to(dtype)
    same = widthwise.materialize(parent, this.graph, this.subnet())
    assert {t.dtype for t in same.parameters()} == {dtype}
    assert_same(same, found, this.inputs.to(dtype))


def kernels(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((n, p) for n, p in model.named_parameters() if p.ndim == 4)


@KINDS
@over(QUICK)
def test_channels_last_stays_channels_last(name: str, kind: str) -> None:
    this = case(name)
    plain = this.small(kind)
    assert all(p.is_contiguous() for _, p in kernels(plain))
    parent = copy.deepcopy(this.model).to(memory_format=torch.channels_last)
    small = widthwise.materialize(parent, this.graph, this.subnet(kind)).eval()
    assert [n for n, p in kernels(small) if not p.is_contiguous(memory_format=torch.channels_last)] == []
    expected = call(plain, this.inputs)
    inputs = this.inputs.to(memory_format=torch.channels_last)
    assert_same(small, expected, inputs, 1e-5)
    assert_same(plain.to(memory_format=torch.channels_last), expected, inputs, 1e-5)


def test_volumes_stay_channels_last_too() -> None:
    model = nn.Sequential(nn.Conv3d(2, 8, 3), nn.ReLU(), nn.Conv3d(8, 6, 1), nn.ReLU(), nn.Conv3d(6, 2, 3)).eval()
    inputs = torch.randn(1, 2, 6, 6, 6)
    model.to(memory_format=torch.channels_last_3d)
    graph = widthwise.trace(model, inputs)
    small = widthwise.materialize(model, graph, graph.subnet(oracle.random_keep(graph, 0)))
    assert all(p.is_contiguous(memory_format=torch.channels_last_3d) for p in small.parameters() if p.ndim == 5)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")
@KINDS
@over(COMPILED)
def test_through_torch_jit_trace_and_a_file(name: str, kind: str) -> None:
    this = case(name)
    small = this.small(kind)
    traced = torch.jit.trace(small, this.inputs, strict=False)
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer)
    buffer.seek(0)
    assert_same(torch.jit.load(buffer), call(small, this.others), this.others, 1e-5)


@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")  # torch.export.load
@over(COMPILED)
def test_through_torch_export_and_a_file(name: str) -> None:
    this = case(name)
    small = this.small()
    expected = call(small, this.others)
    program = torch.export.export(small, (this.inputs,))
    assert_same(program.module(), expected, this.others, 1e-5)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    assert_same(torch.export.load(buffer).module(), expected, this.others, 1e-5)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@over(COMPILED)
def test_through_torch_compile_without_a_break(name: str, fresh_compiler: None) -> None:
    this = case(name)
    small = this.small()
    compiled = torch.compile(small, backend="eager", fullgraph=True)
    assert_same(compiled, call(small, this.others), this.others, 1e-5)


@over(("forked",))
def test_gradients_through_torch_compile(name: str, fresh_compiler: None) -> None:
    this = case(name)
    small, twin = this.small().train(), this.small().train()
    loss_of(twin, this.inputs).backward()
    loss_of(torch.compile(small, backend="aot_eager"), this.inputs).backward()  # type: ignore[arg-type]
    for (parameter, found), (_, expected) in zip(small.named_parameters(), twin.named_parameters(), strict=True):
        assert found.grad is not None, parameter
        assert expected.grad is not None, parameter
        scale = float(expected.grad.abs().max().clamp(min=1e-3))
        assert float((found.grad - expected.grad).abs().max()) / scale < 1e-3, parameter


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # the compiler itself
@pytest.mark.slow
@pytest.mark.parametrize("name", ["forked", "resnet18", "shufflenet_v2_x0_5", "mobilenet_v3_small", "test_nfnet"])
def test_through_the_default_compiler(name: str, fresh_compiler: None) -> None:
    this = case(name)
    small = this.small()
    assert_same(torch.compile(small), call(small, this.others), this.others, 1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "digits_net",
        "resnet20",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("shufflenet_v2_x0_5", "mobilenet_v1", "densenet121")),
    ],
)
def test_it_is_traced_like_any_other_model(name: str) -> None:
    """And each of its groups is as wide as the sub-network said; one channel cannot be removed any further."""
    this = case(name)
    subnet = this.subnet()
    again = widthwise.trace(this.small(), this.inputs[:1])
    kept = {g.name: w for g, w in zip(this.graph.prunable, this.graph.widths(subnet).tolist(), strict=True)}
    assert {g.name: g.width for g in again.prunable} == {n: w for n, w in kept.items() if w > 1}
    keep = oracle.random_keep(again, 0)
    assert oracle.check_subnet(again.model, again, keep, this.inputs[:1], 1e-5) <= 1e-5


def in_another_process(pickled: bytes, inputs: list[Any]) -> list[Any]:
    return [t.tolist() for t in call(pickle.loads(pickled), torch.tensor(inputs))]


@pytest.mark.slow
def test_another_process_computes_the_same() -> None:
    this = case("digits_net")
    small = this.small()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(in_another_process, (pickle.dumps(small), this.inputs.tolist()))
    assert oracle.distance([torch.tensor(f) for f in found], call(small, this.inputs)) < 1e-6


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["forked", "resnet18", "mobilenet_v3_small"])
def test_on_an_accelerator(name: str) -> None:
    this = case(name)
    expected = call(this.small(), this.inputs)
    device = torch.accelerator.current_accelerator()
    assert device is not None
    parent = copy.deepcopy(this.model).to(device)
    found = call(widthwise.materialize(parent, this.graph, this.subnet()), this.inputs.to(device))
    moved = call(this.small().to(device), this.inputs.to(device))
    for outputs in (found, moved):
        assert {t.device.type for t in outputs} == {device.type}
        assert oracle.distance([t.cpu() for t in outputs], expected) < 1e-2  # TF32
