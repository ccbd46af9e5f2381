"""Adaptive batch norm against statistics recomputed from the raw tensors."""

import copy
import itertools

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from widthwise.errors import ConfigError, EmptyData, TrainingError
from widthwise.evaluate import CalibrationResult, adaptive_bn


class Net(nn.Module):
    """Two batch norms, the second behind dropout, which must stay off."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3)
        self.bn1 = nn.BatchNorm2d(5)
        self.drop = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(5, 4, 3, stride=2)
        self.bn2 = nn.BatchNorm2d(4, momentum=None)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.bn1(self.conv1(x)).relu())
        x = self.bn2(self.conv2(x)).relu()
        return self.head(x.mean((2, 3)))


def images(n: int = 24, seed: int = 1, size: int = 9) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def snapshot(model: nn.Module) -> dict[str, object]:
    return {
        "flags": [m.training for m in model.modules()],
        "momenta": [m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)],
        "hooks": [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()],
        "buffers": [id(b) for b in model.buffers()],
        "parameters": [id(p) for p in model.parameters()],
        "rng": torch.get_rng_state().tolist(),
    }


def pooled(values: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance per channel over a list of [B, C, H, W], in float64."""
    flat = torch.cat([v.double().transpose(0, 1).flatten(1) for v in values], dim=1)
    return flat.mean(1), flat.var(1)


def reference(net: Net, batches: list[Tensor]) -> dict[str, Tensor]:
    """Both layers' statistics, each layer normalising by its own batch; float64."""
    net = copy.deepcopy(net).double().eval()
    first = [net.conv1(b.double()) for b in batches]
    second = []
    for x in first:
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
        y = (x - mean) / (var + net.bn1.eps).sqrt()
        y = y * net.bn1.weight[:, None, None] + net.bn1.bias[:, None, None]
        second.append(net.conv2(y.relu()))
    names = ("bn1.running_mean", "bn1.running_var", "bn2.running_mean", "bn2.running_var")
    return dict(zip(names, (*pooled(first), *pooled(second)), strict=True))


@pytest.mark.parametrize("sizes", [[24], [12, 12], [7, 11, 6], [2, 22]], ids=str)
def test_pooled_over_all_images_whatever_the_split(sizes: list[int]) -> None:
    net = Net()
    batches = list(images().split(sizes))
    first = pooled([net.conv1(images()).detach()])

    result = adaptive_bn(net, batches)

    assert result == CalibrationResult(2, 24, result.message)
    assert "2 batch-norm layers over 24 images" in result.message
    torch.testing.assert_close(net.bn1.running_mean, first[0].float(), rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(net.bn1.running_var, first[1].float(), rtol=2e-6, atol=2e-6)
    for name, value in reference(net, batches).items():
        torch.testing.assert_close(net.get_buffer(name), value.float(), rtol=5e-6, atol=5e-6, msg=name)


def test_it_is_neither_a_moving_average_nor_a_mean_of_variances() -> None:
    net = Net()
    batches = [images(4), images(20, seed=2) * 3 + 10]
    adaptive_bn(net, batches)
    batch_variances = torch.stack([net.conv1(b).var((0, 2, 3)) for b in batches]).mean(0)
    assert (net.bn1.running_var > 1.5 * batch_variances).all()


def test_restores_everything_but_the_statistics() -> None:
    net = Net().train()
    net.drop.eval()
    net.bn2.num_batches_tracked.fill_(7)
    before, weights = snapshot(net), [p.clone() for p in net.parameters()]
    adaptive_bn(net, images().split(8))
    assert snapshot(net) == before
    assert net.bn2.num_batches_tracked == 7
    assert all(torch.equal(p, w) for p, w in zip(net.parameters(), weights, strict=True))
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_in_the_pass_leaves_the_model_as_it_was(error: type[BaseException]) -> None:
    net = Net().train()
    before, state = snapshot(net), copy.deepcopy(net.state_dict())

    def batches() -> object:
        yield images(8)
        torch.rand(3)  # random numbers drawn by the loader are given back as well
        raise error("the disk is gone")

    with pytest.raises(error, match="the disk is gone"):
        adaptive_bn(net, batches())
    assert snapshot(net) == before
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_nan_in_the_images_is_an_error_and_changes_nothing() -> None:
    net = Net()
    state = copy.deepcopy(net.state_dict())
    bad = images(8)
    bad[0, 0, 0, 0] = float("nan")
    with pytest.raises(TrainingError, match="'bn1' is not"):
        adaptive_bn(net, [images(8), bad])
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_old_statistics_that_are_not_finite_do_no_harm() -> None:
    net, clean = Net(), Net()
    clean.load_state_dict(net.state_dict())
    net.bn1.running_mean.fill_(float("nan"))
    net.bn2.running_var.fill_(float("inf"))
    adaptive_bn(net, [images()])
    adaptive_bn(clean, [images()])
    assert torch.equal(net.bn1.running_mean, clean.bn1.running_mean)
    assert torch.equal(net.bn2.running_var, clean.bn2.running_var)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_half_precision_models(dtype: torch.dtype, shift: float) -> None:
    net = Net().to(dtype)
    net.conv1.bias.data += shift
    batches = [b.to(dtype) for b in images(200).split(50)]
    entered: list[Tensor] = []
    with net.conv1.register_forward_hook(lambda _m, _a, out: entered.append(out.clone())):
        adaptive_bn(net, batches)
    mean, var = pooled(entered)
    assert net.bn1.running_var.dtype == dtype
    assert torch.equal(net.bn1.running_mean, mean.to(dtype))
    assert torch.equal(net.bn1.running_var, var.to(dtype))
    assert net(batches[0]).dtype == dtype
    assert net.bn1.weight.dtype == dtype


def test_float16_sums_do_not_overflow_but_a_variance_that_does_is_named() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3)).half()
    large = (images(64) * 50).half()  # the sum of squares is far beyond 65504
    adaptive_bn(net, [large])
    torch.testing.assert_close(net[0].running_var.double(), pooled([large])[1], rtol=1e-3, atol=0)
    before = net[0].running_var.clone()
    with pytest.raises(TrainingError, match="keep the layer in float32"):
        adaptive_bn(net, [(images(64) * 2000).half()])
    assert torch.equal(net[0].running_var, before)


def test_under_autocast_and_channels_last() -> None:
    net = Net().eval()
    adaptive_bn(net, images(64).split(16))
    want = copy.deepcopy(net.state_dict())
    adaptive_bn(net, images(64).split(16), precision="bf16", channels_last=True)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, want[name], rtol=0.02, atol=0.02)
        assert value.dtype == want[name].dtype


def test_double_precision_is_pooled_in_double() -> None:
    net = Net().double()
    adaptive_bn(net, images().double().split(9))
    for name, value in reference(net, list(images().double().split(9))).items():
        torch.testing.assert_close(net.get_buffer(name), value, rtol=1e-12, atol=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_on_an_accelerator(dtype: torch.dtype) -> None:
    net = Net().to(dtype)
    batches = list(images(60).to(dtype).split(20))
    on_gpu = copy.deepcopy(net).cuda()
    state = torch.cuda.get_rng_state()
    adaptive_bn(net, batches)
    adaptive_bn(on_gpu, batches)
    assert torch.equal(torch.cuda.get_rng_state(), state)
    tolerance = 1e-3 if dtype == torch.float32 else 2e-2  # TF32 in the convolutions
    for name, value in net.state_dict().items():
        torch.testing.assert_close(on_gpu.state_dict()[name].cpu(), value, rtol=tolerance, atol=tolerance)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(input=self.bn(x)[:, :, :4] * 3 + 1)


def test_a_layer_used_twice_pools_all_its_inputs() -> None:
    net = Twice()
    batches = list(images().split([10, 14]))
    adaptive_bn(net, batches)
    entered = list(batches)
    for x in batches:
        normal = nn.functional.batch_norm(x, None, None, net.bn.weight, net.bn.bias, training=True)
        entered.append(normal[:, :, :4] * 3 + 1)
    mean, var = pooled(entered)
    torch.testing.assert_close(net.bn.running_mean, mean.detach().float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(net.bn.running_var, var.detach().float(), rtol=1e-5, atol=1e-5)


def test_subclasses_one_dimension_and_sync() -> None:
    net = nn.Sequential(
        BatchNormAct2d(3, drop_layer=lambda: nn.Dropout(0.9)),
        nn.SyncBatchNorm(3),
        nn.Flatten(),
        nn.BatchNorm1d(243),
    )
    x = images()
    assert adaptive_bn(net, [x]).layers == 3
    torch.testing.assert_close(net[0].running_var, pooled([x])[1].float())
    hidden = nn.functional.batch_norm(x, None, None, training=True).relu()  # no dropout
    torch.testing.assert_close(net[1].running_mean, hidden.mean((0, 2, 3)), rtol=1e-5, atol=1e-5)
    flat = nn.functional.batch_norm(hidden, None, None, training=True).flatten(1)
    torch.testing.assert_close(net[3].running_var, flat.var(0), rtol=1e-4, atol=1e-5)


class Unreached(Net):
    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.BatchNorm2d(7)
        self.untracked = nn.BatchNorm2d(5, track_running_stats=False)


def test_layers_that_are_not_reached_keep_their_statistics_and_are_named() -> None:
    net = Unreached()
    net.auxiliary.running_mean.fill_(3)
    result = adaptive_bn(net, [images()])
    assert result.layers == 2
    assert "did not reach auxiliary" in result.message
    assert (net.auxiliary.running_mean == 3).all()


def test_without_batch_norm_nothing_is_run() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))
    batches = (pytest.fail("the batches were read") for _ in itertools.count())
    result = adaptive_bn(net, batches)
    assert (result.layers, result.images) == (0, 0)
    assert "no batch norm" in result.message


@pytest.mark.parametrize("wrap", [lambda x: (x, 0), lambda x: [x], lambda x: {"image": x, "label": 0}])
def test_batches_may_carry_labels(wrap: object) -> None:
    net, plain = Net(), Net()
    plain.load_state_dict(net.state_dict())
    adaptive_bn(net, [wrap(images().double())])
    adaptive_bn(plain, [images()])
    assert torch.equal(net.bn1.running_mean, plain.bn1.running_mean)


def test_bad_input() -> None:
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))
    state = copy.deepcopy(net.state_dict())
    with pytest.raises(EmptyData, match="at least one batch"):
        adaptive_bn(net, [])
    with pytest.raises(EmptyData, match="at least one batch"):
        adaptive_bn(net, [images()[:0]])
    with pytest.raises(ConfigError, match=r"layer '1' was given shape \(1, 3, 1, 1\); use larger batches"):
        adaptive_bn(net, [images(), images(1)])
    with pytest.raises(ConfigError, match="a batch must be a tensor of images"):
        adaptive_bn(net, ["cat.png"])
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name]), name
