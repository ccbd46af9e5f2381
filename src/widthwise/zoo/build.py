"""Models by name: the zoo's own, torchvision's, timm's, and the user's.

=======================  ==========================================================================
``resnet56``             a name of `MODELS`
``torchvision:NAME``     `torchvision.models`; ``torchvision:resnet50@IMAGENET1K_V2`` with weights
``timm:NAME``            `timm`; ``timm:resnet50.a1_in1k@default`` with the weights of its tag
``module.path:function`` your own: a function (or class) that returns an `nn.Module`
=======================  ==========================================================================
"""

import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from widthwise.errors import ConfigError, CorruptRun, ModelError, UnknownModel, WidthwiseError
from widthwise.zoo.digits import digits_net
from widthwise.zoo.imported import accepts, import_builder
from widthwise.zoo.mobilenet import mobilenet_v1
from widthwise.zoo.preact_resnet import preact_resnet164
from widthwise.zoo.resnet_cifar import resnet20, resnet32, resnet56, resnet110
from widthwise.zoo.vgg import vgg16_bn
from widthwise.zoo.weights import load_weights

__all__ = ["MODELS", "ModelSpec", "build_model", "input_options", "model_spec"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "digits_net": digits_net,
    "mobilenet_v1": mobilenet_v1,
    "preact_resnet164": preact_resnet164,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet56": resnet56,
    "resnet110": resnet110,
    "vgg16_bn": vgg16_bn,
}
"""The zoo's own networks; each takes `num_classes` and `in_channels` by keyword."""

_FORMS = (
    "a model is a zoo name, 'torchvision:NAME', 'timm:NAME', or 'module.path:function' for your own; "
    f"the zoo has {', '.join(MODELS)}"
)

_WEIGHT_ARGUMENTS = {"weights", "weights_backbone", "pretrained", "checkpoint_path"}

_PRETRAINED_KWARGS: dict[str, dict[str, Any]] = {
    "torchvision:googlenet": {"aux_logits": False, "transform_input": True},
    "torchvision:inception_v3": {"transform_input": True},
}
"""Where torchvision's pre-trained network is another architecture than the same name without weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """An architecture, without weights: enough to build it again in a fresh process. JSON in `subnet.json`.

    Building a ``module:function`` imports and calls that function: load run folders of strangers with the
    care due to their code. Such a function is given `num_classes` at most, never other stored values.

    Raises:
        ConfigError: `kwargs` is not JSON data, asks for weights, or is more than an own function is given.
    """

    spec: str
    """The model's name in one of the four forms, without a suffix for weights."""

    kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the builder, JSON data."""

    def __post_init__(self) -> None:
        try:
            json.dumps(self.kwargs, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"a model's arguments must be JSON data, but got {self.kwargs} ({error}); write a function "
                "of your own that fixes them and name it as 'module.path:function'"
            ) from error
        if _WEIGHT_ARGUMENTS & self.kwargs.keys():
            raise ConfigError(
                f"a model's arguments must not ask for weights, but got {self.kwargs}; use `weights` "
                "(a path, or 'default') or the '@' suffix instead"
            )
        if _kind(self.spec) == "own" and not self.kwargs.keys() <= {"num_classes"}:
            raise ConfigError(
                f"a function of your own is given `num_classes` at most, but got {self.kwargs} for "
                f"{self.spec}; write a function that fixes the other arguments"
            )

    def build(self) -> nn.Module:
        """The network with fresh weights, drawn from torch's global generator.

        Raises:
            UnknownModel: nothing of that name.
            ModelError: the builder failed or returned something else.
        """
        return _call(self.spec, _builder(self.spec), self.kwargs)

    def to_json(self) -> dict[str, Any]:
        """``{"spec": ..., "kwargs": {...}}``."""
        return {"spec": self.spec, "kwargs": dict(self.kwargs)}

    @classmethod
    def from_json(cls, value: Any) -> "ModelSpec":
        """The inverse of `to_json`.

        Raises:
            CorruptRun: `value` is not what `to_json` returns.
        """
        if isinstance(value, dict) and value.keys() == {"spec", "kwargs"}:
            spec, kwargs = value["spec"], value["kwargs"]
            if isinstance(spec, str) and isinstance(kwargs, dict):
                return cls(spec=spec, kwargs=kwargs)
        raise CorruptRun(
            f"a builder must be stored as {{'spec': text, 'kwargs': object}}, but got {value!r}; restore the file"
        )


def model_spec(
    spec: str, *, num_classes: int | None = None, weights: str | Path | None = None, **options: Any
) -> ModelSpec:
    """The record of the architecture that `build_model` builds from the same arguments.

    Raises:
        UnknownModel: nothing of that name.
        ConfigError: as `ModelSpec`.
    """
    bare, tag = _split(spec, weights)
    kwargs = dict(options)
    if tag is not None:
        kwargs = {**_PRETRAINED_KWARGS.get(bare, {}), **kwargs}
    builder = _builder(bare)
    if num_classes is not None and (_kind(bare) != "own" or accepts(builder, "num_classes")):
        kwargs["num_classes"] = num_classes
    return ModelSpec(spec=bare, kwargs=kwargs)


def input_options(spec: str, in_channels: int) -> dict[str, Any]:
    """What a builder must be told of the images, which is how many channels one has.

    Raises:
        ConfigError: torchvision's networks take colour images only.
    """
    kind = _kind(spec)
    if kind == "torchvision" and in_channels != 3:
        raise ConfigError(
            f"torchvision's networks take images of 3 channels, but the data has {in_channels}; choose a network of "
            "the zoo or of timm, or convert the images to colour."
        )
    if kind == "timm":
        return {} if in_channels == 3 else {"in_chans": in_channels}
    return {"in_channels": in_channels} if kind == "zoo" else {}


def build_model(
    spec: str, *, num_classes: int | None = None, weights: str | Path | None = None, **options: Any
) -> nn.Module:
    """Builds a model by name.

    Args:
        spec: see the table at the top of this module.
        num_classes: the number of logits, where the builder takes it; its own default otherwise.
        weights: a file for `load_weights`; or "default": the pre-trained weights that torchvision or timm
            recommend, downloaded by them (the same as the suffix ``@default``).
        options: further JSON keyword arguments of the builder, such as ``width=0.5``.

    Raises:
        UnknownModel: nothing of that name, or no weights of that name.
        ModelError: the builder failed, or the weights could not be downloaded.
        WeightsMismatch, UnreadableData: as `load_weights`.
        ConfigError: `options` that cannot be recorded, or weights named twice.
    """
    record = model_spec(spec, num_classes=num_classes, weights=weights, **options)
    tag = _split(spec, weights)[1]
    if tag is not None:
        return _build_pretrained(record, tag)
    model = record.build()
    if weights is not None:
        load_weights(model, weights)
    return model


def _kind(spec: str) -> str:
    head, colon, _ = spec.partition(":")
    if not colon:
        return "zoo"
    return head if head in ("torchvision", "timm") else "own"


def _split(spec: str, weights: str | Path | None) -> tuple[str, str | None]:
    """The bare name and the tag of the pre-trained weights, None for none."""
    bare, at, tag = spec.partition("@")
    wanted = tag if at else weights if weights in ("default", "DEFAULT") else None
    if wanted is None:
        return spec, None
    if _kind(bare) not in ("torchvision", "timm"):
        raise UnknownModel(
            f"only torchvision: and timm: models come with weights by name, but got {spec!r} with weights "
            f"{str(wanted)!r}; give the path of a weight file"
        )
    if at and weights is not None:
        raise ConfigError(f"weights must be named once, but got {spec!r} and weights={str(weights)!r}; drop one")
    return bare, str(wanted)


def _builder(spec: str) -> Callable[..., nn.Module]:
    kind, name = _kind(spec), spec.partition(":")[2]
    if kind == "own":
        return import_builder(spec, _FORMS)
    if kind == "timm":
        import timm

        if not timm.is_model(name):
            raise _unknown(spec, (f"timm:{known}" for known in timm.list_models()))
        return partial(timm.create_model, name)
    if spec in MODELS:
        return MODELS[spec]
    from torchvision.models import get_model_builder, list_models

    torchvisions = [f"torchvision:{known}" for known in list_models()]
    if spec not in torchvisions:
        raise _unknown(spec, [*([] if kind == "torchvision" else MODELS), *torchvisions])
    builder: Callable[..., nn.Module] = get_model_builder(name)
    return builder


def _unknown(spec: str, known: Iterable[str]) -> UnknownModel:
    names = {name.lower(): name for name in known}
    # Someone who writes 'resnet18' or 'ResNet-56' means a name that differs by prefix or punctuation.
    plain = {name.rpartition(":")[2]: full for name, full in names.items()}
    wanted = spec.lower()
    close = [plain[wanted]] if wanted in plain else []
    close += [names[match] for match in get_close_matches(wanted, names, n=5, cutoff=0.7)]
    close += [plain[match] for match in get_close_matches(wanted.replace("-", ""), plain, n=3, cutoff=0.7)]
    hint = f"; did you mean {', '.join(dict.fromkeys(close))}?" if close else ""
    return UnknownModel(f"{_FORMS}; but got {spec!r}{hint}")


def _build_pretrained(record: ModelSpec, tag: str) -> nn.Module:
    if _kind(record.spec) == "timm":
        if tag.upper() != "DEFAULT":
            raise UnknownModel(
                f"timm names its weights within the model's name, but got the tag {tag!r}; write "
                f"'{record.spec}.{tag}@default'"
            )
        builder = partial(_builder(record.spec), pretrained=True)
    else:
        builder = partial(_builder(record.spec), weights=_torchvision_weights(record, tag), progress=False)
    # torchvision makes these changes itself, and refuses to be told.
    implied = _PRETRAINED_KWARGS.get(record.spec, {}).items()
    kwargs = {key: value for key, value in record.kwargs.items() if (key, value) not in implied}
    try:
        return _call(record.spec, builder, kwargs)
    except ModelError as error:
        raise ModelError(
            f"{error}. If the download of its weights failed: fetch the file on a machine with a network and "
            "give its path as `weights`"
        ) from error.__cause__


def _torchvision_weights(record: ModelSpec, tag: str) -> Any:
    from torchvision.models import get_model_weights

    members = get_model_weights(record.spec.partition(":")[2]).__members__
    found = members.get("DEFAULT" if tag.upper() == "DEFAULT" else tag)
    if found is None:
        raise UnknownModel(
            f"{record.spec} has the weights {', '.join(members) or '(none)'}, but got {tag!r}; take one of "
            "these, or the path of a weight file"
        )
    classes, asked = len(found.meta["categories"]), record.kwargs.get("num_classes")
    if asked is not None and asked != classes:
        raise ModelError(
            f"the weights {tag!r} of {record.spec} are for {classes} classes, but got num_classes={asked}; "
            "leave num_classes out, or write a function of your own that replaces the last layer"
        )
    return found


def _call(spec: str, builder: Callable[..., Any], kwargs: dict[str, Any]) -> nn.Module:
    try:
        with warnings.catch_warnings():
            # torchvision announces on each construction that a default will change one day.
            warnings.filterwarnings("ignore", message="The default weight initialization of")
            model = builder(**kwargs)
    except WidthwiseError:
        raise
    except Exception as error:
        raise ModelError(
            f"{spec} must build with the arguments {kwargs}, but raised {type(error).__name__}: {error}; "
            "check the arguments and the function"
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{spec} must return an nn.Module, but returned {type(model).__name__}; return the model itself"
        )
    return model
