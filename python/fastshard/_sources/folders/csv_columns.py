"""Columns of a CSV file as fields: numbers, text, classes and multi-hot labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastshard._fastshard import SourceError
from fastshard._sources.base import class_field, first_five
from fastshard._sources.number_text import numeric_order

__all__ = ["build_column"]


def build_column(
    prefix: str,
    name: str,
    column: pa.ChunkedArray,
    rows: list[int],
    *,
    is_label: bool,
    sep: str | None,
    no_label: str | None,
) -> tuple[dict[str, Any], pa.Array]:
    """The field that a column becomes, and its values without nulls. ``rows`` are the row numbers for errors."""
    where = f"{prefix}column {name!r}"
    array = column.combine_chunks()
    if pa.types.is_null(array.type):
        array = array.cast(pa.string())
    if pa.types.is_large_string(array.type):
        array = array.cast(pa.string())
    if not pa.types.is_string(array.type):
        return _numbers(where, name, array, rows, is_label)
    array = pc.fill_null(array, "")
    if not is_label:
        return {"name": name, "type": "text"}, array
    if sep == "auto":
        sep = "|" if pc.any(pc.match_substring(array, "|")).as_py() else None
    return _classes(where, name, array, rows) if sep is None else _multi_hot(name, array, sep, no_label)


def _numbers(
    where: str, name: str, array: pa.Array, rows: list[int], is_label: bool
) -> tuple[dict[str, Any], pa.Array]:
    kind = array.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise SourceError(f"{where} is {kind}; expected numbers or UTF-8 text")
    if array.null_count and is_label and not pa.types.is_floating(kind):
        empty = [row for row, is_null in zip(rows, array.is_null().to_pylist(), strict=True) if is_null]
        raise SourceError(f"{where}: {len(empty):,} rows have no label: rows {first_five(empty)}")
    if array.null_count:
        _check_rounding(where, name, array, rows)
        array = pc.fill_null(array.cast(pa.float32() if kind == pa.float32() else pa.float64()), float("nan"))
    dtype = "bool" if pa.types.is_boolean(array.type) else np.dtype(array.type.to_pandas_dtype()).name
    return {"name": name, "type": "scalar", "dtype": dtype}, array.cast(pa.uint8()) if dtype == "bool" else array


def _check_rounding(where: str, name: str, array: pa.Array, rows: list[int]) -> None:
    """Refuses whole numbers that would be rounded, since NaN for missing values makes floats of a column."""
    if not pa.types.is_integer(array.type):
        return
    floats = array.cast(pa.float64(), safe=False)
    large = pc.fill_null(pc.greater(pc.abs(floats), 2.0**53 - 1), False)
    if pc.any(large).as_py():
        at = int(pc.index(large, True).as_py())
        raise SourceError(
            f"{where}: row {rows[at]}: {array[at].as_py()} would be rounded, because other rows are empty; "
            f'expected a value in every row; types={{{name!r}: "text"}} keeps the digits'
        )


def _classes(where: str, name: str, array: pa.Array, rows: list[int]) -> tuple[dict[str, Any], pa.Array]:
    names = numeric_order(pc.unique(array).to_pylist())
    if names and names[0] == "":
        empty = [row for row, text in zip(rows, array.to_pylist(), strict=True) if not text]
        raise SourceError(f"{where}: {len(empty):,} rows have no label: rows {first_five(empty)}")
    codes = pc.index_in(array, pa.array(names, pa.string())).cast(pa.int64())
    return class_field(name, names), codes


def _multi_hot(name: str, array: pa.Array, sep: str, no_label: str | None) -> tuple[dict[str, Any], pa.Array]:
    """One float32 a class: 1 where the cell, split at ``sep``, names it. ``no_label`` and nothing are no class."""
    parts = pc.split_pattern(array, sep)
    values = pc.utf8_trim_whitespace(parts.flatten())
    classes = numeric_order(set(pc.unique(values).to_pylist()) - {"", no_label})
    codes = pc.index_in(values, pa.array(classes, pa.string()))
    named = pc.is_valid(codes).to_numpy(zero_copy_only=False)
    hot = np.zeros((len(array), max(1, len(classes))), np.float32)
    owners = pc.list_parent_indices(parts).to_numpy()
    hot[owners[named], codes.drop_null().to_numpy()] = 1
    if not classes:
        raise SourceError(f"column {name!r}: no cell names a class")
    field = {"name": name, "type": "tensor", "dtype": "float32", "shape": [len(classes)], "class_names": classes}
    return field, pa.FixedSizeListArray.from_arrays(pa.array(hot.reshape(-1)), len(classes))
