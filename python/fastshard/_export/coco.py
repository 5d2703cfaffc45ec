"""COCO: a folder of images, and a JSON file of the boxes in them; written row by row, so that it may be of any size."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from fastshard._base import write as _write
from fastshard._fastshard import SourceError
from fastshard._rows.arrow import read_column
from fastshard._rows.opened import Field
from fastshard._rows.view import View

from .folder import ImageFiles
from .plan import Plan, is_pixels
from .rows import Block

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CocoWriter"]

_IMAGES = "images"
_ANNOTATIONS = "annotations.json"
_BOXES, _LABELS, _IMAGE_ID, _SHAPES, _POINTS = "boxes", "labels", "image_id", "segmentation", "keypoints"
_OPTIONAL = {"area": "iuf", "iscrowd": "biu", "annotation_id": "iu"}


class CocoWriter:
    """Writes the format ``coco``."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._fields = {one.name: one for one in plan.fields}
        self._image = plan.image("coco")
        self._lists = _lists(plan, self._image)
        self._ids = self._image_ids(plan)
        self._shapes = self._fields.get(_SHAPES) if _provenance(plan.dataset, "kind") == "coco" else None
        categories = _categories(plan, self._lists[_LABELS])
        self._category_ids = _ids_of(categories, self._lists[_LABELS])
        if "annotation_id" in self._lists:
            numbers = read_column(plan.dataset, "annotation_id")
            _check_unique(np.concatenate([np.empty(0, self._lists["annotation_id"].dtype), *numbers]), "annotation_id")
        self.columns = tuple(
            f"_{self._image.name}_{side}" for side in ("width", "height") if not is_pixels(self._image)
        )
        self.notes = [f"field {one.name!r} has no place in COCO and was left out" for one in self._others()]
        if is_pixels(self._image):
            self.notes.append(f"raw pixels of field {self._image.name!r} were written as PNG")
        (folder / _IMAGES).mkdir()
        self._files = ImageFiles(folder, self._image, plan.num_threads)
        self._path = folder / _ANNOTATIONS
        # The annotations come behind the images, so they wait in a file of their own.
        self._aside = folder / "annotations.part"
        self._json = _write.create_text(self._path, "ascii")
        self._boxes = _write.create_text(self._aside, "ascii")
        self._json.write(f'{{"info": {{}}, "licenses": [], "categories": {json.dumps(categories)},\n"images": [')
        self._count = self._images = self._json_bytes = 0

    def _image_ids(self, plan: Plan) -> Field | None:
        of = self._fields.get(_IMAGE_ID)
        if of is None:
            return None
        if of.type != "scalar" or np.dtype(of.dtype).kind not in "iu":
            raise ValueError(f"field {of}: expected integers; leave it out with fields=")
        _check_unique(read_column(plan.dataset, _IMAGE_ID), _IMAGE_ID)
        return of

    def _others(self) -> Iterator[Field]:
        for name, one in self._fields.items():
            if one not in (self._image, self._ids, self._shapes) and name not in self._lists:
                yield one

    @property
    def files(self) -> int:
        """The images, and the JSON file."""
        return self._files.files + 1

    @property
    def bytes(self) -> int:
        """Of all of them."""
        return self._files.bytes + self._json_bytes

    def write(self, block: Block) -> None:
        """Writes some rows."""
        paths = self._files.write(block, [_IMAGES] * len(block))
        ids = [1 + block.start + at for at in range(len(block))]
        if self._ids is not None:
            ids = np.asarray(block.values(self._ids)).tolist()
        lists = {name: block.values(one) for name, one in self._lists.items()}
        for at, (image_id, path, size) in enumerate(zip(ids, paths, self._sizes(block), strict=True)):
            about = {"file_name": path.removeprefix(f"{_IMAGES}/"), "width": size[0], "height": size[1]}
            _append(self._json, self._images, {"id": image_id, **about})
            self._images += 1
            row = int(block.rows[at])
            values = {name: values[at] for name, values in lists.items()}
            shapes = None if self._shapes is None else _shapes(block.values(self._shapes)[at], row, len(values[_BOXES]))
            self._annotate(row, image_id, size, values, shapes)

    def _sizes(self, block: Block) -> Sequence[tuple[int, int]]:
        if is_pixels(self._image):
            height, width, _ = self._image.shape or ()
            return [(width, height)] * len(block)
        widths, heights = (block.column(name).tolist() for name in self.columns)
        return list(zip(widths, heights, strict=True))

    def _annotate(
        self, row: int, image_id: int, size: tuple[int, int], values: Mapping[str, Any], shapes: Sequence[Any] | None
    ) -> None:
        _check_values(row, values)
        boxes = _left_top_size(values[_BOXES], self._lists[_BOXES], size)
        first = 1 + self._count
        columns = {
            "id": values.get("annotation_id", np.arange(first, first + len(boxes))),
            "category_id": self._numbers_of(row, values[_LABELS]),
            "bbox": boxes,
            "area": values.get("area", boxes[:, 2] * boxes[:, 3]),
            "iscrowd": values.get("iscrowd", np.zeros(len(boxes), np.int64)).astype(np.int64),
        }
        listed = {name: column.tolist() for name, column in columns.items()}
        if _POINTS in values:
            listed[_POINTS] = [_flat_points(points) for points in values[_POINTS]]
            listed["num_keypoints"] = (values[_POINTS][..., 2] > 0).sum(axis=-1).tolist()
        if shapes is not None:
            listed[_SHAPES] = list(shapes)
        for one in zip(*listed.values(), strict=True):
            _append(self._boxes, self._count, {"image_id": image_id, **dict(zip(listed, one, strict=True))})
            self._count += 1

    def _numbers_of(self, row: int, labels: NDArray[Any]) -> NDArray[np.int64]:
        """The ids of the categories of an image's boxes."""
        unknown = ~np.isin(labels, np.array(list(self._category_ids), np.int64))
        if unknown.any():
            raise SourceError(f"row {row}: label {labels[unknown][0]} is that of no category")
        return np.array([self._category_ids[label] for label in labels.tolist()], np.int64)

    def finish(self) -> None:
        """Puts the annotations behind the images."""
        self._boxes.close()
        self._json.write('],\n"annotations": [')
        with self._aside.open(encoding="ascii") as boxes:
            for line in boxes:
                self._json.write(line)
        self._json.write("]}\n")
        self._json.close()
        self._json_bytes = self._path.stat().st_size
        _write.remove_file(self._aside)

    def close(self) -> None:
        """Lets go of files and threads."""
        self._files.close()
        self._json.close()
        self._boxes.close()


def _append(file: TextIO, count: int, entry: Mapping[str, Any]) -> None:
    file.write(f"{',' if count else ''}\n{json.dumps(entry)}")


def _lists(plan: Plan, image: Field) -> dict[str, Field]:
    """The fields of boxes and of what belongs to each box, in the types that the format needs."""
    fields = {one.name: one for one in plan.fields}
    boxes = fields.get(_BOXES)
    is_plain = boxes is not None and boxes.type == "list" and boxes.shape == (4,) and boxes.dtype.startswith("float")
    if boxes is None or not (is_plain or (boxes.type == "boxes" and boxes.of == image.name)):
        raise ValueError(f"to='coco' needs a field {_BOXES!r} of boxes in {image.name!r}; there is {boxes or 'none'}")
    found = {_BOXES: boxes}
    for name, kinds in {_LABELS: "iu", **_OPTIONAL}.items():
        one = fields.get(name)
        if one is None and name != _LABELS:
            continue
        if one is None or one.type != "list" or one.shape != () or np.dtype(one.dtype).kind not in kinds:
            raise ValueError(f"to='coco' needs a field {name!r} of lists of numbers; there is {one or 'none'}")
        found[name] = one
    points = fields.get(_POINTS)
    if points is not None and points.type == "list" and len(points.shape or ()) == 2 and (points.shape or ())[1] == 3:
        found[_POINTS] = points
    return found


def _check_values(row: int, values: Mapping[str, NDArray[Any]]) -> None:
    lengths = {name: len(value) for name, value in values.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise SourceError(f"row {row}: lists of different lengths ({listed}): expected one value for each box")
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise SourceError(f"row {row}: field {name!r} holds NaN or infinity; expected numbers that JSON can hold")


def _left_top_size(boxes: NDArray[Any], of: Field, size: tuple[int, int]) -> NDArray[np.float64]:
    """Boxes as COCO has them, in pixels: left, top, width, height."""
    kind, _, normalized = (of.format or "xyxy").partition(", ")
    first, second = np.split(boxes.astype(np.float64), [2], axis=1)
    if kind == "xyxy":
        second = second - first
    elif kind == "cxcywh":
        first = first - second / 2
    return np.concatenate([first, second], axis=1) * (np.tile(size, 2) if normalized else 1)


def _flat_points(points: NDArray[Any]) -> list[float]:
    """Places, and whole numbers that say whether they can be seen."""
    return [number for x, y, seen in points.tolist() for number in (x, y, int(seen))]


def _shapes(text: str, row: int, count: int) -> list[Any]:
    """The outlines of an image's boxes, as they came from COCO."""
    try:
        shapes = json.loads(text, parse_constant=_no_number) if text else []
    except (ValueError, RecursionError):
        shapes = None
    if not isinstance(shapes, list) or len(shapes) != count:
        raise SourceError(
            f"row {row}: field {_SHAPES!r}, {text[:40]!r}: expected a JSON list of {count}, one for each box"
        )
    return shapes


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _categories(plan: Plan, labels: Field) -> list[dict[str, Any]]:
    """The categories given, or those of the dataset's provenance, or the classes of the labels numbered from 1."""
    given = plan.categories if plan.categories is not None else _provenance(plan.dataset, "categories")
    if given is None and labels.class_names is not None:
        given = [{"id": number, "name": name} for number, name in enumerate(labels.class_names, 1)]
    if given is None:
        wanted = "such as [{'id': 1, 'name': 'cat'}]"
        raise ValueError(f"categories=None: the dataset says nothing of its categories; expected a list, {wanted}")
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, Mapping) for one in given):
        raise ValueError(f"categories: {str(given)[:60]}, expected a list of dicts with 'id' and 'name'")
    categories = [dict(one) for one in given]
    for one in categories:
        is_number = type(one.get("id")) is int and abs(one["id"]) < 2**63
        if not is_number or not isinstance(one.get("name"), str):
            raise ValueError(f"categories: {one!r}, expected an integer 'id' and a text 'name'")
    if len({one["id"] for one in categories}) < len(categories):
        raise ValueError("categories: some have the same 'id', expected different ones")
    return categories


def _ids_of(categories: Sequence[Mapping[str, Any]], labels: Field) -> dict[int, int]:
    """The category's id for each label: labels with classes are places in them, others are ids already."""
    names = labels.class_names
    if names is None:
        return {one["id"]: one["id"] for one in categories}
    if [one["name"] for one in categories] == list(names):
        return {place: one["id"] for place, one in enumerate(categories)}
    ids = {one["name"]: one["id"] for one in categories}
    unknown = [name for name in names if name not in ids]
    if unknown or len(ids) < len(categories):
        found = f"none is called {unknown[0]!r}" if unknown else "some have the same name"
        raise ValueError(f"categories: {found}; expected those that the classes of field {labels.name!r} name")
    return {place: ids[name] for place, name in enumerate(names)}


def _provenance(dataset: View, key: str) -> Any:
    """What the provenance says under ``key``; of a dataset that was packed from another one, that one's."""
    provenance = dataset.manifest.get("provenance")
    while isinstance(provenance, dict) and provenance.get("kind") == "dataset":
        provenance = provenance.get("source")
    return provenance.get(key) if isinstance(provenance, dict) else None


def _check_unique(values: Any, name: str) -> None:
    found, counts = np.unique(values, return_counts=True)
    if len(found) < len(values):
        twice = found[np.argmax(counts > 1)]
        raise SourceError(f"field {name!r} holds {twice} {counts.max()} times, expected different numbers")
