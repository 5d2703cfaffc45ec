"""Sources that are folders: one folder a class, or images alone."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ._fastshard import SourceError
from ._source import FileSource, class_field, first_five
from ._walk import Found, walk

__all__ = ["classes", "folder_source"]


def folder_source(root: str, *, follow_symlinks: bool, on_error: str) -> FileSource:
    """Every image below ``root``; with subfolders, the top one is the class (names sorted).

    Raises SourceError for a folder without images, for images beside class folders, for class folders without images
    (left out with ``on_error="skip"``), and for links that leave the folder.
    """
    found = walk(root, follow_symlinks)
    found.check_links(root)
    if not found.images:
        others = f" ({len(found.others):,} other files)" if found.others else ""
        raise SourceError(
            f"{root}: no images found{others}; expected files such as cat/1.jpg, or a CSV given with csv="
        )
    names, codes = classes(root, found, on_error) if found.folders else ([], [])
    columns: dict[str, Any] = {"image": pa.array(found.images, pa.string())}
    fields: list[dict[str, Any]] = [{"name": "image", "type": "image"}]
    if names:
        columns["label"] = pa.array(codes, pa.int64())
        fields.append(class_field("label", names))
    provenance = {"source": root, "kind": "folder"}
    return FileSource(root, fields, pa.table(columns), provenance, ignored_files=tuple(found.others))


def classes(root: str, found: Found, on_error: str) -> tuple[list[str], list[int]]:
    """The classes of the images found, and the number of that of each; none without folders."""
    loose = [path for path in found.images if "/" not in path]
    used = {path.split("/", 1)[0] for path in found.images if "/" in path}
    if not used:
        return [], []
    if loose:
        raise SourceError(
            f"{root}: {len(loose):,} images lie beside the class folders and have no class: {first_five(loose)}; "
            "move them into a folder, or give the labels with csv="
        )
    empty = [folder for folder in found.folders if "/" not in folder and folder not in used]
    if empty and on_error == "raise":
        raise SourceError(
            f"{root}: class folders without images: {first_five(empty)}; "
            "remove them, or leave them out with on_error='skip'"
        )
    names = sorted(used)
    codes = {name: code for code, name in enumerate(names)}
    return names, [codes[path.split("/", 1)[0]] for path in found.images]
