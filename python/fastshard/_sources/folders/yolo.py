"""YOLO's folders as a source: ``images/`` and ``labels/`` side by side, a text file an image, a line a box."""

from __future__ import annotations

import json
import math
import posixpath
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastshard._fastshard import SourceError
from fastshard._sources.base import FileSource, first_five
from fastshard._sources.walk import walk

from .box_lists import boxes_field, image_size, keypoints_field, labels_field, list_column, small_text
from .yolo_names import YoloNames, read_names

__all__ = ["yolo_source"]

_MAX_BYTES = 16 << 20
# Rounding moves corners over the edge a little; whatever is further outside is counted in pixels.
_OUTSIDE = 0.01
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def yolo_source(
    root: str, *, drop_unlabeled: bool, follow_symlinks: bool, on_error: str, upright: bool = True
) -> FileSource:
    """Every image in a folder ``images``, with the lines of the text file that lies at its place below ``labels``.

    Boxes stay what they are: centre, width and height as shares of the image. A line with corners of a polygon is the
    box around it, and the polygon. Keypoints (``kpt_shape`` in the YAML file) become pixels, of images that are turned
    as their EXIF data says if they are ``upright``. Raises SourceError for lines that are none of it, with file, line
    and value; and for label files without an image (left out with ``on_error="skip"``).
    """
    found = walk(root, follow_symlinks)
    found.check_links(root)
    names = read_names(root)
    label_of = _label_files(root, found.images)
    texts = {path for path in found.others if path.endswith(".txt") and path not in found.special}
    missing = _without_image(root, texts, set(label_of.values()), on_error)
    boxes = _Boxes(names, upright)
    images = []
    for image, path in label_of.items():
        count = boxes.add(root, path, image) if path in texts else boxes.none()
        if count or not drop_unlabeled:
            images.append(image)
        else:
            boxes.undo()
    if not images:
        raise SourceError(f"{root}: none of {len(label_of):,} images has a label")
    columns, fields = boxes.columns()
    splits = [_split(image) for image in images]
    if any(splits):
        columns["split"] = pa.array(splits, pa.string())
        fields.append({"name": "split", "type": "text"})
    used = {posixpath.relpath(names.path, root), *label_of.values()}
    return FileSource(
        root=root,
        fields=[{"name": "image", "type": "image"}, *fields],
        table=pa.table({"image": pa.array(images, pa.string()), **columns}),
        provenance={
            "source": root,
            "kind": "yolo",
            "names": names.path,
            "segmentation": "polygons in shares of the image",
            "categories": [{"id": number, "name": name} for number, name in enumerate(names.names)],
        },
        unused_files=tuple(path for path in found.images if path not in label_of),
        ignored_files=tuple(path for path in found.no_images if path not in used),
        missing_files=tuple(missing),
    )


def _label_files(root: str, images: list[str]) -> dict[str, str]:
    """Where the labels of each image are, if it has some."""
    image_of: dict[str, str] = {}
    for image in images:
        folders = image.split("/")[:-1]
        if "images" not in folders:
            continue
        last = len(folders) - 1 - folders[::-1].index("images")
        path = posixpath.splitext(posixpath.join(*folders[:last], "labels", *image.split("/")[last + 1 :]))[0] + ".txt"
        if image_of.setdefault(path, image) != image:
            raise SourceError(f"{root}: {image_of[path]} and {image} share the labels {path}; rename one")
    if not image_of:
        raise SourceError(f"{root}: no images below a folder named images")
    return {image: path for path, image in image_of.items()}


def _without_image(root: str, texts: set[str], wanted: set[str], on_error: str) -> list[tuple[int, str]]:
    labels = sorted(path for path in texts if "labels" in path.split("/")[:-1] and not path.endswith("/classes.txt"))
    missing = [(number, path) for number, path in enumerate(labels, start=1) if path not in wanted]
    if missing and on_error == "raise":
        listed = first_five(path for _, path in missing)
        raise SourceError(f"{root}: {len(missing):,} files of labels without an image: {listed}")
    return missing


def _split(image: str) -> str:
    """From the name of a folder, such as ``val`` or ``train2017``."""
    for part in image.split("/")[:-1]:
        split = _SPLITS.get(part.lower().rstrip("0123456789"))
        if split:
            return split
    return ""


@dataclass
class _Boxes:
    """The boxes of all images, one after the other."""

    names: YoloNames
    upright: bool
    counts: list[int] = field(default_factory=list)
    boxes: list[tuple[float, ...]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    polygons: list[str] = field(default_factory=list)
    keypoints: list[list[float]] = field(default_factory=list)
    any_polygon: bool = False
    scale: tuple[float, float] = (1.0, 1.0)

    def none(self) -> int:
        self.counts.append(0)
        self.polygons.append("[]")
        return 0

    def undo(self) -> None:
        self.counts.pop()
        self.polygons.pop()

    def add(self, root: str, path: str, image: str) -> int:
        self.scale = image_size(Path(root, image), self.upright) if self.names.keypoints else (1.0, 1.0)
        polygons: list[list[list[float]] | None] = []
        for number, line in enumerate(small_text(Path(root, path), _MAX_BYTES).split("\n"), start=1):
            items = line.split()
            if items:
                polygons.append(self._line(f"{root}/{path}: line {number}", items))
        self.counts.append(len(polygons))
        self.polygons.append(json.dumps(polygons, separators=(",", ":")))
        return len(polygons)

    def _line(self, where: str, items: list[str]) -> list[list[float]] | None:
        label, values = _numbers(where, items, len(self.names.names))
        points, size = self.names.keypoints or (0, 0)
        polygon = None
        if self.names.keypoints and len(values) != 4 + points * size:
            raise SourceError(f"{where}: {len(items)} numbers; expected {5 + points * size}, with {points} keypoints")
        if len(values) == 4 or self.names.keypoints:
            box = tuple(values[:4])
            _check_box(where, box)
        elif len(values) >= 6 and len(values) % 2 == 0:
            box, polygon = _around(values), [values]
            self.any_polygon = True
        else:
            raise SourceError(
                f"{where}: {len(items)} numbers; expected class, x, y, width, height, or class and corners of a polygon"
            )
        _check_range(where, values if polygon else box)
        self.labels.append(label)
        self.boxes.append(box)
        if size:
            self.keypoints.append(self._pixels(values[4:], size))
        return polygon

    def _pixels(self, keypoints: list[float], size: int) -> list[float]:
        scale = (*self.scale, 1.0)
        return [value * scale[number % size] for number, value in enumerate(keypoints)]

    def columns(self) -> tuple[dict[str, pa.Array], list[dict[str, Any]]]:
        """Arrays and descriptions of the fields."""
        lists: dict[str, npt.NDArray[Any]] = {
            "boxes": np.array(self.boxes, np.float32).reshape(-1, 4),
            "labels": np.array(self.labels, np.int64),
        }
        fields = [boxes_field("cxcywh", normalized=True), labels_field(self.names.names)]
        if self.names.keypoints:
            points, size = self.names.keypoints
            lists["keypoints"] = np.array(self.keypoints, np.float32).reshape(-1, points * size)
            fields.append(keypoints_field([points, size]))
        columns = {name: list_column(self.counts, values) for name, values in lists.items()}
        if self.any_polygon:
            columns["segmentation"] = pa.array(self.polygons, pa.string())
            fields.append({"name": "segmentation", "type": "text"})
        return columns, fields


def _numbers(where: str, items: list[str], classes: int) -> tuple[int, list[float]]:
    try:
        values = [float(item) for item in items]
    except ValueError as error:
        raise SourceError(f"{where}: {error}; expected numbers") from None
    for value, item in zip(values, items, strict=True):
        if not math.isfinite(value):
            raise SourceError(f"{where}: {item}; expected finite numbers")
    # Some tools write the class as 3.0.
    if values[0] != int(values[0]) or not 0 <= values[0] < classes:
        raise SourceError(f"{where}: class {items[0]}; expected a number from 0 to {classes - 1}")
    return int(values[0]), values[1:]


def _check_box(where: str, box: tuple[float, ...]) -> None:
    if box[2] < 0 or box[3] < 0:
        raise SourceError(f"{where}: width {box[2]}, height {box[3]}; a box can't be smaller than nothing")


def _check_range(where: str, values: list[float] | tuple[float, ...]) -> None:
    for value in values:
        if not -_OUTSIDE <= value <= 1 + _OUTSIDE:
            raise SourceError(f"{where}: {value}; expected shares of the image, from 0 to 1")


def _around(polygon: list[float]) -> tuple[float, ...]:
    """Centre and size of the box around a polygon."""
    x, y = polygon[::2], polygon[1::2]
    width, height = max(x) - min(x), max(y) - min(y)
    return min(x) + width / 2, min(y) + height / 2, width, height
