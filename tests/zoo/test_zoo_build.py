"""Models by name in all four forms, their records, and what a wrong name says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.models._api import WeightsEnum

from widthwise.errors import ConfigError, CorruptRun, ModelError, UnknownModel, UnreadableData
from widthwise.zoo import MODELS, ModelSpec, build_model, model_spec

OWN_MODULE = """
from functools import partial
from torch import nn
def plain(): return nn.Linear(3, 4)
def sized(num_classes=5): return nn.Linear(3, num_classes)
def anything(**kwargs): assert not kwargs; return nn.Linear(3, 2)
def needy(size): return nn.Linear(3, size)
def wrong(): return [nn.Linear(3, 4)]
def broken(): raise KeyError("oops")
class Net(nn.Linear):
    def __init__(self): super().__init__(3, 6)
    @staticmethod
    def wide(): return nn.Linear(3, 60)
MODEL = nn.Linear(1, 1)
NUMBER = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user in the current folder, which is not on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    name = f"own_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN_MODULE)
    yield name
    sys.modules.pop(name, None)


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in model.state_dict().items()}


@pytest.mark.parametrize(
    "spec", [*MODELS, "torchvision:resnet18", "torchvision:googlenet", "timm:mobilenetv3_small_050"]
)
def test_a_record_rebuilds_the_architecture(spec: str) -> None:
    record = model_spec(spec, num_classes=7)
    stored = json.loads(json.dumps(record.to_json()))
    assert stored == {"spec": spec, "kwargs": {"num_classes": 7}}
    again = ModelSpec.from_json(stored)
    assert again == record
    assert _shapes(again.build()) == _shapes(build_model(spec, num_classes=7))


def test_a_record_rebuilds_in_a_fresh_process(own: str) -> None:
    record = json.dumps([model_spec(f"{own}:sized", num_classes=3).to_json()])
    script = (
        "import json, sys; sys.path.remove(''); from widthwise.zoo import ModelSpec\n"
        "print([ModelSpec.from_json(r).build() for r in json.loads(sys.argv[1])])"
    )
    done = subprocess.run([sys.executable, "-c", script, record], capture_output=True, text=True, check=True)
    assert "Linear(in_features=3, out_features=3, bias=True)" in done.stdout


def test_options_are_part_of_the_record() -> None:
    record = model_spec("mobilenet_v1", width=0.5, small_input=True)
    assert record.kwargs == {"width": 0.5, "small_input": True}
    assert record.build().get_submodule("linear").in_features == 512  # type: ignore[union-attr]


def test_torchvision_and_timm_are_what_they_build_themselves() -> None:
    ours, theirs = build_model("torchvision:mnasnet0_5"), torchvision.models.mnasnet0_5()
    assert _shapes(ours) == _shapes(theirs)
    assert _shapes(build_model("timm:resnet10t.c3_in1k")) == _shapes(timm.create_model("resnet10t"))


@pytest.mark.parametrize(
    ("function", "outputs"),
    [("plain", 4), ("sized", 9), ("anything", 2), ("Net", 6), ("Net.wide", 60)],
)
def test_own_functions_get_the_classes_only_if_they_name_them(own: str, function: str, outputs: int) -> None:
    model = build_model(f"{own}:{function}", num_classes=9)
    assert isinstance(model, nn.Linear)
    assert model.out_features == outputs


def test_own_function_with_weights(own: str, tmp_path: Path) -> None:
    source = nn.Linear(3, 4)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    model = build_model(f"{own}:plain", weights="w.pt")
    assert torch.equal(model.state_dict()["weight"], source.weight)


@pytest.mark.parametrize(
    ("function", "error", "match"),
    [
        ("plane", UnknownModel, "must define 'plane'.*did you mean plain"),
        ("NUMBER", UnknownModel, "must be a function that returns a model, but is int"),
        ("MODEL", UnknownModel, "must be a function that returns a model, but is Linear"),
        ("wrong", ModelError, "must return an nn.Module, but returned list"),
        ("broken", ModelError, "raised KeyError: 'oops'"),
        ("needy", ModelError, "raised TypeError.*size"),
    ],
)
def test_own_functions_that_do_not_work(own: str, function: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        build_model(f"{own}:{function}")


@pytest.mark.parametrize(
    ("content", "error", "match"),
    [
        ("import no_such_module_1", ModelError, "raised ModuleNotFoundError: No module named 'no_such_module_1'"),
        ("1 / 0", ModelError, "raised ZeroDivisionError"),
        ("def f(:", ModelError, "raised SyntaxError"),
    ],
)
def test_own_modules_that_do_not_import(
    own: str, tmp_path: Path, content: str, error: type[Exception], match: str
) -> None:
    (tmp_path / f"{own}.py").write_text(content)
    with pytest.raises(error, match=match):
        build_model(f"{own}:f")


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("resnet57", "the zoo has .*did you mean .*resnet56"),
        ("ResNet-56", "did you mean .*resnet56"),
        ("resnet18", "did you mean .*torchvision:resnet18"),
        ("torchvision:resnet5", "did you mean torchvision:resnet50"),
        ("timm:resnet5", "did you mean .*timm:resnet50"),
        ("torchvision:", "a model is a zoo name"),
        ("", "a model is a zoo name"),
        ("models/mine.py:build", "which is none of these"),
        ("mine:", "which is none of these"),
        (":build", "which is none of these"),
        ("no_such_package.sub:build", "Python finds no 'no_such_package'.*install it"),
        ("resnet56@default", "only torchvision: and timm:.*path of a weight file"),
        ("torchvision:resnet18@IMAGENET1K_V7", "has the weights IMAGENET1K_V1.*got 'IMAGENET1K_V7'"),
        ("timm:resnet10t@c3_in1k", "write 'timm:resnet10t.c3_in1k@default'"),
    ],
)
def test_unknown_names_teach(spec: str, match: str) -> None:
    with pytest.raises(UnknownModel, match=match):
        build_model(spec)


def test_wrong_arguments_teach() -> None:
    with pytest.raises(ModelError, match=r"torchvision:resnet18 must build with .*'bogus': 1.*TypeError"):
        build_model("torchvision:resnet18", bogus=1)
    with pytest.raises(ConfigError, match="named once"):
        build_model("torchvision:resnet18@default", weights="default")
    with pytest.raises(ModelError, match="are for 1000 classes, but got num_classes=10"):
        build_model("torchvision:resnet18@IMAGENET1K_V1", num_classes=10)
    with pytest.raises(UnreadableData, match="No such file"):
        build_model("resnet20", weights="nowhere.pt")


@pytest.mark.parametrize(
    ("spec", "kwargs", "match"),
    [
        ("resnet20", {"a": object()}, "must be JSON data"),
        ("resnet20", {"a": float("nan")}, "must be JSON data"),
        ("torchvision:resnet18", {"weights": "DEFAULT"}, "must not ask for weights"),
        ("timm:resnet18", {"checkpoint_path": "x"}, "must not ask for weights"),
        ("os:system", {"command": "true"}, "is given `num_classes` at most"),
    ],
)
def test_records_hold_only_what_is_safe_to_rebuild(spec: str, kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        ModelSpec(spec=spec, kwargs=kwargs)


@pytest.mark.parametrize(
    "value", [None, [], {}, {"spec": "resnet20"}, {"spec": 3, "kwargs": {}}, {"spec": "a", "kwargs": []}]
)
def test_damaged_records_are_a_corrupt_run(value: object) -> None:
    with pytest.raises(CorruptRun, match="a builder must be stored as"):
        ModelSpec.from_json(value)


@pytest.fixture
def offline_weights(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """torchvision's download replaced by the weights of a fresh model of the right shape."""
    asked: list[str] = []

    def get_state_dict(self: WeightsEnum, *args: Any, **kwargs: Any) -> dict[str, Any]:
        asked.append(f"{type(self).__name__}.{self.name}")
        kwargs = {"init_weights": False} if "GoogLeNet" in asked[-1] else {}
        name = {"GoogLeNet_Weights": "googlenet", "ResNet18_Weights": "resnet18"}[type(self).__name__]
        return {
            key: torch.ones_like(value)
            for key, value in torchvision.models.get_model(name, **kwargs).state_dict().items()
        }

    monkeypatch.setattr(WeightsEnum, "get_state_dict", get_state_dict)
    return asked


@pytest.mark.parametrize(
    ("spec", "weights"),
    [
        ("torchvision:resnet18@IMAGENET1K_V1", None),
        ("torchvision:resnet18@default", None),
        ("torchvision:resnet18", "default"),
        ("torchvision:googlenet@default", None),
    ],
)
def test_pretrained_torchvision(offline_weights: list[str], spec: str, weights: str | None) -> None:
    model = build_model(spec, weights=weights)
    assert len(offline_weights) == 1
    assert offline_weights[0].endswith("Weights.IMAGENET1K_V1")
    assert all((value == 1).all() for value in model.state_dict().values())
    record = model_spec(spec, weights=weights)
    assert record.spec == spec.partition("@")[0]
    rebuilt = record.build()
    assert _shapes(rebuilt) == _shapes(model)
    rebuilt.load_state_dict(model.state_dict())
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(rebuilt.eval()(image), model.eval()(image))


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(WeightsEnum, "get_state_dict", fail)
    with pytest.raises(ModelError, match=r"Name or service not known.*give its path as `weights`") as caught:
        build_model("torchvision:resnet18", weights="default")
    assert isinstance(caught.value.__cause__, URLError)


def test_pretrained_timm_is_asked_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    def create_model(name: str, **kwargs: Any) -> nn.Module:
        calls.append((name, kwargs))
        return nn.Identity()

    monkeypatch.setattr(timm, "create_model", create_model)
    build_model("timm:resnet10t.c3_in1k@default", num_classes=10)
    build_model("timm:resnet10t", weights="default")
    assert calls == [
        ("resnet10t.c3_in1k", {"pretrained": True, "num_classes": 10}),
        ("resnet10t", {"pretrained": True}),
    ]
    assert model_spec("timm:resnet10t.c3_in1k@default").to_json() == {"spec": "timm:resnet10t.c3_in1k", "kwargs": {}}
