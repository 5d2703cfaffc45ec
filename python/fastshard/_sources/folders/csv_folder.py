"""Sources that are a folder of images, or of audio, and a CSV file: which file belongs to which row."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fastshard._fastshard import SourceError
from fastshard._sources.base import FileSource, first_five
from fastshard._sources.csv import column_names, read_csv
from fastshard._sources.match import find_file, match_files
from fastshard._sources.walk import Found, walk

from .csv_columns import build_column

__all__ = ["TableOptions", "table_source"]

_FILE_COLUMNS = ("file", "filename", "path", "image", "audio", "image index", "file_name")


@dataclass(frozen=True)
class TableOptions:
    """How to read the CSV file; see ``fastshard.pack``."""

    csv: str
    file_column: str | None = None
    label: str | Sequence[str] | None = None
    label_sep: str | None = None
    no_label: str | None = None
    types: Mapping[str, str] | None = None


def table_source(root: str, options: TableOptions, *, follow_symlinks: bool, on_error: str) -> FileSource:
    """Joins the rows of a CSV file with the images or audio below ``root``. Rows count from 1, without the header.

    Raises SourceError for rows without a file (dropped with ``on_error="skip"``), files of two rows, paths that leave
    ``root``, names that several files have, images beside audio, and values of the wrong type.
    """
    found = walk(root, follow_symlinks)
    path = find_file(options.csv, root, "CSV file")
    names = column_names(path)
    file_column = _file_column(path, names, options.file_column)
    labels = _label_columns(path, names, options.label)
    table = read_csv(path, _types(path, names, options, [file_column, *(labels if options.label_sep else [])]))
    matches, missing = match_files(path, "row", table.column(file_column).to_pylist(), root, found)
    if missing and on_error == "raise":
        rows = first_five(f"{name!r} (row {row})" for row, name in missing)
        raise SourceError(f"{path}: {len(missing):,} rows without a file below {root}: {rows}")
    rows_kept = sorted(matches)
    if not rows_kept:
        raise SourceError(f"{path}: none of its {table.num_rows:,} rows names a file below {root}")
    table = table.take(pa.array([row - 1 for row in rows_kept]))
    files = [matches[row] for row in rows_kept]
    kind = _kind(path, rows_kept, files, found)
    fields, columns = _fields(path, table, rows_kept, file_column, labels, options, kind)
    of_kind, rest = (found.audio, found.images) if kind == "audio" else (found.images, found.audio)
    return FileSource(
        root=root,
        fields=[{"name": kind, "type": kind}, *fields],
        table=pa.table({kind: pa.array(files, pa.string()), **columns}),
        provenance={"source": root, "kind": "csv", "csv": path, "file_column": file_column, "label": labels},
        unused_files=tuple(sorted(set(of_kind).difference(files))),
        ignored_files=tuple(sorted({*found.others, *rest}.difference(files, [os.path.relpath(path, root)]))),
        missing_files=tuple(missing),
        row_numbers=tuple(rows_kept),
    )


def _kind(path: str, rows: list[int], files: list[str], found: Found) -> str:
    """What the files are, by their names: audio if one of them is, else images."""
    audio = set(found.audio)
    if audio.isdisjoint(files):
        return "image"
    others = [f"{name!r} (row {row})" for row, name in zip(rows, files, strict=True) if name not in audio]
    if others:
        raise SourceError(f"{path}: names audio and other files, expected one kind: {first_five(others)}")
    return "audio"


def _file_column(path: str, names: list[str], wanted: str | None) -> str:
    if wanted is not None:
        return _known(path, names, "file_column", wanted)
    lower = {name.lower(): name for name in reversed(names)}
    for candidate in _FILE_COLUMNS:
        if candidate in lower:
            return lower[candidate]
    raise SourceError(f"{path}: no column of file names; choose one of {', '.join(map(repr, names))} with file_column=")


def _label_columns(path: str, names: list[str], label: str | Sequence[str] | None) -> list[str]:
    if label is None:
        return [name for name in names if name.lower() == "label"][:1]
    labels = [label] if isinstance(label, str) else list(label)
    return [_known(path, names, "label", name) for name in labels]


def _known(path: str, names: list[str], option: str, name: str) -> str:
    if name not in names:
        raise SourceError(f"{option}={name!r}: {path} has the columns {', '.join(map(repr, names))}")
    return name


def _types(path: str, names: list[str], options: TableOptions, texts: list[str]) -> dict[str, pa.DataType]:
    forced = {}
    for name, alias in (options.types or {}).items():
        _known(path, names, "types", name)
        try:
            forced[name] = pa.string() if alias in ("text", "str") else pa.type_for_alias(alias)
        except (ValueError, TypeError):
            raise ValueError(
                f"types[{name!r}]={alias!r}: expected a type such as 'int32', 'float32' or 'text'"
            ) from None
    return {**forced, **{name: pa.string() for name in texts}}


def _fields(
    path: str,
    table: pa.Table,
    rows: list[int],
    file_column: str,
    labels: list[str],
    options: TableOptions,
    kind: str,
) -> tuple[list[dict[str, Any]], dict[str, pa.Array]]:
    """Field descriptions and arrays of all columns but the one of file names."""
    fields, columns = [], {}
    for number, name in enumerate(table.column_names, start=1):
        column = table.column(name)
        if name == file_column or (not name and _is_empty(column)):
            continue
        name = name or f"column_{number}"  # pandas writes its index without one
        _check_name(path, name, kind)
        is_label = name in labels
        sep = options.label_sep if is_label else None
        field, array = build_column(
            f"{path}: ", name, column, rows, is_label=is_label, sep=sep, no_label=options.no_label
        )
        fields.append(field)
        columns[name] = array
    return fields, columns


def _is_empty(column: pa.ChunkedArray) -> bool:
    if pa.types.is_string(column.type):
        return not pc.any(pc.not_equal(column, "")).as_py()
    return bool(column.null_count == len(column))


def _check_name(path: str, name: str, kind: str) -> None:
    if name.startswith("_"):
        raise SourceError(f"{path}: column {name!r}: names with a leading underscore are fastshard's own; rename it")
    if name == kind:
        raise SourceError(
            f"{path}: column {kind!r} is not the file column but would be named like the files; rename it"
        )
