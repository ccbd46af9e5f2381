"""The user's own model builders, named ``module.path:function``."""

import importlib
import inspect
import sys
from collections.abc import Callable
from difflib import get_close_matches
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from widthwise.errors import ModelError, UnknownModel

__all__ = ["accepts", "import_builder"]


def import_builder(spec: str, forms: str) -> Callable[..., Any]:
    """The function that `spec` names; the current folder is on the path, as with ``python -m``.

    Args:
        spec: ``module.path:function``; the function may be a class or ``Class.method``.
        forms: what a model may be named, for the errors.

    Raises:
        UnknownModel: no such module, or no such callable in it.
        ModelError: importing the module failed.
    """
    module_name, _, attribute = spec.partition(":")
    parts = [*module_name.split("."), *attribute.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise UnknownModel(f"{forms}; but got {spec!r}, which is none of these")
    module = _import(spec, module_name)
    try:
        builder = attrgetter(attribute)(module)
    except AttributeError as error:
        close = get_close_matches(attribute, dir(module), n=3)
        hint = f"; did you mean {', '.join(close)}?" if close else "; check the name"
        raise UnknownModel(f"{module_name} must define {attribute!r}, but it does not{hint}") from error
    if not callable(builder) or isinstance(builder, nn.Module):
        raise UnknownModel(
            f"{spec} must be a function that returns a model, but is {type(builder).__name__}; write one, "
            "e.g. `def build(): return MyModel()`"
        )
    function: Callable[..., Any] = builder
    return function


def accepts(builder: Callable[..., Any], argument: str) -> bool:
    """Whether `builder` names `argument` among its parameters."""
    try:
        return argument in inspect.signature(builder).parameters
    except (TypeError, ValueError):
        return False


def _import(spec: str, module_name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise UnknownModel(
                f"{spec!r} needs the module {module_name}, but Python finds no {error.name!r}; run in the "
                "folder that holds it, or install it"
            ) from error
        raise _import_failed(module_name, error) from error
    except Exception as error:
        raise _import_failed(module_name, error) from error


def _import_failed(module_name: str, error: Exception) -> ModelError:
    return ModelError(
        f"the module of a model must import, but {module_name} raised {type(error).__name__}: {error}; "
        f"`python -c 'import {module_name}'` shows where"
    )
