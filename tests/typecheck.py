"""The run-time type checker of the tests: beartype, with an int wherever a float is wanted (PEP 484)."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

__all__ = ["annotations", "check_annotations_of", "checked"]

DEFINITIONS = 20
"""How often a function inside a function is checked."""

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check_annotations_of(package: str) -> None:
    """Check every annotation of a package at run time; to be called before it is imported.

    A function inside a function is defined anew by every call of the outer one, and to check it takes milliseconds each
    time: in a search that was more than half of a test. So only its first definitions are.
    """
    jaxtyping.jaxtyped = _first_definitions(jaxtyping.jaxtyped)
    jaxtyping.install_import_hook(package, "typecheck.checked").__enter__()


def _first_definitions(jaxtyped: Callable[..., Any]) -> Callable[..., Any]:
    """What the import hook decorates with, for the first definitions of a piece of code."""
    defined: Counter[CodeType] = Counter()

    def decorator(*, typechecker: Callable[..., Any]) -> Callable[..., Any]:
        def decorate(thing: Any) -> Any:
            code = getattr(thing, "__code__", None)
            if code is not None:
                defined[code] += 1
            return thing if defined[code] > DEFINITIONS else jaxtyped(thing, typechecker=typechecker)

        return decorate

    return decorator


@contextmanager
def annotations(*, checked: bool) -> Iterator[None]:
    """Annotations are checked inside, or not: half of the time of a test that repeats itself over twenty seeds."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", not checked)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
