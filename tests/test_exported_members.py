"""What is exported exists and is documented."""

import importlib
import inspect
import pkgutil

import pytest

import widthwise

MODULES = [m.name for m in pkgutil.walk_packages(widthwise.__path__, "widthwise.") if not m.name.endswith("__main__")]


@pytest.mark.parametrize("name", ["widthwise", *MODULES])
def test_all_names_exist_once(name: str) -> None:
    module = importlib.import_module(name)
    exported = list(getattr(module, "__all__", []))
    assert [n for n in exported if not hasattr(module, n)] == []
    assert len(exported) == len(set(exported))


@pytest.mark.parametrize("name", MODULES)
def test_modules_say_what_they_are_for(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__ or not getattr(module, "__all__", None)


@pytest.mark.parametrize("name", widthwise.__all__)
def test_the_public_surface_is_documented(name: str) -> None:
    member = getattr(widthwise, name)
    if not (inspect.isclass(member) or inspect.isfunction(member)):
        return
    assert inspect.getdoc(member), f"{name} has no docstring"
    if inspect.isclass(member):
        methods = [m for n, m in vars(member).items() if inspect.isfunction(m) and not n.startswith("_")]
        assert [m.__qualname__ for m in methods if not inspect.getdoc(m)] == []
