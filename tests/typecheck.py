"""The run-time type checker of the tests: beartype, with an int wherever a float is wanted (PEP 484)."""

from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping
from beartype import BeartypeConf, beartype

__all__ = ["annotations", "checked"]

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


@contextmanager
def annotations(*, checked: bool) -> Iterator[None]:
    """Annotations are checked inside, or not: half of the time of a test that repeats itself over twenty seeds."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", not checked)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
