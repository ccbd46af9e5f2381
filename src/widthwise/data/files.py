"""Finding the images of a folder or of Parquet files: which parts, which classes, which labels."""

import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from widthwise.data.images import ImageFiles, ImageRows, Part
from widthwise.data.splits import as_labels
from widthwise.errors import EmptyData, UnreadableData

_PART = {"train": r"train", "val": r"val", "test": r"test"}  # what a file or folder name begins with
_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label")


def image_folder(root: Path) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Find root/{train,val,test}/CLASS/x.png, or root/CLASS/x.png (all of it "train").

    Classes are the folders of the training part, sorted; the other parts may have fewer. Returns (parts,
    classes).

    Raises:
        UnreadableData: no such folder, or a part has a class that training has not.
        EmptyData: no class folder, or no image in a part.
    """
    if not root.is_dir():
        raise UnreadableData(f"an image folder must be a folder, but {root} is {_what(root)}; check the path")
    folders = {part: root / name for part in _PART for name in _children(root) if name in _names(part)}
    if folders and "train" not in folders:
        raise UnreadableData(
            f"an image folder with parts needs train/, but {root} has only "
            f"{sorted(folder.name for folder in folders.values())}; add train/"
        )
    folders = folders or {"train": root}
    classes = tuple(_children(folders["train"]))
    if not classes:
        raise EmptyData(
            f"an image folder has a folder for each class (ROOT/train/CLASS/x.png or ROOT/CLASS/x.png), but "
            f"{folders['train']} has no folders"
        )
    return {part: _folder_part(folder, classes) for part, folder in folders.items()}, classes


def _names(part: str) -> tuple[str, ...]:
    return ("val", "valid", "validation") if part == "val" else (part,)


def _children(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")


def _what(path: Path) -> str:
    return "a file" if path.exists() else "missing"


def _folder_part(folder: Path, classes: tuple[str, ...]) -> Part:
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    unknown = sorted(set(_children(folder)) - set(classes))
    if unknown:
        raise UnreadableData(
            f"every class must be in the training part, but {folder} also has {unknown[:10]}; "
            f"rename these folders, or add them to train/"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    found = make_dataset(str(folder), numbers, extensions=IMG_EXTENSIONS, allow_empty=True)
    if not found:
        raise EmptyData(
            f"a part needs at least one image, but the class folders of {folder} have no file that ends in "
            f"{', '.join(IMG_EXTENSIONS)}"
        )
    labels = torch.tensor([label for _, label in found])
    return Part(ImageFiles(tuple(Path(path) for path, _ in found)), labels)


def parquet(source: Path) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Read a Parquet file (all of it "train"), or a folder with train*.parquet and perhaps val*, test*.

    Files may also lie in SOURCE/data. Columns: `image` or `img` (struct of bytes and path, or bytes), and
    `label`, `labels` or `fine_label` (integers). The encoded images are held in memory. Returns (parts, class
    names); no names where the file's schema has none.

    Raises:
        UnreadableData: no such path, not Parquet, or other columns.
        EmptyData: no row in a part.
        LabelOutOfRange: a negative label.
    """
    files = {"train": [source]} if source.is_file() else _parquet_files(source)
    tables = {part: [_read_table(path) for path in paths] for part, paths in files.items()}
    parts = {part: _parquet_part(files[part], tables[part]) for part in files}
    return parts, _class_names(pq.read_schema(files["train"][0]))


def parquet_paths(folder: Path) -> list[Path]:
    """Return the Parquet files in a folder and in its data/, sorted; none where it is no folder."""
    return sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])


def _parquet_files(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise UnreadableData(f"a Parquet data set must be a file or folder, but {folder} is missing; check the path")
    paths = parquet_paths(folder)
    files = {part: [p for p in paths if re.match(start, p.name)] for part, start in _PART.items()}
    if not files["train"]:
        raise UnreadableData(
            f"a Parquet folder needs train*.parquet, but {folder} has {[p.name for p in paths][:10]}; "
            f"rename the files, or pass a single one"
        )
    return {part: paths for part, paths in files.items() if paths}


def _read_table(path: Path) -> pa.Table:
    """Read the image and label columns, renamed to `image` and `label`."""
    try:
        schema = pq.read_schema(path)
        columns = _columns(schema, path)
        return pq.read_table(path, columns=list(columns)).rename_columns(list(columns.values()))
    except (pa.ArrowException, OSError) as error:
        raise UnreadableData(
            f"a Parquet file must be readable, but {path} is not ({error}); is it complete, and Parquet at all?"
        ) from error


def _columns(schema: pa.Schema, path: Path) -> Mapping[str, str]:
    image = next((name for name in _IMAGE_COLUMNS if name in schema.names), None)
    label = next((name for name in _LABEL_COLUMNS if name in schema.names), None)
    right = image is not None and label is not None and _holds_images(schema.field(image).type)
    if not right or not pa.types.is_integer(schema.field(label).type):
        found = ", ".join(f"{field.name}: {field.type}" for field in schema)
        raise UnreadableData(
            f"a Parquet data set needs a column {' or '.join(_IMAGE_COLUMNS)} (struct<bytes, path>, or "
            "binary) "
            f"and a column {', '.join(_LABEL_COLUMNS)} (integer), but {path} has {found}; rename or "
            "convert them"
        )
    return {str(image): "image", str(label): "label"}


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return "bytes" in [kind.field(i).name for i in range(kind.num_fields)]
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _parquet_part(paths: list[Path], tables: list[pa.Table]) -> Part:
    where = ", ".join(str(path) for path in paths)
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise UnreadableData(f"the files of a part must have the same columns, but {where}: {error}") from error
    if len(table) == 0:
        raise EmptyData(f"a part needs at least one row, but {where} has none; check how it was written")
    first = itertools.accumulate((len(t) for t in tables), initial=0)
    files = tuple(zip(paths, first, strict=False))
    return Part(ImageRows(table["image"], files), as_labels(table["label"].to_pylist(), where))


def _class_names(schema: pa.Schema) -> tuple[str, ...]:
    """Return the names that Hugging Face's `datasets` writes into the schema for a ClassLabel column."""
    try:
        written = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    except ValueError:  # the names are a nicety; the labels do not need them
        return ()
    features = written.get("info", {}).get("features", {})
    names = [features[column].get("names") for column in _LABEL_COLUMNS if column in features]
    return tuple(str(name) for name in names[0] or ()) if names else ()
