"""Fixtures shared by all tests; every annotation of the package is checked at run time."""

import os
import sys
from pathlib import Path

import pytest

from typecheck import check_annotations_of

# The import hook must be in place before the first `import widthwise`.
if "widthwise" in sys.modules:  # pragma: no cover
    raise RuntimeError("import widthwise only after conftest has installed the jaxtyping hook")
check_annotations_of("widthwise")

import torch

torch.set_num_threads(1)  # small operations on many threads wait for one another

SHARED = Path(os.environ.get("WIDTHWISE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and trained networks beside the checkout."""
    if not (SHARED / "data" / "cifar10-jpeg" / "train.parquet").exists():
        pytest.skip(f"needs the data and models beside the checkout, in {SHARED} (set WIDTHWISE_SHARED)")
    return SHARED


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
