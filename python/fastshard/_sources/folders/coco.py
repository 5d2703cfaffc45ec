"""COCO's annotations as a source: a file of instances, keypoints or captions, and a folder of images."""

from __future__ import annotations

import json
import os
import posixpath
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fastshard._fastshard import SourceError, read_coco
from fastshard._sources.base import FileSource, first_five
from fastshard._sources.match import find_file, match_files
from fastshard._sources.walk import Found, walk

from .box_lists import along_boxes, boxes_field, has_elements, keypoints_field, labels_field

__all__ = ["coco_source"]

_ROBOFLOW = "_annotations.coco.json"


def coco_source(
    root: str, annotations: str | None, *, drop_unlabeled: bool, follow_symlinks: bool, on_error: str
) -> FileSource:
    """Every image of the file ``annotations``, with the lists of its annotations; images count from 1.

    Raises SourceError for what the file can't say (see ``_fastshard.read_coco``), for images without a file (left out
    with ``on_error="skip"``), files of two images, and names that several files have.
    """
    found = walk(root, follow_symlinks)
    path = find_file(annotations or _only(root, found), root, "file of annotations")
    stream, categories = read_coco(path)
    table = pa.ipc.open_stream(stream).read_all()
    matches, missing = match_files(path, "image", table.column("image").to_pylist(), root, found)
    if missing and on_error == "raise":
        names = first_five(f"{name!r} (image {number})" for number, name in missing)
        raise SourceError(f"{path}: {len(missing):,} images without a file below {root}: {names}")
    kept = np.zeros(table.num_rows, bool)
    kept[np.array(list(matches), np.int64) - 1] = True
    if drop_unlabeled:
        kept &= has_elements(table.column("annotation_id"))
    numbers = (np.flatnonzero(kept) + 1).tolist()
    if not numbers:
        raise SourceError(f"{path}: none of its {table.num_rows:,} images is below {root} and labeled as asked")
    if len(numbers) < table.num_rows:
        table = table.filter(pa.array(kept))
    images = [matches[number] for number in numbers]
    described = json.loads(categories)
    return FileSource(
        root=root,
        fields=_fields(table, [category["name"] for category in described]),
        table=_placed(table.set_column(0, "image", pa.array(images, pa.string())), Path(path).name, numbers),
        provenance={"source": root, "kind": "coco", "annotations": path, "categories": described},
        unused_files=tuple(sorted(set(found.images).difference(matches.values()))),
        ignored_files=tuple(sorted(set(found.no_images).difference(images, [os.path.relpath(path, root)]))),
        missing_files=tuple(missing),
        row_numbers=tuple(numbers),
    )


def _placed(table: pa.Table, file: str, numbers: list[int]) -> pa.Table:
    """With where the sizes of images are declared, if they are, for messages."""
    if "_declared_width" not in table.column_names:
        return table
    places = pa.array([f"image {number} of {file}" for number in numbers], pa.string())
    return table.append_column("_declared_in", places)


def _only(root: str, found: Found) -> str:
    """The file of annotations that there is. One behind a link that leaves the folder isn't: that has to be named."""
    files = [path for path in found.others if path == _ROBOFLOW or _is_annotations(path)]
    if len(files) == 1:
        return files[0]
    there = f"it has {first_five(files)}" if files else "it has none in annotations/"
    raise SourceError(f"{root}: which file holds the annotations? Name one with annotations=; {there}")


def _is_annotations(path: str) -> bool:
    return posixpath.dirname(path) == "annotations" and path.lower().endswith(".json")


def _fields(table: pa.Table, class_names: list[str]) -> list[dict[str, Any]]:
    captions = "captions" in table.column_names
    annotation_id = along_boxes("annotation_id", "int64")
    known = {
        "image": {"name": "image", "type": "image"},
        "image_id": {"name": "image_id", "type": "scalar", "dtype": "int64"},
        "boxes": boxes_field(),
        "labels": labels_field(class_names),
        "iscrowd": along_boxes("iscrowd", "uint8"),
        "area": along_boxes("area", "float32"),
        "segmentation": {"name": "segmentation", "type": "text"},
        "caption": {"name": "caption", "type": "text"},
        "captions": {"name": "captions", "type": "text"},
        # Captions have no boxes to go along with.
        "annotation_id": {"name": "annotation_id", "type": "list", "dtype": "int64"} if captions else annotation_id,
    }
    if "keypoints" in table.column_names:
        numbers = table.schema.field("keypoints").type.value_type.list_size
        known["keypoints"] = keypoints_field([numbers // 3, 3])
    return [known[name] for name in table.column_names if not name.startswith("_")]
