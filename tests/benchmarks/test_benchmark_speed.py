"""The speed benchmark runs to its end beside the peer; no timing is asserted."""

from pathlib import Path

import pytest

pytest.importorskip("torch_pruning", reason="the benchmarks compare with it; `make test-peers` installs it")
pytestmark = pytest.mark.peers


def test_the_page_has_every_table(tmp_path: Path) -> None:
    from benchmarks.__main__ import main

    small = ["--image_size", "64", "--candidate_size", "32", "--calibration_images", "8", "--validation_images", "8"]
    counts = ["--repeats", "1", "--strategies", "1000", "--cifar_images", "[16,16]", "--cifar_model", "resnet20"]
    models = ["--models", "[torchvision:resnet18]", "--results", str(tmp_path)]
    path = main([*small, *counts, *models])
    text = path.read_text(encoding="utf-8")
    assert text.count("\n## ") == 7
    assert "Torch-Pruning 1." in text
    assert "| resnet18 |" in text
