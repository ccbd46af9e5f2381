"""Weight files: what is unwrapped, what is refused, and that a refusal changes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from widthwise.errors import UnreadableData, WeightsMismatch
from widthwise.zoo import load_weights, read_weights


def _net(width: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Sequential(nn.Conv2d(width, 2, 1)))


def _prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight


class Wrapper(nn.Module):
    """A model with a child named `model`, as a prefix would be."""

    def __init__(self) -> None:
        super().__init__()
        self.model = _net()


State = dict[str, Tensor]
WRAPPED: dict[str, Callable[[State], Any]] = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"state": {}}},
    "model_state_dict": lambda s: {"model_state_dict": s, "loss": 0.1},
    "model": lambda s: {"model": s, "args": None},
    "net": lambda s: {"net": s, "acc": 95.0},
    "ema": lambda s: {"ema": s},
    "model in state_dict": lambda s: {"state_dict": {"model": s}},
    "plain before ema": lambda s: {"ema": {"x": torch.zeros(1)}, "state_dict": s},
    "DataParallel": lambda s: {"state_dict": _prefixed(s, "module.")},
    "compiled": lambda s: _prefixed(s, "_orig_mod."),
    "compiled DataParallel": lambda s: _prefixed(s, "module._orig_mod."),
    "compiled child": lambda s: {key.replace("2.", "2._orig_mod."): value for key, value in s.items()},
    "Lightning": lambda s: {"state_dict": _prefixed(s, "model."), "callbacks": {}},
    "AveragedModel": lambda s: {"n_averaged": torch.tensor(7), **_prefixed(s, "module.")},
    "half precision": lambda s: {key: value.half() if value.is_floating_point() else value for key, value in s.items()},
    "without batch counts": lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("wrapping", list(WRAPPED))
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
def test_loads_from_the_usual_wrappings(tmp_path: Path, wrapping: str, suffix: str) -> None:
    source, model = _net(), _net()
    torch.save(WRAPPED[wrapping](source.state_dict()), tmp_path / f"w{suffix}")
    load_weights(model, tmp_path / f"w{suffix}")
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if wrapping == "half precision" else {"rtol": 0.0, "atol": 0.0}
    for key, value in source.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, **tolerance)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_loads_safetensors(tmp_path: Path, prefix: str) -> None:
    source, model = _net(), _net()
    save_file(_prefixed(source.state_dict(), prefix), tmp_path / "w.safetensors")
    load_weights(model, str(tmp_path / "w.safetensors"))
    assert all(torch.equal(model.state_dict()[key], value) for key, value in source.state_dict().items())


def test_a_child_named_like_a_prefix_keeps_its_name(tmp_path: Path) -> None:
    source, model = Wrapper(), Wrapper()
    torch.save(source.state_dict(), tmp_path / "w.pt")
    load_weights(model, tmp_path / "w.pt")
    assert torch.equal(model.model[0].weight, source.model[0].weight)


def test_a_shared_tensor_is_stored_once(tmp_path: Path) -> None:
    source, model = Tied(), Tied()
    save_model(source, str(tmp_path / "w.safetensors"))
    assert len(read_weights(tmp_path / "w.safetensors")) == 1
    load_weights(model, tmp_path / "w.safetensors")
    assert torch.equal(model.second.weight, source.first.weight)
    assert model.second.weight is model.first.weight


def _refused(model: nn.Module, path: Path, error: type[Exception]) -> str:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(error) as caught:
        load_weights(model, path)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    return str(caught.value)


def test_a_misfit_lists_everything_and_changes_nothing(tmp_path: Path) -> None:
    state = _net(width=5).state_dict()
    del state["2.0.bias"]
    state["head.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pt")
    message = _refused(_net(width=4), tmp_path / "w.pt", WeightsMismatch)
    assert "1 missing in the file:\n    2.0.bias" in message
    assert "1 not in the model:\n    head.weight" in message
    assert "0.weight: the model has [4, 3, 3, 3], the file [5, 3, 3, 3]" in message
    assert "7 of another shape" in message
    assert "was not changed" in message


def test_long_lists_are_cut(tmp_path: Path) -> None:
    torch.save({f"key{index:02}": torch.zeros(1) for index in range(25)}, tmp_path / "w.pt")
    message = _refused(_net(), tmp_path / "w.pt", WeightsMismatch)
    assert "25 not in the model" in message
    assert "key09" in message
    assert "key10" not in message
    assert "and 15 more" in message
    assert "8 missing in the file" in message


@pytest.mark.parametrize("value", [[1, 2], {"epoch": 3}, {}, torch.zeros(3), {"state_dict": {}}])
def test_a_file_without_tensors_by_name(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "w.pt")
    assert "must hold tensors by name" in _refused(_net(), tmp_path / "w.pt", WeightsMismatch)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    torch.save({"model": _net()}, tmp_path / "w.pt")
    message = _refused(_net(), tmp_path / "w.pt", UnreadableData)
    assert "holds a pickled object (torch.nn.modules.container.Sequential)" in message
    assert "torch.save(model.state_dict(), path)" in message


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", bytes(100), None])
def test_damaged_files(tmp_path: Path, suffix: str, content: bytes | None) -> None:
    path = tmp_path / f"w{suffix}"
    if content is None:  # a download that stopped half way
        (save_file if suffix == ".safetensors" else torch.save)(_net().state_dict(), path)
        content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    assert "must be a whole safetensors or torch.save file" in _refused(_net(), path, UnreadableData)


@pytest.mark.parametrize("name", ["nowhere.pt", "nowhere.safetensors", "."])
def test_missing_files(tmp_path: Path, name: str) -> None:
    assert "must be a file that can be read" in _refused(_net(), tmp_path / name, UnreadableData)
