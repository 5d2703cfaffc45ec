"""Folders that people keep boxes in, and how they are told apart: COCO, YOLO, Pascal VOC, MOT."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from . import _check

if TYPE_CHECKING:
    from ._source import FileSource

__all__ = ["LAYOUTS", "LayoutOptions", "detect", "folder_source"]

LAYOUTS = ("coco", "yolo", "voc", "mot")

# Options, and the layouts that have them.
_ONLY = {"annotations": ("coco",), "masks": ("voc",), "zero_based": ("voc", "mot"), "drop_unlabeled": LAYOUTS}


class _Common(TypedDict):
    follow_symlinks: bool
    on_error: str


@dataclass(frozen=True)
class LayoutOptions:
    """What ``fastshard.pack`` was asked for; see there."""

    source: str | None = None
    annotations: str | os.PathLike[str] | None = None
    masks: bool = False
    zero_based: bool = False
    drop_unlabeled: bool = False

    def __post_init__(self) -> None:
        if self.source is not None:
            _check.one_of("source", self.source, (*LAYOUTS, "folder"))
        for name in ("masks", "zero_based", "drop_unlabeled"):
            _check.boolean(name, getattr(self, name))


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


def folder_source(
    root: str, options: LayoutOptions, *, resized: bool = False, follow_symlinks: bool, on_error: str
) -> FileSource:
    """The folder ``root`` as a source, in the layout that was named or that it has; else a folder for each class.

    Images that are ``resized`` lose their ``segmentation``, which is text that doesn't follow. Raises SourceError for
    what can't be packed, and ValueError for options of another layout.
    """
    kind = options.source or ("coco" if options.annotations is not None else detect(root)) or "folder"
    for name, kinds in _ONLY.items():
        value = getattr(options, name)
        if value not in (None, False) and kind not in kinds:
            raise ValueError(f"{name}={value!r} is for source={' or '.join(map(repr, kinds))}, here it is {kind!r}")
    common: _Common = {"follow_symlinks": follow_symlinks, "on_error": on_error}
    if kind == "folder":
        from . import _folder

        return _folder.folder_source(root, **common)
    source = _layout_source(kind, root, options, common)
    if not resized or "segmentation" not in source.table.column_names:
        return source
    fields = [field for field in source.fields if field["name"] != "segmentation"]
    return replace(source, fields=fields, table=source.table.drop_columns("segmentation"))


def _layout_source(kind: str, root: str, options: LayoutOptions, common: _Common) -> FileSource:
    drop, zero_based = options.drop_unlabeled, options.zero_based
    if kind == "coco":
        from ._coco import coco_source

        annotations = None if options.annotations is None else os.fspath(options.annotations)
        return coco_source(root, annotations, drop_unlabeled=drop, **common)
    if kind == "yolo":
        from ._yolo import yolo_source

        return yolo_source(root, drop_unlabeled=drop, **common)
    if kind == "voc":
        from ._voc import voc_source

        return voc_source(root, masks=options.masks, zero_based=zero_based, drop_unlabeled=drop, **common)
    from ._mot import mot_source

    return mot_source(root, zero_based=zero_based, drop_unlabeled=drop, **common)
