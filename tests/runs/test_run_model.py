"""Saving and loading small networks: another process, no pickle, no data."""

import json
import subprocess
import sys

import pytest
import torch

import widthwise
from widthwise.errors import ConfigError, CorruptRun, SubnetMismatch


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("saved")
    model = widthwise.build_model("mobilenet_v1", num_classes=5, width=0.25).eval()
    graph = widthwise.trace(model, torch.randn(1, 3, 32, 32))
    keep = torch.rand(graph.num_channels) < 0.6
    for group in graph.prunable:
        keep[group.ids[0]] = True
    subnet = graph.subnet(keep)
    small = widthwise.materialize(model, graph, subnet)
    spec = widthwise.zoo.model_spec("mobilenet_v1", num_classes=5, width=0.25)
    widthwise.save(folder, small, graph, subnet, builder=spec)
    return folder, small, graph, subnet, model


def test_loaded_in_a_fresh_process_computes_the_same(saved, tmp_path):
    folder, small, *_ = saved
    x = torch.randn(2, 3, 32, 32)
    torch.save(x, tmp_path / "x.pt")
    code = (
        "import sys, torch, widthwise\n"
        "x = torch.load(sys.argv[2], weights_only=True)\n"
        "with torch.no_grad(): y = widthwise.load(sys.argv[1])(x)\n"
        "torch.save(y, sys.argv[3])\n"
    )
    subprocess.run([sys.executable, "-c", code, folder, tmp_path / "x.pt", tmp_path / "y.pt"], check=True)
    with torch.no_grad():
        assert torch.equal(torch.load(tmp_path / "y.pt", weights_only=True), small(x))


def test_depthwise_groups_follow_the_loaded_width(saved):
    folder, small, *_ = saved
    loaded = widthwise.load(folder)
    pairs = zip(loaded.modules(), small.modules(), strict=True)
    groups = [(a.groups, b.groups) for a, b in pairs if isinstance(a, torch.nn.Conv2d)]
    assert all(a == b for a, b in groups)
    assert any(a > 1 for a, _ in groups)


def test_subnet_file_names_what_was_kept(saved):
    folder, _, graph, subnet, _ = saved
    facts = json.loads((folder / "subnet.json").read_text())
    assert facts["builder"]["spec"] == "mobilenet_v1"
    assert widthwise.Subnet.from_dict(facts["subnet"]) == subnet
    for group in graph.prunable:
        assert len(facts["kept"][group.name]) == int(subnet.keep[group.ids].sum())


def test_saving_something_else_than_the_subnet_is_refused(saved, tmp_path):
    _, _, graph, subnet, model = saved
    with pytest.raises(SubnetMismatch, match="its own subnet"):
        widthwise.save(tmp_path / "wrong", model, graph, subnet)
    assert not (tmp_path / "wrong" / "model.safetensors").exists()


def test_without_a_builder_load_asks_for_one(saved, tmp_path):
    _, small, graph, subnet, _ = saved
    widthwise.save(tmp_path, small, graph, subnet)
    with pytest.raises(SubnetMismatch, match="builder="):
        widthwise.load(tmp_path)
    loaded = widthwise.load(tmp_path, builder=lambda: widthwise.build_model("mobilenet_v1", num_classes=5, width=0.25))
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(x), small(x))


def test_another_architecture_is_refused(saved):
    with pytest.raises(SubnetMismatch, match="must make the architecture"):
        widthwise.load(saved[0], builder="resnet20")


def test_the_same_layers_of_other_sizes_are_refused(tmp_path):
    """A larger window runs as well, and norms of more channels would be cut into other groups."""

    def net(channels=8, window=3):
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, channels, window, padding=window // 2),
            torch.nn.GroupNorm(4, channels),
            torch.nn.Conv2d(channels, 4, 1),
        )

    model = net()
    graph = widthwise.trace(model, torch.randn(1, 3, 8, 8))
    subnet = graph.subnet(widths={"0": 2})  # pairs of channels
    widthwise.save(tmp_path, widthwise.materialize(model, graph, subnet), graph, subnet)
    for other in (lambda: net(window=5), lambda: net(channels=16)):
        with pytest.raises(SubnetMismatch, match=r"but 0\.weight"):
            widthwise.load(tmp_path, builder=other)
    assert widthwise.load(tmp_path, builder=net)[1].num_groups == 2


def lazy():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.LazyConv2d(4, 1))


def test_a_builder_must_make_the_model_before_anything_is_saved(saved, tmp_path):
    """As many tensors of other shapes, other tensors, and layers that wait for their first input."""
    _, small, graph, subnet, _ = saved
    spec = widthwise.zoo.model_spec("mobilenet_v1", num_classes=7, width=0.25)
    with pytest.raises(ConfigError, match=r"'num_classes': 7.* has other tensors: .*model_spec\('mobilenet_v1'"):
        widthwise.save(tmp_path, small, graph, subnet, builder=spec)
    with pytest.raises(ConfigError, match="resnet20 with no arguments has other tensors"):
        widthwise.save(tmp_path, small, graph, subnet, builder="resnet20")
    model = lazy()
    model(torch.randn(1, 3, 8, 8))
    plain = widthwise.trace(model, torch.randn(1, 3, 8, 8))
    with pytest.raises(ConfigError, match=r"has other tensors: 1\.weight"):
        widthwise.save(tmp_path, model, plain, plain.subnet(), builder=f"{__name__}:lazy")
    assert not list(tmp_path.iterdir())


class Positions(torch.nn.Module):
    """Keeps a table for the size of image that it saw last."""

    def __init__(self):
        super().__init__()
        self.conv, self.out = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.conv(x)
        if not hasattr(self, "table") or self.table.shape != x.shape[2:]:
            self.register_buffer("table", torch.linspace(0, 1, x[0, 0].numel()).reshape(x.shape[2:]), persistent=False)
        return self.out(x + self.table)


@pytest.mark.parametrize("before", [None, 8, 12])
def test_a_table_that_is_made_for_each_size_of_image_is_no_part_of_the_architecture(before, tmp_path):
    model, x = Positions().eval(), torch.randn(1, 3, 8, 8)
    if before:
        model(torch.randn(1, 3, before, before))
    graph = widthwise.trace(model, x)
    model(torch.randn(1, 3, 10, 10))
    subnet = graph.subnet(widths={"conv": 3})
    small = widthwise.materialize(model, graph, subnet)
    expected = small(x)
    widthwise.save(tmp_path, small, graph, subnet)
    assert torch.equal(widthwise.load(tmp_path, builder=Positions)(x), expected)


def test_damaged_files_are_named(saved, tmp_path):
    folder = saved[0]
    for name in ("subnet.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:100])
    with pytest.raises(CorruptRun, match=r"model\.safetensors"):
        widthwise.load(tmp_path)
    (tmp_path / "subnet.json").write_text('{"format": 99}')
    with pytest.raises(CorruptRun, match="newer"):
        widthwise.load(tmp_path)


def test_a_builder_with_named_weights_is_stored_without_them(tmp_path):
    model = widthwise.build_model("torchvision:squeezenet1_1").eval()
    graph = widthwise.trace(model, torch.randn(1, 3, 64, 64))
    subnet = graph.subnet(widths={graph.prunable[0]: 20})
    small = widthwise.materialize(model, graph, subnet)
    widthwise.save(tmp_path, small, graph, subnet, builder="torchvision:squeezenet1_1@IMAGENET1K_V1")
    assert json.loads((tmp_path / "subnet.json").read_text())["builder"]["spec"] == "torchvision:squeezenet1_1"
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(widthwise.load(tmp_path)(x), small(x))
