"""Networks as files: they compute the same, for any number of images, or are not kept."""

import errno
import json
import random
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import widthwise
from widthwise import export_model
from widthwise.cli import main
from widthwise.errors import ConfigError, ExportFailed, SaveFailed


def halved(name: str, size: int, channels: int = 3) -> nn.Module:
    model, example = widthwise.build_model(name), torch.randn(1, channels, size, size)
    graph = widthwise.trace(model, example)
    return widthwise.materialize(model, graph, graph.subnet(widths=(graph.full_widths + 1) // 2))


def run_onnx(path: Path, images: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {"images": images.numpy()})
    return torch.from_numpy(outputs)


def run_program(path: Path, images: Tensor) -> Tensor:
    outputs = torch.export.load(path).module()(images)
    assert isinstance(outputs, Tensor)
    return outputs


@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")  # torch.export.load
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("suffix", "run"), [("onnx", run_onnx), ("pt2", run_program)])
def test_a_file_computes_the_same_for_any_number_of_images(suffix, run, batch: int, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model = halved("digits_net", 8, 1).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    path = export_model(model, tmp_path / "new" / f"model.{suffix}", torch.randn(batch, 1, 8, 8))
    assert [file.name for file in path.parent.iterdir()] == [f"model.{suffix}"]
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    model.eval()
    for count in (1, 7):
        images = torch.randn(count, 1, 8, 8)
        with torch.no_grad():
            torch.testing.assert_close(run(path, images), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")  # torch.export.load
@pytest.mark.parametrize(("suffix", "run"), [("onnx", run_onnx), ("pt2", run_program)])
def test_half_precision_may_round_elsewhere(suffix, run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model = halved("digits_net", 8, 1).half().eval()
    path = export_model(model, tmp_path / f"model.{suffix}", torch.randn(2, 1, 8, 8).half())
    images = torch.randn(3, 1, 8, 8).half()
    with torch.no_grad():
        torch.testing.assert_close(run(path, images), model(images), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("torchvision:mobilenet_v3_small", 64),
        pytest.param("torchvision:shufflenet_v2_x1_0", 64, marks=pytest.mark.slow),
        pytest.param("torchvision:densenet121", 64, marks=pytest.mark.slow),
        pytest.param("torchvision:convnext_tiny", 64, marks=pytest.mark.slow),
        pytest.param("torchvision:efficientnet_b0", 64, marks=pytest.mark.slow),
        pytest.param("timm:ghostnet_100", 64, marks=pytest.mark.slow),
    ],
)
def test_pruned_networks_of_many_kinds(name: str, size: int, tmp_path: Path) -> None:
    model = halved(name, size).eval()
    path = export_model(model, tmp_path / "model.onnx", torch.randn(2, 3, size, size))
    images = torch.randn(3, 3, size, size)
    with torch.no_grad():
        wanted = model(images)
    torch.testing.assert_close(run_onnx(path, images), wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


class Pairs(nn.Module):
    """Only for batches of two."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).reshape(2, 144)


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_what_takes_one_size_of_batch_only_is_exported_for_that(suffix: str, tmp_path: Path) -> None:
    path, example = tmp_path / f"model.{suffix}", torch.randn(2, 1, 8, 8)
    with pytest.raises(ExportFailed, match="fixed_batch"):
        export_model(Pairs(), path, example)
    assert not list(tmp_path.iterdir())
    assert export_model(Pairs(), path, example, fixed_batch=True) == path


class Moody(nn.Module):
    """Never the same twice."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) * (1 + random.random())


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_a_file_that_computes_something_else_is_not_kept(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(ExportFailed, match="differ by"):
        export_model(Moody(), tmp_path / f"model.{suffix}", torch.ones(2, 1, 4, 4))
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("mine")
    with pytest.raises(ConfigError, match="exists"):
        export_model(Moody(), tmp_path / "model.onnx", torch.ones(2, 1, 4, 4))
    assert (tmp_path / "model.onnx").read_text() == "mine"


def test_a_link_to_nowhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").symlink_to(tmp_path / "net.bin")
    with pytest.raises(ConfigError, match="exists"):
        export_model(Moody(), tmp_path / "model.pt2", torch.ones(2, 1, 4, 4))


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_a_full_disk_is_called_that(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr("torch.onnx.export", full)
    with pytest.raises(SaveFailed, match="No space left"):
        export_model(halved("digits_net", 8, 1), tmp_path / f"model.{suffix}", torch.ones(2, 1, 8, 8))
    assert not list(tmp_path.iterdir())


def test_the_suffix_says_the_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.onnx .* \.pt2"):
        export_model(Moody(), tmp_path / "model.pth", torch.ones(2, 1, 4, 4))


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"no {name}")

    monkeypatch.setattr("widthwise.export.formats.import_module", missing)
    with pytest.raises(ConfigError, match=r"widthwise\[export\]"):
        export_model(halved("digits_net", 8, 1), tmp_path / "model.onnx", torch.ones(2, 1, 8, 8))


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    brief = ["--train.epochs", "1", "--finetune.epochs", "1", "--fnnp.candidates", "2", "--fnnp.finalists", "1"]
    assert main(["prune", *brief, "--run", str(run)]) == 0
    assert main(["export", str(run)]) == 0
    images = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(
            run_onnx(run / "model.onnx", images), widthwise.load(run)(images), rtol=1e-4, atol=1e-5
        )
    assert "computes what the network" in capsys.readouterr().out
    assert main(["export", str(run)]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["export", str(run), "--to", "pt2", "--fixed_batch", "3", "--out", str(tmp_path / "three.pt2")]) == 0
    assert (tmp_path / "three.pt2").exists()
    assert main(["export", str(run), "--fixed_batch", "0", "--out", str(tmp_path / "none.onnx")]) == 2
    facts = json.loads((run / "subnet.json").read_text())
    (run / "subnet.json").write_text(json.dumps({**facts, "builder": None}))  # as compress leaves it without one
    capsys.readouterr()
    for command in (["export", str(run), "--out", str(tmp_path / "again.onnx")], ["evaluate", str(run)]):
        assert main(command) == 2
        assert "--builder" in capsys.readouterr().err
        assert main([*command, "--builder", "digits_net"]) == 0
