"""COCO: a folder of images, and a JSON file of the boxes in them; written row by row, so that it may be of any size."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ._dataset import Dataset, Field
from ._export_folder import ImageFiles
from ._export_plan import Plan, is_pixels
from ._export_rows import Block
from ._fastshard import SourceError

__all__ = ["CocoWriter"]

_IMAGES = "images"
_ANNOTATIONS = "annotations.json"
_BOXES, _LABELS, _IMAGE_ID = "boxes", "labels", "image_id"
_OPTIONAL = {"area": "iuf", "iscrowd": "biu", "annotation_id": "iu"}


class CocoWriter:
    """Writes the format ``coco``."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._fields = {one.name: one for one in plan.fields}
        self._image = plan.image("coco")
        self._lists = _lists(plan)
        self._ids = self._image_ids(plan)
        categories = _categories(plan)
        self._known = np.array(sorted(one["id"] for one in categories), np.int64)
        if "annotation_id" in self._lists:
            numbers = plan.dataset.column("annotation_id")
            _check_unique(np.concatenate([np.empty(0, self._lists["annotation_id"].dtype), *numbers]), "annotation_id")
        self.columns = (
            () if is_pixels(self._image) else tuple(f"_{self._image.name}_{side}" for side in ("width", "height"))
        )
        self.notes = [f"field {one.name!r} has no place in COCO and was left out" for one in self._others()]
        if is_pixels(self._image):
            self.notes.append(f"raw pixels of field {self._image.name!r} were written as PNG")
        (folder / _IMAGES).mkdir()
        self._files = ImageFiles(folder, self._image, plan.num_threads)
        self._path = folder / _ANNOTATIONS
        # The annotations come behind the images, so they wait in a file of their own.
        self._aside = folder / "annotations.part"
        self._json = self._path.open("x", encoding="ascii")
        self._boxes = self._aside.open("x", encoding="ascii")
        self._json.write(f'{{"info": {{}}, "licenses": [], "categories": {json.dumps(categories)},\n"images": [')
        self._count = self._images = self._json_bytes = 0

    def _image_ids(self, plan: Plan) -> Field | None:
        of = self._fields.get(_IMAGE_ID)
        if of is None:
            return None
        if of.type != "scalar" or np.dtype(of.dtype).kind not in "iu":
            raise ValueError(f"field {of}: expected integers; leave it out with fields=")
        _check_unique(plan.dataset.column(_IMAGE_ID), _IMAGE_ID)
        return of

    def _others(self) -> Iterator[Field]:
        for name, one in self._fields.items():
            if one not in (self._image, self._ids) and name not in self._lists:
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
        for at, (image_id, path, (width, height)) in enumerate(zip(ids, paths, self._sizes(block), strict=True)):
            name = path.removeprefix(f"{_IMAGES}/")
            _append(self._json, self._images, {"id": image_id, "file_name": name, "width": width, "height": height})
            self._images += 1
            self._annotate(int(block.rows[at]), image_id, {name: values[at] for name, values in lists.items()})

    def _sizes(self, block: Block) -> Sequence[tuple[int, int]]:
        if is_pixels(self._image):
            height, width, _ = self._image.shape or ()
            return [(width, height)] * len(block)
        widths, heights = (block.column(name).tolist() for name in self.columns)
        return list(zip(widths, heights, strict=True))

    def _annotate(self, row: int, image_id: int, values: Mapping[str, Any]) -> None:
        labels = self._checked(row, values)
        corners = values[_BOXES].astype(np.float64)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        areas = values["area"] if "area" in values else boxes[:, 2] * boxes[:, 3]
        crowds = values["iscrowd"] if "iscrowd" in values else np.zeros(len(boxes), np.int64)
        first = 1 + self._count
        numbers = values["annotation_id"] if "annotation_id" in values else np.arange(first, first + len(boxes))
        columns = (numbers, labels, boxes, areas, crowds.astype(np.int64))
        for number, label, box, area, crowd in zip(*(column.tolist() for column in columns), strict=True):
            about = {"id": number, "image_id": image_id, "category_id": label, "bbox": box, "area": area}
            _append(self._boxes, self._count, {**about, "iscrowd": crowd})
            self._count += 1

    def _checked(self, row: int, values: Mapping[str, Any]) -> Any:
        labels = values[_LABELS]
        lengths = {name: len(value) for name, value in values.items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name}: {length}" for name, length in lengths.items())
            raise SourceError(f"row {row}: lists of different lengths ({listed}): expected one value for each box")
        for name in (_BOXES, "area"):
            if name in values and not np.isfinite(values[name]).all():
                raise SourceError(
                    f"row {row}: field {name!r} holds NaN or infinity; expected numbers that JSON can hold"
                )
        unknown = ~np.isin(labels, self._known)
        if unknown.any():
            raise SourceError(f"row {row}: label {labels[unknown][0]} is the id of no category")
        return labels

    def finish(self) -> None:
        """Puts the annotations behind the images."""
        self._boxes.close()
        self._json.write('],\n"annotations": [')
        with self._aside.open(encoding="ascii") as boxes:
            shutil.copyfileobj(boxes, self._json)
        self._json.write("]}\n")
        self._json.close()
        self._json_bytes = self._path.stat().st_size
        self._aside.unlink()

    def close(self) -> None:
        """Lets go of files and threads."""
        self._files.close()
        self._json.close()
        self._boxes.close()


def _append(file: TextIO, count: int, entry: Mapping[str, Any]) -> None:
    file.write(f"{',' if count else ''}\n{json.dumps(entry)}")


def _lists(plan: Plan) -> dict[str, Field]:
    """The fields of boxes and of what belongs to each box, in the types that the format needs."""
    fields = {one.name: one for one in plan.fields}
    wanted = {_BOXES: ("iuf", (4,)), _LABELS: ("iu", ()), **{name: (kinds, ()) for name, kinds in _OPTIONAL.items()}}
    found = {}
    for name, (kinds, shape) in wanted.items():
        one = fields.get(name)
        if one is None and name in _OPTIONAL:
            continue
        if one is None or one.type != "list" or one.shape != shape or np.dtype(one.dtype).kind not in kinds:
            kind = "list[float32, 4]" if name == _BOXES else "a list of numbers"
            raise ValueError(f"to='coco' needs a field {name!r}, {kind}; there is {one or 'none'}")
        found[name] = one
    return found


def _categories(plan: Plan) -> list[dict[str, Any]]:
    """The categories given, or those of the dataset's provenance."""
    given = plan.categories if plan.categories is not None else _known_categories(plan.dataset)
    if given is None:
        wanted = "such as [{'id': 1, 'name': 'cat'}]"
        raise ValueError(f"categories=None: the dataset says nothing of its categories; expected a list, {wanted}")
    categories = [dict(one) for one in given]
    for one in categories:
        if type(one.get("id")) is not int or not isinstance(one.get("name"), str):
            raise ValueError(f"categories: {one!r}, expected an integer 'id' and a text 'name'")
    if len({one["id"] for one in categories}) < len(categories):
        raise ValueError("categories: some have the same 'id', expected different ones")
    return categories


def _known_categories(dataset: Dataset) -> Any:
    """Of a dataset that was packed from another one, that one's."""
    provenance = dataset.manifest.get("provenance")
    while isinstance(provenance, dict):
        if isinstance(provenance.get("categories"), list):
            return provenance["categories"]
        provenance = provenance.get("source")
    return None


def _check_unique(values: Any, name: str) -> None:
    found, counts = np.unique(values, return_counts=True)
    if len(found) < len(values):
        twice = found[np.argmax(counts > 1)]
        raise SourceError(f"field {name!r} holds {twice} {counts.max()} times, expected different numbers")
