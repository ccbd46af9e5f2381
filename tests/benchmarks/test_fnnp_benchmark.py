"""The FNNP experiment from end to end with tiny sizes, cut off and resumed."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmarks.fnnp.__main__ import main
from benchmarks.fnnp.page import write
from PIL import Image

from widthwise.runs import read_events

pytestmark = pytest.mark.slow


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Small pictures in Hugging Face's layout; the class is the main colour."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for part, count in (("train", 600), ("test", 60)):
        rows = [{"bytes": _png(generator, label), "path": None} for label in np.arange(count) % 10]
        table = pa.table({"image": rows, "label": [i % 10 for i in range(count)]})
        pq.write_table(table, folder / f"{part}.parquet")
    return folder


def _png(generator: np.random.Generator, label: int) -> bytes:
    pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    pixels[..., label % 3] //= int(1 + label)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def test_it_resumes_and_ends_in_a_page(pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    common = ["--data", f"parquet:{pictures}", "--model", "resnet20", "--out", str(run), "--smoke", "true"]
    main([*common, "--parts", "[rates,evolution]"])
    before = read_events(run / "journal.jsonl")
    summary = main(common)
    after = read_events(run / "journal.jsonl")
    assert after[: len(before)] == before, "nothing is computed twice"
    assert sum(event["event"] == "trial" for event in after) == 4 + 2 + 4, (
        "R of 0.7 (as many as evolution in `final`), R of 0.9, evolution"
    )
    assert main(common)["final"] == summary["final"]
    assert read_events(run / "journal.jsonl") == after
    assert len(summary["correlation"]["models"]) == 4
    page = write(run, tmp_path / "docs").read_text(encoding="utf-8")
    assert "Which quick judgement predicts" in page
    assert {path.name for path in (tmp_path / "docs" / "figures").iterdir()} == {
        "fnnp_resnet20_candidates.png",
        "fnnp_resnet20_correlation.png",
        "fnnp_resnet20_iterations.png",
    }
