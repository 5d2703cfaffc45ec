"""Columns of tables that hold bytes, such as encoded images, and what Hugging Face's metadata says of columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fastshard._fastshard import SourceError
from fastshard._sources.samples import file_kind

__all__ = ["blob_array", "blob_field", "is_blob", "labels_of"]

_FILE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def labels_of(schema: pa.Schema) -> dict[str, list[str]]:
    """The class names of columns that Hugging Face's metadata calls ClassLabel."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        found = {
            name: one["names"]
            for name, one in features.items()
            if isinstance(one, Mapping) and one.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    names = set(schema.names)
    return {name: list(one) for name, one in found.items() if name in names and _are_names(one)}


def _are_names(names: object) -> bool:
    return isinstance(names, list) and bool(names) and all(isinstance(name, str) for name in names)


def is_blob(kind: pa.DataType) -> bool:
    """Whether a column holds bytes, or ``{bytes, path}``."""
    if isinstance(kind, pa.BaseExtensionType):
        return False
    if pa.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _is_bytes(kind.field(at).type)
    return _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def blob_field(name: str, column: pa.Array) -> dict[str, Any]:
    """A field of images, or of audio, if the first values are encoded such, else one of bytes."""
    data = column.field("bytes") if pa.types.is_struct(column.type) else column
    known = [value.as_py() for value in data.slice(0, 16) if value.is_valid]
    return {"name": name, "type": file_kind(known) or "bytes"}


def blob_array(where: str, row: int, column: pa.Array, is_file: bool) -> pa.Array:
    """The column as it is packed. ``row`` is its first one's number. SourceError for what is missing."""
    data, paths = column, None
    if pa.types.is_struct(column.type):
        # Other than `field`, `flatten` looks at what is missing of the whole.
        parts = dict(zip((one.name for one in column.type), column.flatten(), strict=True))
        data, paths = parts["bytes"], parts.get("path")
    if data.null_count:
        at = int(pc.index(pc.is_null(data), True).as_py())
        path = None if paths is None else paths[at].as_py()
        found = "nothing" if path is None else f"no bytes, but the path {path!r} alone"
        raise SourceError(f"{where.format(row=row + at)}: {found}; expected bytes")
    data = _cast(where.format(row=row), data, pa.binary())
    if not is_file:
        return data
    text = pa.array([""] * len(data), pa.string()) if paths is None else pc.fill_null(paths.cast(pa.string()), "")
    return pa.StructArray.from_arrays([data, text], fields=list(_FILE))


def _cast(where: str, data: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return data.cast(kind)
    except pa.ArrowInvalid as error:
        raise SourceError(f"{where}: {error}") from None
