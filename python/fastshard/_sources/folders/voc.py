"""Pascal VOC's folders as a source: an XML file an image in ``Annotations/``, images in ``JPEGImages/``."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastshard._fastshard import SourceError
from fastshard._sources.base import FileSource, first_five
from fastshard._sources.walk import Found, walk

from .box_lists import along_boxes, boxes_field, labels_field, list_column, small_text
from .voc_xml import FLAGS, VocObject, read_voc_xml

__all__ = ["voc_source"]

_MAX_BYTES = 64 << 20
_SPLITS = ("train", "val", "test", "trainval")


def voc_source(
    root: str, *, masks: bool, zero_based: bool, drop_unlabeled: bool, follow_symlinks: bool, on_error: str
) -> FileSource:
    """Every XML file in ``Annotations/``, with the image of the same name in ``JPEGImages/``.

    VOC counts pixels from 1, the last one included; boxes start at 0 and end behind the last pixel, so 1 is taken from
    ``xmin`` and ``ymin``. With ``zero_based`` numbers stay what they are. ``masks`` adds the field ``mask``, the
    files of ``SegmentationClass/``, and leaves out images without one. Raises SourceError for XML that is none or has a
    DOCTYPE, for boxes that are none, and for XML files without an image (left out with ``on_error="skip"``).
    """
    found = walk(root, follow_symlinks)
    found.check_links(root)
    xml, missing = _annotations(root, found, on_error)
    read = {path: read_voc_xml(f"{root}/{path}", zero_based=zero_based) for path in xml}
    objects = {path: annotation.objects for path, annotation in read.items()}
    # Of all annotations: the numbers of classes don't depend on what is left out.
    names = sorted({one.name for several in objects.values() for one in several})
    files = [_by_stem(root, found, folder) for folder in ("JPEGImages", "SegmentationClass")[: 1 + masks]]
    kept = [path for path in xml if all(_stem(path) in of for of in files)]
    kept = [path for path in kept if objects[path] or not drop_unlabeled]
    if not kept:
        raise SourceError(f"{root}: none of {len(xml):,} annotations has an image{' with a mask' * masks} and a label")
    images = {name: [of[_stem(path)] for path in kept] for name, of in zip(("image", "mask"), files, strict=False)}
    columns, fields = _lists([objects[path] for path in kept], names)
    for side, name in enumerate(("_declared_width", "_declared_height")):
        columns[name] = pa.array([read[path].size[side] for path in kept], pa.uint32())
    columns["_declared_in"] = pa.array(kept, pa.string())
    split_of = _splits(root, found)
    if split_of:
        columns["split"] = pa.array([split_of.get(_stem(path), "") for path in kept], pa.string())
        fields.append({"name": "split", "type": "text"})
    return FileSource(
        root=root,
        fields=[*({"name": name, "type": "image"} for name in images), *fields],
        table=pa.table({**{name: pa.array(paths, pa.string()) for name, paths in images.items()}, **columns}),
        provenance={
            "source": root,
            "kind": "voc",
            "zero_based": zero_based,
            "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
        },
        unused_files=tuple(sorted(set(found.images).difference(*images.values()))),
        ignored_files=tuple(path for path in found.no_images if path not in objects and not _is_split(path)),
        missing_files=tuple(missing),
    )


def _annotations(root: str, found: Found, on_error: str) -> tuple[list[str], list[tuple[int, str]]]:
    """The XML files, and those of them that have no image."""
    xml = [path for path in found.others if _is_in("Annotations", path, ".xml") and path not in found.special]
    if not xml:
        raise SourceError(f"{root}: no XML files in Annotations")
    stems = {_stem(path) for path in found.images if _is_in("JPEGImages", path)}
    missing = [(number, path) for number, path in enumerate(xml, start=1) if _stem(path) not in stems]
    if missing and on_error == "raise":
        listed = first_five(path for _, path in missing)
        raise SourceError(f"{root}: {len(missing):,} annotations without an image in JPEGImages: {listed}")
    return xml, missing


def _is_in(folder: str, path: str, suffix: str = "") -> bool:
    return posixpath.dirname(path) == folder and path.lower().endswith(suffix)


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]


def _by_stem(root: str, found: Found, folder: str) -> dict[str, str]:
    files: dict[str, str] = {}
    for path in found.images:
        if _is_in(folder, path) and files.setdefault(_stem(path), path) != path:
            raise SourceError(f"{root}: {files[_stem(path)]} and {path} differ in their suffix only; rename one")
    return files


def _lists(objects: list[list[VocObject]], names: list[str]) -> tuple[dict[str, pa.Array], list[dict[str, Any]]]:
    """Columns and fields of boxes, labels, flags and poses."""
    counts = [len(several) for several in objects]
    flat = [one for several in objects for one in several]
    code_of = {name: code for code, name in enumerate(names)}
    lists: dict[str, npt.NDArray[Any]] = {
        "boxes": np.array([one.box for one in flat], np.float32).reshape(-1, 4),
        "labels": np.array([code_of[one.name] for one in flat], np.int64),
    }
    fields = [boxes_field(), labels_field(names)]
    for flag in FLAGS:
        if any(flag in one.flags for one in flat):
            lists[flag] = np.array([one.flags.get(flag, 0) for one in flat], np.uint8)
            fields.append(along_boxes(flag, "uint8"))
    poses = sorted({one.pose for one in flat})
    if any(poses):
        lists["pose"] = np.searchsorted(poses, [one.pose for one in flat]).astype(np.int64)
        fields.append(along_boxes("pose", "int64", poses))
    return {name: list_column(counts, values) for name, values in lists.items()}, fields


def _is_split(path: str) -> bool:
    return _is_in("ImageSets/Main", path, ".txt") and _stem(path) in _SPLITS


def _splits(root: str, found: Found) -> dict[str, str]:
    """The set of each image, by its name without suffix."""
    split_of: dict[str, str] = {}
    for path in filter(_is_split, found.others):
        split = _stem(path)
        for number, line in enumerate(small_text(Path(root, path), _MAX_BYTES).split("\n"), start=1):
            name = line.strip()
            before = split_of.get(name, split)
            if name and before != split and "trainval" not in (before, split):
                raise SourceError(f"{root}/{path}: line {number}: {name!r} is in {before}.txt, too")
            if name and (split != "trainval" or name not in split_of):
                split_of[name] = split
    return split_of
