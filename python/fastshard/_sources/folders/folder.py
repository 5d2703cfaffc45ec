"""Sources that are folders: one folder a class, or files alone; all of them images, or all of them audio."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from fastshard._fastshard import SourceError
from fastshard._sources.base import FileSource, class_field, first_five
from fastshard._sources.plain_arrays import numbers, texts
from fastshard._sources.walk import Found, walk

__all__ = ["classes", "files_of", "folder_source"]


def folder_source(root: str, *, follow_symlinks: bool, on_error: str) -> FileSource:
    """Every image, or else every audio file, below ``root``; with subfolders, the top one is the class (names sorted).

    Raises SourceError for a folder without either, for files beside class folders, for class folders without files
    and for a folder that holds both kinds (the class folders, and the files of the rarer kind, are left out with
    ``on_error="skip"``), and for links that leave the folder.
    """
    found = walk(root, follow_symlinks)
    found.check_links(root)
    kind, files, ignored = files_of(root, found, on_error)
    names, codes = classes(root, found, files, on_error) if found.folders else ([], [])
    columns: dict[str, Any] = {kind: texts(files)}
    fields: list[dict[str, Any]] = [{"name": kind, "type": kind}]
    if names:
        columns["label"] = numbers(np.array(codes, np.int64))
        fields.append(class_field("label", names))
    provenance = {"source": root, "kind": "folder"}
    return FileSource(root, fields, pa.table(columns), provenance, ignored_files=tuple(ignored))


def files_of(root: str, found: Found, on_error: str) -> tuple[str, list[str], list[str]]:
    """The kind of file that a folder is of, those files, and all others."""
    if not found.images and not found.audio:
        others = f" ({len(found.others):,} other files)" if found.others else ""
        raise SourceError(
            f"{root}: no images found{others}, and no audio; expected files such as cat/1.jpg or cat/1.wav, or a CSV "
            "given with csv="
        )
    kinds = [("image", found.images), ("audio", found.audio)]
    (kind, files), (_, rarer) = sorted(kinds, key=lambda one: -len(one[1]))
    if rarer and on_error == "raise":
        raise SourceError(
            f"{root}: {len(found.images):,} images and {len(found.audio):,} audio files, expected one kind: "
            f"{first_five(rarer)}; move the others, or leave out the rarer kind with on_error='skip'"
        )
    return kind, files, sorted([*found.others, *rarer])


def classes(root: str, found: Found, files: list[str], on_error: str) -> tuple[list[str], list[int]]:
    """The classes of the files found, and the number of that of each; none without folders."""
    loose = [path for path in files if "/" not in path]
    used = {path.split("/", 1)[0] for path in files if "/" in path}
    if not used:
        return [], []
    what = "images" if files is found.images else "audio files"
    if loose:
        raise SourceError(
            f"{root}: {len(loose):,} {what} lie beside the class folders and have no class: {first_five(loose)}; "
            "move them into a folder, or give the labels with csv="
        )
    empty = [folder for folder in found.folders if "/" not in folder and folder not in used]
    if empty and on_error == "raise":
        raise SourceError(
            f"{root}: class folders without {what}: {first_five(empty)}; "
            "remove them, or leave them out with on_error='skip'"
        )
    names = sorted(used)
    codes = {name: code for code, name in enumerate(names)}
    return names, [codes[path.split("/", 1)[0]] for path in files]
