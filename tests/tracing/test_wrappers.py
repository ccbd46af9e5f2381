"""Models in states that a trace cannot take are refused with the rule, what was got and the remedy; others work."""

import copy
import functools
import io
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.flop_counter import FlopCounterMode

import oracle
import widthwise
from widthwise.errors import UntraceableModel
from widthwise.tracing.probe.refuse import check_model, did_not_run


class Net(nn.Module):
    """Two convolutions that can be pruned, and a block to wrap alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.block = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU())
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.stem(x)).mean((2, 3)))


GROUPS = ["stem", "block.2"]
INPUTS = torch.randn(2, 3, 10, 10, generator=torch.Generator().manual_seed(0))


def names(model: nn.Module, inputs: Any = INPUTS) -> list[str]:
    return [g.name for g in widthwise.trace(model, inputs).prunable]


def assert_refused(model: Any, *words: str) -> None:
    """Each word (of the rule, of what was got, of the remedy) is in the message."""
    with pytest.raises(UntraceableModel) as error:
        widthwise.trace(model, INPUTS)
    for word in words:
        assert word in str(error.value)


def assert_the_remedy_works(model: nn.Module) -> None:
    """Traced, pruned and the same as the reference."""
    graph = widthwise.trace(model, INPUTS)
    assert [g.name for g in graph.prunable] == GROUPS
    oracle.check_subnet(model, graph, oracle.random_keep(graph, 0), INPUTS, 1e-5)


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A real process group, of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def test_data_parallel() -> None:
    model = nn.DataParallel(Net())
    assert_refused(model, "without a wrapper", "DataParallel", "Pass model.module", "wrap the small network")
    assert_the_remedy_works(model.module)


def test_distributed_data_parallel(group: None) -> None:
    model = DistributedDataParallel(Net())
    model(INPUTS).sum().backward()  # in use
    assert_refused(model, "without a wrapper", "DistributedDataParallel", "Pass model.module", "wrap the small network")
    assert_the_remedy_works(model.module)


def test_the_small_network_trains_distributed(group: None) -> None:
    """Wrapped instead of the full one, it has the gradients that it has alone."""
    model = DistributedDataParallel(Net())
    graph = widthwise.trace(model.module, INPUTS)
    small = widthwise.materialize(model.module, graph, graph.subnet(oracle.random_keep(graph, 0)))
    alone = copy.deepcopy(small)
    alone(INPUTS).square().sum().backward()
    DistributedDataParallel(small)(INPUTS).square().sum().backward()
    for one, other in zip(small.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_wrapped_part_is_named(group: None) -> None:
    model = Net()
    model.block = DistributedDataParallel(model.block)
    assert_refused(model, "its part 'block' is of class DistributedDataParallel", "with the module of 'block'")
    model.block = model.block.module
    assert_the_remedy_works(model)


@pytest.mark.filterwarnings("ignore:FSDP is switching to use `NO_SHARD`:UserWarning", "ignore:FSDP:FutureWarning")
def test_fully_sharded(group: None) -> None:
    model = FullyShardedDataParallel(Net(), device_id=torch.device("cpu"))
    assert_refused(model, "without a wrapper", "FullyShardedDataParallel", "Trace the model before it is sharded")
    sharded = Net()
    fully_shard(sharded, mesh=init_device_mesh("cpu", (1,)))
    assert_refused(sharded, "without a wrapper", "FSDPModule", "Trace the model before it is sharded")


def test_tensors_that_are_spread_over_processes(group: None) -> None:
    model = Net()
    model.head.weight = nn.Parameter(distribute_tensor(model.head.weight.detach(), init_device_mesh("cpu", (1,))))
    assert_refused(model, "plain tensors", "'head.weight' is a DTensor", "before it is sharded")


def test_fake_tensors() -> None:
    with FakeTensorMode():
        model = Net()
    assert_refused(model, "plain tensors", "'stem.weight' is a FakeTensor", "before it is")


def test_compiled() -> None:
    model = torch.compile(Net(), backend="eager")
    assert_refused(model, "without a wrapper", "OptimizedModule", "Pass model._orig_mod", "compile the small network")
    plain = model._orig_mod
    assert isinstance(plain, nn.Module)
    assert_the_remedy_works(plain)
    part = Net()
    part.block = torch.compile(part.block, backend="eager")
    assert_refused(part, "'block'", "OptimizedModule", "the _orig_mod of 'block' in its place")


def test_compiled_in_place_and_functions_that_are_compiled() -> None:
    """Nothing is compiled for a trace: copies run as they are written."""
    compilations: list[object] = []

    def backend(module: torch.fx.GraphModule, example: list[Tensor]) -> Callable[..., Any]:
        compilations.append(module)
        return module.forward

    model = Net()
    model.compile(backend=backend)
    assert names(model) == GROUPS
    double = torch.compile(lambda x: x * 2 + 1, backend=backend)
    model.block.append(nn.Identity())
    model.block[-1].forward = types.MethodType(lambda self, x: double(x), model.block[-1])
    assert names(model) == GROUPS
    assert not compilations
    torch._dynamo.reset()
    model.eval()(INPUTS)
    assert compilations  # so they are when it runs
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m, INPUTS)], ids=["script", "trace"])
def test_scripted(make: Callable[[nn.Module], nn.Module]) -> None:
    assert_refused(make(Net().eval()), "as the Python code", "Module, whose code", "Pass the module that it was made")


def test_a_graph_module_is_traced_like_any_other() -> None:
    assert_the_remedy_works(torch.fx.symbolic_trace(Net()))


@pytest.mark.filterwarnings("ignore:`isinstance\\(treespec:FutureWarning")
def test_an_exported_program_as_a_module_is_traced_like_any_other() -> None:
    """The sizes that it checks are those of its inputs."""
    module = torch.export.export(Net().eval(), (INPUTS,)).module()
    graph = widthwise.trace(module, INPUTS)
    assert [g.width for g in graph.prunable] == [8, 6]


def test_lazy() -> None:
    model = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    assert_refused(model, "have its shape", "'0.weight' is lazy", "Run model(*inputs) once")
    model(INPUTS)
    assert names(model) == ["0"]


def test_meta() -> None:
    with torch.device("meta"):
        model = Net()
    assert_refused(model, "runs the model", "'stem.weight' is on the meta device", "to_empty(device='cpu')")
    partly = Net()
    partly.head.to("meta")
    assert_refused(partly, "'head.weight' is on the meta device")
    assert_the_remedy_works(oracle.randomise(model.to_empty(device="cpu"), 0))


def quantised(kind: str) -> nn.Module:
    """Float models in three states of quantisation."""
    quantisation = torch.ao.quantization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all of it is deprecated in favour of another package
        if kind == "dynamically":
            return quantisation.quantize_dynamic(Net(), {nn.Linear})
        model = nn.Sequential(quantisation.QuantStub(), nn.Conv2d(3, 8, 3), nn.ReLU(), quantisation.DeQuantStub())
        model.qconfig = quantisation.get_default_qat_qconfig("x86")
        quantisation.prepare_qat(model.train(), inplace=True)
        model(INPUTS)
        return model if kind == "prepared" else quantisation.convert(model.eval())


@pytest.mark.parametrize(
    ("kind", "got"),
    [
        ("dynamically", "part 'head._packed_params' is of class LinearPackedParams"),
        ("prepared", "is of class FusedMovingAvgObsFakeQuantize"),
        ("converted", "part '1' is of class Conv2d"),
    ],
)
def test_quantised(kind: str, got: str) -> None:
    assert_refused(quantised(kind), "before a model is quantised", got, "Trace the float model")


def test_a_quantised_buffer() -> None:
    model = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.register_buffer("table", torch.quantize_per_tensor(torch.randn(3), 0.1, 0, torch.qint8))
    assert_refused(model, "plain tensors", "'table' is a quantised tensor")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Net, ("takes a module", "the class Net", "instance")),
        (lambda x: x, ("takes a module", "a function", "nn.Module")),
        (functools.partial(Net), ("takes a module", "a partial", "nn.Module")),
        (Net().state_dict(), ("takes a module", "a OrderedDict", "nn.Module")),
    ],
)
def test_what_is_no_module(model: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(UntraceableModel) as error:
        check_model(model)  # `trace` itself is checked by the types that these tests switch on
    for word in words:
        assert word in str(error.value)


def test_a_model_that_cannot_be_copied_says_what_is_to_blame() -> None:
    model = Net()
    model.block.lock = threading.Lock()
    assert_refused(model, "private copy", "attribute 'lock' of 'block', a lock", "__deepcopy__")
    del model.block.lock
    model.block[2].cache = SimpleNamespace(scaled=model.stem.weight * 2)
    assert_refused(model, "attribute 'cache' of 'block.2', a SimpleNamespace", "tensors with a history")
    del model.block[2].cache
    assert_the_remedy_works(model)


def test_what_modules_keep_of_their_last_run_is_copied() -> None:
    """Attention biases looked up in a forward with gradients have a history, which deepcopy refuses."""
    model = Net()
    model.block[2].cache = {"scaled": [model.stem.weight * 2]}
    graph = widthwise.trace(model, torch.rand(1, 3, 8, 8))
    assert graph.prunable
    small = widthwise.materialize(model, graph, graph.subnet(widths={graph.prunable[0]: 1}))
    assert small.block[2].cache["scaled"][0].is_leaf


def bound_to_the_original(model: Net, kind: str) -> Net:
    """Functions that hold on to the parameters of the model that they were made for."""
    if kind == "forward":
        old = model.forward
        model.forward = lambda x: old(x) * 2
    elif kind == "forward of a part":
        part = model.block[2].forward
        model.block[2].forward = lambda x: part(x) * 2
    else:
        bias = model.head.bias
        model.head.register_forward_hook(lambda _, __, out: out * bias)
    return model


@pytest.mark.parametrize("kind", ["forward", "forward of a part", "hook"])
def test_a_forward_that_uses_another_models_parameters(kind: str) -> None:
    """Every copy, and so every sub-network, would compute with the parameters of the full network."""
    model = bound_to_the_original(Net(), kind)
    assert_refused(model, "parameters of its own", "bias", "of the original", "method of the class")


def test_forwards_and_hooks_that_are_bound_to_their_module_work() -> None:
    model = Net()
    model.forward = types.MethodType(lambda self, x: Net.forward(self, x) * 2, model)
    model.head.register_forward_hook(lambda module, _, out: out * module.bias)
    seen: list[torch.Size] = []
    model.block.register_forward_hook(lambda _, __, out: seen.append(out.shape))
    assert_the_remedy_works(model)


def test_averaged_weights() -> None:
    """It holds a copy of its own, so there is nothing to unwrap."""
    average = AveragedModel(Net())
    average.update_parameters(Net())
    assert names(average) == [f"module.{name}" for name in GROUPS]


def test_parameters_made_in_inference_mode() -> None:
    with torch.inference_mode():
        model = Net()
    assert names(model) == GROUPS


@pytest.mark.parametrize("wrap", [FlopCounterMode, torch.autograd.set_detect_anomaly])
def test_inside_other_modes(wrap: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anomaly detection announces itself
        with wrap(False) if wrap is torch.autograd.set_detect_anomaly else wrap(display=False):
            assert names(Net()) == GROUPS


def test_the_default_type_does_not_matter() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        model = Net()
        graph = widthwise.trace(model, INPUTS.double())
    finally:
        torch.set_default_dtype(torch.float32)
    assert [g.name for g in graph.prunable] == GROUPS
    assert {p.dtype for p in widthwise.materialize(model, graph, graph.subnet()).parameters()} == {torch.float64}


def test_the_default_device_does_not_matter() -> None:
    """Such as an accelerator's after ``torch.set_default_device``; `meta` stands for it here."""
    model = Net()
    with torch.device("meta"):
        assert names(model) == GROUPS


def test_a_refused_model_is_left_as_it_was() -> None:
    model = nn.DataParallel(Net())
    before = io.BytesIO()
    torch.save(model.state_dict(), before)
    with pytest.raises(UntraceableModel):
        widthwise.trace(model, INPUTS)
    after = io.BytesIO()
    torch.save(model.state_dict(), after)
    assert before.getvalue() == after.getvalue()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.gpu
def test_on_an_accelerator_the_trace_is_the_same() -> None:
    device = torch.accelerator.current_accelerator()
    model = Net()
    expected = {axis: ids.tolist() for axis, ids in widthwise.trace(model, INPUTS).axes.items()}
    graph = widthwise.trace(model.to(device), INPUTS.to(device))
    assert {axis: ids.tolist() for axis, ids in graph.axes.items()} == expected
    small = widthwise.materialize(model, graph, graph.subnet(oracle.random_keep(graph, 0)))
    assert {p.device for p in small.parameters()} == {p.device for p in model.parameters()}
    assert small(INPUTS.to(device)).shape == (2, 4)


def test_the_error_of_a_forward_names_the_devices() -> None:
    with torch.device("meta"):  # stands for an accelerator's
        model = Net()
    error = did_not_run(model, ({"image": INPUTS},), RuntimeError("expected all tensors on one device"))
    for word in ("must run on the example", "float32 [2, 3, 10, 10] on cpu", "one device", "inputs.to('meta')"):
        assert word in str(error)


@pytest.mark.gpu
def test_a_model_and_inputs_on_different_devices() -> None:
    device = torch.accelerator.current_accelerator()
    model = Net().to(device)
    assert_refused(model, "must run on the example inputs", "on cpu", f"inputs.to('{next(model.parameters()).device}')")
