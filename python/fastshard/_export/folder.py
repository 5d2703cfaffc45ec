"""Folders of images, or of audio: one for each class, and a CSV file for what else is known of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from fastshard._base import write as _write
from fastshard._base.names import Names, safe_name
from fastshard._fastshard import SourceError
from fastshard._rows.opened import Field

from .files import MARKER
from .plan import Plan, check_codes, encoded, file_name, is_pixels, suffix_of
from .rows import Block

__all__ = ["FolderWriter", "ImageFiles"]

_METADATA = "metadata.csv"
_BETWEEN = "|"


class ImageFiles:
    """Images, or audio, as files of their own, written by several threads, which have no say in the names."""

    def __init__(self, folder: Path, of: Field, num_threads: int) -> None:
        self._folder = folder
        self._of = of
        self._names: dict[str, Names] = {}
        self._pool = ThreadPoolExecutor(num_threads)
        self.files = 0
        self.bytes = 0

    def write(self, block: Block, folders: Sequence[str]) -> list[str]:
        """Writes the files of a block below ``folders``, one of them for each, and gives the files' paths."""
        values = block.values(self._of)
        paths = [self._path(block, i, folder) for i, folder in enumerate(folders)]
        self.bytes += sum(self._pool.map(self._write, paths, values))
        self.files += len(paths)
        return paths

    def _path(self, block: Block, at: int, folder: str) -> str:
        place = block.start + at
        if is_pixels(self._of):
            stem, suffix = f"{place:08d}", ".png"
        else:
            data, path = block.values(self._of)[at]
            stem, suffix = file_name(path, suffix_of(data, int(block.rows[at]), self._of), place)
        if folder not in self._names:
            self._names[folder] = Names()
            (self._folder / folder).mkdir(exist_ok=True)
        name = self._names[folder].unique(stem, suffix)
        return f"{folder}/{name}" if folder else name

    def _write(self, path: str, value: Any) -> int:
        data = encoded(value, self._of)
        return _write.new_file(self._folder / path, data)

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(cancel_futures=True)


class FolderWriter:
    """Writes the format ``folder``."""

    columns: Sequence[str] = ()

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._file = plan.file("folder")
        self._label = plan.class_field()
        self._folders = self._class_folders()
        self._others = [one for one in plan.fields if one not in (self._file, self._label)]
        self._cells = [_cells_of(one) for one in self._others]
        self.notes: list[str] = []
        self._note_classes()
        if is_pixels(self._file):
            self.notes.append(f"raw pixels of field {self._file.name!r} were written as PNG")
        self._used: set[int] = set()
        self._csv: Any = None
        self._files = ImageFiles(folder, self._file, plan.num_threads)
        if self._others or self._folders != list((self._label and self._label.class_names) or ()):
            self._csv = _write.create_text(folder / _METADATA, "utf-8")
            self._rows = csv.writer(self._csv, lineterminator="\n")
            self._rows.writerow(self._header())

    def _class_folders(self) -> list[str]:
        names = Names([_METADATA, MARKER])
        return [names.unique(safe_name(text)) for text in (self._label and self._label.class_names) or ()]

    def _note_classes(self) -> None:
        names = list((self._label and self._label.class_names) or ())
        changed = [f"{name!r} -> {folder}" for name, folder in zip(names, self._folders, strict=True) if name != folder]
        if changed:
            more = f" and {len(changed) - 5:,} more" if len(changed) > 5 else ""
            self.notes.append(f"class names that no folder can have, changed: {', '.join(changed[:5])}{more}")
        if self._folders != sorted(self._folders):
            self.notes.append("the order of the class folders' names is not that of the classes' numbers")

    def _header(self) -> list[str]:
        names = Names(["file_name"])
        kept = [self._label, *self._others] if self._label else self._others
        header = {one.name: names.unique(one.name) for one in kept}
        self.notes += [f"field {name!r} is column {own!r}" for name, own in header.items() if own != name]
        return ["file_name", *header.values()]

    @property
    def files(self) -> int:
        """The images or audio, and the CSV file."""
        return self._files.files + (self._csv is not None)

    @property
    def bytes(self) -> int:
        """Of all files."""
        return self._files.bytes + (self._csv_bytes if self._csv is not None else 0)

    def write(self, block: Block) -> None:
        """Writes some rows."""
        codes = [] if self._label is None else check_codes(block, self._label).tolist()
        self._used.update(codes)
        paths = self._files.write(block, [self._folders[code] for code in codes] or [""] * len(block))
        if self._csv is None:
            return
        columns: list[Iterable[Any]] = [paths]
        if self._label is not None:
            columns.append((self._label.class_names or ())[code] for code in codes)
        columns += [cells(block, one) for cells, one in zip(self._cells, self._others, strict=True)]
        self._rows.writerows(zip(*columns, strict=True))

    def finish(self) -> None:
        """Ends the CSV file."""
        unused = len(self._folders) - len(self._used)
        if unused:
            self.notes.append(f"classes without a row, and so without a folder: {unused:,}")
        if self._csv is not None:
            self._csv.flush()
            self._csv_bytes = self._csv.tell()

    def close(self) -> None:
        """Lets go of files and threads."""
        self._files.close()
        if self._csv is not None:
            self._csv.close()


Cells = Callable[[Block, Field], Iterable[str]]


def _cells_of(of: Field) -> Cells:
    """What makes cells of a field's values. ValueError for fields that no CSV file can hold."""
    if of.type == "bytes" or of.is_file:
        raise ValueError(f"field {of.name!r} of {of.type} fits no CSV file; name the others with fields=")
    if of.type == "class":
        return _class_names
    if of.type == "tensor" or of.is_list:
        return _several(of) if of.type == "tensor" and of.class_names is not None else _tensors
    return {"text": _texts, "bool": _booleans}.get(of.type if of.type == "text" else of.dtype, _numbers)


def _texts(block: Block, of: Field) -> Iterable[str]:
    return block.values(of)


def _class_names(block: Block, of: Field) -> Iterable[str]:
    names = of.class_names or ()
    return (names[code] for code in check_codes(block, of).tolist())


def _booleans(block: Block, of: Field) -> Iterable[str]:
    return ("true" if value else "false" for value in block.values(of))


def _numbers(block: Block, of: Field) -> Iterable[str]:
    """The fewest digits that are read back as the same number; nothing for NaN, as packing reads it."""
    return ("" if np.isnan(value) else str(value) for value in block.values(of))


def _tensors(block: Block, of: Field) -> Iterable[str]:
    return (json.dumps(value.tolist()) for value in block.values(of))


def _several(of: Field) -> Cells:
    names = of.class_names or ()
    bad = [name for name in names if _BETWEEN in name or name.strip() != name or not name]
    if bad:
        wanted = f"expected names that can stand between {_BETWEEN!r}; leave the field out with fields="
        raise ValueError(f"field {of.name!r} has the class {bad[0]!r}: {wanted}")

    def cells(block: Block, of: Field) -> Iterable[str]:
        hot = np.asarray(block.values(of))
        odd = ((hot != 0) & (hot != 1)).any(axis=1)
        if odd.any():
            at = int(np.argmax(odd))
            raise SourceError(f"row {block.rows[at]}: field {of.name!r} holds shares of classes; expected 0 and 1")
        return (_BETWEEN.join(names[code] for code in np.flatnonzero(row)) for row in hot)

    return cells
