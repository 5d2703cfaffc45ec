"""Folders that people keep boxes in, and how they are told apart: COCO, YOLO, Pascal VOC, MOT."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from fastshard._sources.base import FileSource
    from fastshard._sources.options import SourceOptions

__all__ = ["LAYOUTS", "detect", "layout_source"]

LAYOUTS = ("coco", "yolo", "voc", "mot")


class _Common(TypedDict):
    drop_unlabeled: bool
    follow_symlinks: bool
    on_error: str


def detect(folder: str | os.PathLike[str]) -> str | None:
    """Which of ``LAYOUTS`` a folder has; None if it has none of them. Looks at the names of few files only."""
    root = Path(folder)
    if _has(root / "Annotations", ".xml") and (root / "JPEGImages").is_dir():
        return "voc"
    below = _folders(root)
    splits = [one for one in below if one.name in ("train", "val", "valid", "test")]
    sequences = [root, *below, *(one for split in splits for one in _folders(split))]
    if any((one / "seqinfo.ini").is_file() for one in sequences):
        return "mot"
    if _has(root / "annotations", ".json") or (root / "_annotations.coco.json").is_file():
        return "coco"
    if any((one / "images").is_dir() and (one / "labels").is_dir() for one in (root, *splits)):
        return "yolo"
    return None


def _folders(parent: Path) -> list[Path]:
    with os.scandir(parent) as entries:
        return [Path(entry) for entry in entries if entry.is_dir()]


def _has(folder: Path, suffix: str) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(entry.name.lower().endswith(suffix) for entry in entries)


def layout_source(kind: str, root: str, options: SourceOptions) -> FileSource:
    """The folder ``root`` as a source, in one of ``LAYOUTS``.

    Images that are resized lose their ``segmentation``, which is text that doesn't follow. Raises SourceError for what
    can't be packed.
    """
    source = _source(kind, root, options)
    if not options.resized or "segmentation" not in source.table.column_names:
        return source
    fields = [field for field in source.fields if field["name"] != "segmentation"]
    return replace(source, fields=fields, table=source.table.drop_columns("segmentation"))


def _source(kind: str, root: str, options: SourceOptions) -> FileSource:
    common: _Common = {
        "drop_unlabeled": options.drop_unlabeled,
        "follow_symlinks": options.follow_symlinks,
        "on_error": options.on_error,
    }
    if kind == "coco":
        from .coco import coco_source

        annotations = None if options.annotations is None else os.fspath(options.annotations)
        return coco_source(root, annotations, **common)
    if kind == "yolo":
        from .yolo import yolo_source

        return yolo_source(root, upright=options.annotated == "upright", **common)
    if kind == "voc":
        from .voc import voc_source

        return voc_source(root, masks=options.masks, zero_based=options.zero_based, **common)
    from .mot import mot_source

    return mot_source(root, zero_based=options.zero_based, **common)
