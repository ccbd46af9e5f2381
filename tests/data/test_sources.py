"""The named loaders, files written by the test, and bad input."""

import hashlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torchvision.datasets import CIFAR10, cifar

from widthwise.data import LOADERS, DatasetSplit, ImageData, MemorySplit, load_data
from widthwise.errors import ConfigError, DataError, EmptyData, LabelOutOfRange, UnreadableData


def _pixels(split: Any) -> list[bytes]:
    assert isinstance(split, MemorySplit)
    return [image.numpy().tobytes() for image in split.images[split.indices]]


def _encode(pixels: np.ndarray[Any, Any], kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def _noise(n: int, *shape: int) -> list[np.ndarray[Any, Any]]:
    return list(np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8))


def _write(path: Path, images: list[bytes], labels: list[Any], **names: Any) -> Path:
    image, label = names.pop("image", "image"), names.pop("label", "label")
    cells = [{"bytes": image, "path": None} for image in images]
    table = pa.table({image: cells, label: labels})
    if names:
        features = {label: {"names": names["names"], "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)
    return path


def test_digits_is_60_20_20_and_every_image_is_in_one_part() -> None:
    data = load_data("digits")
    assert data.test is not None
    assert [len(part) for part in (data.train, data.val, data.test)] == [1079, 359, 359]
    assert (data.num_classes, data.input_shape) == (10, (1, 8, 8))
    together = sorted(_pixels(data.train) + _pixels(data.val) + _pixels(data.test))
    expected = (load_digits().images * 255 / 16).round().astype(np.uint8)
    assert together == sorted(image.tobytes() for image in expected)
    for part in (data.train, data.val, data.test):
        share = torch.bincount(part.labels) / len(part)
        assert (share - 0.1).abs().max() < 0.01


def test_the_seed_moves_validation_and_never_the_test_part() -> None:
    first, second, again = load_data("digits", seed=0), load_data("digits", seed=1), load_data("digits")
    assert _pixels(first.test) == _pixels(second.test)
    assert _pixels(first.val) != _pixels(second.val)
    assert _pixels(first.val) == _pixels(again.val)
    assert (first.mean, first.std) == (second.mean, second.std)


def test_digits_are_normalised_and_not_mirrored() -> None:
    data = load_data("digits")
    images = torch.cat([images for images, _ in data.train.batches(500)])
    assert abs(float(images.mean())) < 0.02
    assert abs(float(images.std()) - 1) < 0.02
    assert isinstance(data.train, MemorySplit)
    assert data.train.augmentation is not None
    assert (data.train.augmentation.padding, data.train.augmentation.flip) == (1, False)
    assert torch.equal(data.example(3), next(iter(data.val.batches(3)))[0])
    assert data.example(400).shape == (400, 1, 8, 8)


def test_settings_reach_the_data() -> None:
    data = load_data("digits", val_fraction=0.5, mean=(0.0,), std=(1.0,), flip=True)
    assert len(data.val) == pytest.approx(len(data.train), abs=10)
    assert isinstance(data.train, MemorySplit)
    rows = data.train.images[data.train.indices]
    images = torch.cat([images for images, _ in data.train.batches(100)])
    torch.testing.assert_close(images, rows.float() / 255)
    assert data.train.augmentation is not None
    assert data.train.augmentation.flip


@pytest.mark.parametrize(
    "settings",
    [{"val_fraction": 0.0}, {"val_fraction": 1.0}, {"mean": (0.5,)}, {"workers": -1}, {"image_size": 0}],
)
def test_settings_outside_their_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        load_data("digits", **settings)


@pytest.mark.parametrize("shape", [(16, 12, 3), (16, 12)])
def test_small_parquet_lives_in_memory(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = _noise(20, *shape)
    _write(tmp_path / "train-0.parquet", [_encode(x) for x in images[:6]], [0, 1] * 3, names=["cat", "dog"])
    _write(tmp_path / "train-1.parquet", [_encode(x) for x in images[6:10]], [0, 1] * 2, names=["cat", "dog"])
    _write(tmp_path / "validation-0.parquet", [_encode(x) for x in images[10:14]], [0, 1] * 2)
    _write(tmp_path / "test.parquet", [_encode(x) for x in images[14:]], [0, 1] * 3)
    data = load_data(str(tmp_path))
    assert (data.class_names, data.num_classes) == (("cat", "dog"), 2)
    assert isinstance(data.train, MemorySplit)
    expected = torch.from_numpy(np.stack(images).reshape(20, 16, 12, -1)).permute(0, 3, 1, 2)
    for part, wanted in ((data.train, expected[:10]), (data.val, expected[10:14]), (data.test, expected[14:])):
        assert isinstance(part, MemorySplit)
        assert torch.equal(part.images[part.indices], wanted)
    assert data.input_shape == (len(expected[0]), 16, 12)


def test_parquet_files_in_a_data_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    _write(tmp_path / "data" / "train.parquet", [_encode(x) for x in _noise(4, 8, 8, 3)], [0, 0, 1, 1])
    assert len(load_data(tmp_path).train) == 2


def test_other_column_names_paths_and_plain_bytes(tmp_path: Path) -> None:
    images = [_encode(x) for x in _noise(6, 8, 8, 3)]
    _write(tmp_path / "a.parquet", images, [0, 1] * 3, image="img", label="fine_label")
    pq.write_table(pa.table({"image": images, "labels": [0, 1] * 3}), tmp_path / "b.parquet")
    cells = [{"bytes": None, "path": f"{i}.png"} for i in range(6)]
    for index, image in enumerate(images):
        (tmp_path / f"{index}.png").write_bytes(image)
    pq.write_table(pa.table({"image": cells, "label": [0, 1] * 3}), tmp_path / "c.parquet")
    a, b, c = (load_data(f"parquet:{tmp_path / name}.parquet") for name in "abc")
    assert _pixels(a.train) == _pixels(b.train) == _pixels(c.train)


def test_grey_among_colour_becomes_colour(tmp_path: Path) -> None:
    images = [_encode(_noise(1, 8, 8)[0])] + [_encode(x) for x in _noise(3, 8, 8, 3)]
    data = load_data(_write(tmp_path / "x.parquet", images, [0, 0, 1, 1]), val_fraction=0.5)
    assert data.input_shape == (3, 8, 8)


@pytest.mark.parametrize("sizes", [[(70, 90)] * 8, [(20, 20), (20, 30)] * 4])
def test_big_or_uneven_images_are_lazy(tmp_path: Path, sizes: list[tuple[int, int]]) -> None:
    images = [_encode(np.full((*size, 3), 51, dtype=np.uint8)) for size in sizes]
    data = load_data(_write(tmp_path / "x.parquet", images, [0, 1] * 4), image_size=16, val_fraction=0.5)
    assert isinstance(data.train, DatasetSplit)
    assert data.input_shape == (3, 16, 16)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    torch.testing.assert_close(data.example()[0], ((0.2 - mean) / std).expand(3, 16, 16))


def _folder(root: Path, part: str, classes: dict[str, int], size: int = 8) -> None:
    for name, count in classes.items():
        (root / part / name).mkdir(parents=True, exist_ok=True)
        for index, pixels in enumerate(_noise(count, size, size, 3)):
            Image.fromarray(pixels).save(root / part / name / f"{index}.png")


def test_image_folder_without_parts(tmp_path: Path) -> None:
    _folder(tmp_path, "", {"bee": 10, "ant": 10})
    data = load_data(f"folder:{tmp_path}")
    assert data.class_names == ("ant", "bee")
    assert (len(data.train), len(data.val), data.test) == (18, 2, None)
    assert data.val.labels.tolist() == [0, 1]


def test_image_folder_with_parts_keeps_the_training_classes(tmp_path: Path) -> None:
    _folder(tmp_path, "train", {"ant": 2, "bee": 3, "cat": 2}, size=80)
    _folder(tmp_path, "val", {"cat": 2}, size=80)
    _folder(tmp_path, "test", {"bee": 1}, size=80)
    data = load_data(tmp_path, image_size=16)
    assert data.test is not None
    assert data.train.labels.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert (data.val.labels.tolist(), data.test.labels.tolist()) == ([2, 2], [1])
    images, _ = next(iter(data.train.batches(7, seed=0, augment=True)))
    assert images.shape == (7, 3, 16, 16)


def test_image_folder_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UnreadableData, match="missing"):
        load_data(f"folder:{tmp_path / 'none'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmptyData, match="no folders"):
        load_data(tmp_path / "empty")
    (tmp_path / "bare" / "ant").mkdir(parents=True)
    with pytest.raises(EmptyData, match="no file"):
        load_data(tmp_path / "bare")
    _folder(tmp_path / "odd", "train", {"ant": 2})
    _folder(tmp_path / "odd", "test", {"wasp": 2})
    with pytest.raises(UnreadableData, match="wasp"):
        load_data(tmp_path / "odd")
    _folder(tmp_path / "half", "test", {"ant": 2})
    with pytest.raises(UnreadableData, match="train/"):
        load_data(tmp_path / "half")


def test_a_corrupt_small_image_is_named_at_load(tmp_path: Path) -> None:
    images = [_encode(x, "JPEG") for x in _noise(6, 32, 32, 3)]
    images[4] = images[4][:300]
    with pytest.raises(UnreadableData, match=r"row 4 of .*x\.parquet"):
        load_data(_write(tmp_path / "x.parquet", images, [0, 1] * 3))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_big_image_is_named_when_read(tmp_path: Path, workers: int) -> None:
    _folder(tmp_path, "train", {"ant": 3, "bee": 3}, size=80)
    _folder(tmp_path, "val", {"ant": 1}, size=80)
    (tmp_path / "train" / "bee" / "1.png").write_bytes(b"no image")
    data = load_data(tmp_path, image_size=16, workers=workers)
    with pytest.raises(UnreadableData, match=r"^every image must be readable, but .*bee/1\.png"):
        list(data.train.batches(2))


def test_16_bit_images_are_refused(tmp_path: Path) -> None:
    images = [_encode(np.full((8, 8), 300, dtype=np.uint16))] * 4
    with pytest.raises(UnreadableData, match="8 bits"):
        load_data(_write(tmp_path / "x.parquet", images, [0, 0, 1, 1]))


def test_parquet_mistakes(tmp_path: Path) -> None:
    images = [_encode(x) for x in _noise(4, 8, 8, 3)]
    (tmp_path / "text.parquet").write_text("not Parquet")
    with pytest.raises(UnreadableData, match="Parquet at all"):
        load_data(tmp_path / "text.parquet")
    with pytest.raises(UnreadableData, match=r"picture: struct.*label: int64"):
        load_data(_write(tmp_path / "a.parquet", images, [0, 0, 1, 1], image="picture"))
    with pytest.raises(UnreadableData, match="label: double"):
        load_data(_write(tmp_path / "b.parquet", images, [0.0, 0.5, 1.0, 1.0]))
    with pytest.raises(LabelOutOfRange, match="-1 at position 2"):
        load_data(_write(tmp_path / "c.parquet", images, [0, 0, -1, 1]))
    with pytest.raises(UnreadableData, match="None"):
        load_data(_write(tmp_path / "d.parquet", images, [0, 0, None, 1]))
    with pytest.raises(LabelOutOfRange, match=r"0\.\.1"):
        load_data(_write(tmp_path / "e.parquet", images, [0, 0, 5, 5], names=["x", "y"]))
    with pytest.raises(EmptyData, match="class"):
        load_data(_write(tmp_path / "f.parquet", images, [0, 0, 0, 1]))
    with pytest.raises(UnreadableData, match="missing"):
        load_data(f"parquet:{tmp_path / 'none'}")
    with pytest.raises(UnreadableData, match=r"train\*"):
        load_data(tmp_path)


def test_an_empty_parquet_file(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array([], kind), "label": pa.array([], pa.int64())})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(EmptyData, match="at least one row"):
        load_data(tmp_path / "x.parquet")


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(DataError, match="digits, cifar10, cifar100, folder:PATH, parquet:PATH"):
        load_data("digitz")
    with pytest.raises(UnreadableData, match="existing path"):
        load_data("/no/such/place")
    for name in ("", "folder:", "digits:x"):
        with pytest.raises(DataError, match="check the spelling"):
            load_data(name)
    assert "digits" in LOADERS


def test_labels_beyond_the_model_are_found() -> None:
    data = load_data("digits")
    data.check_classes(10)
    with pytest.raises(LabelOutOfRange, match=r"label 9.*10 outputs"):
        data.check_classes(9)


def test_image_data_passes_through() -> None:
    data = load_data("digits")
    assert load_data(data) is data


@pytest.fixture
def tiny_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images per class and file, in CIFAR-10's own format."""
    base = tmp_path / CIFAR10.base_folder
    base.mkdir()
    sums = {}
    for name in ("data_batch_1", "test_batch", "batches.meta"):
        seed = len(name)
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 3072), dtype=np.uint8)
        content: dict[str, Any] = {"data": pixels, "labels": list(range(10)) * 2}
        content["label_names"] = [f"class {index}" for index in range(10)]
        (base / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((base / name).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(
        CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    )
    return tmp_path


def test_cifar10_is_read_through_torchvision(tiny_cifar: Path) -> None:
    data = load_data("cifar10", root=tiny_cifar, val_fraction=0.5)
    assert data.test is not None
    assert (len(data.train), len(data.val), len(data.test)) == (10, 10, 20)
    assert data.class_names[3] == "class 3"
    assert isinstance(data.test, MemorySplit)
    stored = torch.from_numpy(CIFAR10(tiny_cifar, train=False).data)
    assert torch.equal(data.test.images, stored.permute(0, 3, 1, 2))
    assert set(_pixels(data.train)).isdisjoint(_pixels(data.val))


def test_no_network_says_where_to_put_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(cifar, "download_and_extract_archive", unreachable)
    with pytest.raises(UnreadableData, match=r"no route.*cifar-100-python\.tar\.gz .*put it there"):
        load_data("cifar100", root=tmp_path)


def test_real_images(shared: Path) -> None:
    data: ImageData = load_data(shared / "data" / "cifar10-jpeg" / "test.parquet")
    assert (len(data.train), len(data.val), data.test, data.num_classes) == (9000, 1000, None, 10)
    assert data.input_shape == (3, 32, 32)
    assert torch.bincount(data.val.labels).tolist() == [100] * 10
    images: Tensor = next(iter(data.train.batches(2000)))[0]
    assert images.mean().abs() < 0.3
    assert 0.8 < float(images.std()) < 1.4


def test_a_validation_part_without_a_test_part_is_the_test_part_where_a_fraction_is_asked_for(tmp_path: Path) -> None:
    for part, count in (("train", 10), ("val", 3)):
        for label in ("a", "b"):
            (tmp_path / part / label).mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / part / label / f"{index}.png")
    plainly = load_data(f"folder:{tmp_path}", image_size=8)
    assert (len(plainly.train), len(plainly.val), plainly.test) == (20, 6, None)
    held = load_data(f"folder:{tmp_path}", image_size=8, val_fraction=0.2)
    assert held.test is not None
    assert (len(held.train), len(held.val), len(held.test)) == (16, 4, 6)
