"""Datasets as pyarrow sees them: tables and columns over the blocks that loaders read."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .opened import Field
    from .view import View

__all__ = ["list_values", "numpy_values", "read_column", "read_schema", "read_table", "take_block"]

# Rows gathered at a time when a view is out of order: bounds what one gathered chunk can hold far below the 2 GiB that
# Arrow's 32-bit offsets allow.
_TAKE_ROWS = 256


def read_schema(dataset: View) -> pa.Schema:
    """The columns of a dataset; all shards have the same."""
    return dataset._opened.schema()


def read_table(dataset: View, columns: list[str] | None = None) -> pa.Table:
    """The rows of a dataset or view; ``columns`` picks some. Reads the blocks that hold them, and no others."""
    rows = dataset._rows
    is_run = isinstance(rows, range) and rows.step == 1
    numbers = dataset._row_numbers() if len(rows) and not is_run else None
    span = cast("range", rows) if numbers is None else range(int(numbers.min()), int(numbers.max()) + 1)
    tables = list(dataset._opened.tables(columns, span)) if len(rows) else []
    if not tables:
        schema = read_schema(dataset)
        return (schema if columns is None else pa.schema([schema.field(name) for name in columns])).empty_table()
    # Concatenated datasets may be of different versions of the format, and the older lack a column of fastshard's own.
    table = pa.concat_tables(tables, promote_options="default")
    return table if numbers is None else _take(table, numbers - span.start)


def read_column(dataset: View, name: str) -> NDArray[Any]:
    """One column of a dataset or view as an array of shape ``[rows, ...]``; lists as objects, an array each."""
    known = read_schema(dataset).names
    if name not in known:
        raise KeyError(f"column {name!r}: {dataset._opened.name} has {', '.join(known)}")
    field = dataset._opened.fields.get(name)
    if field is not None and field.type in ("image", "audio"):
        what = "images have different sizes" if field.type == "image" else "audio has different lengths"
        raise ValueError(f"column {name!r}: {what}; use a Loader, or encoded(i) for the bytes")
    column = read_table(dataset._whole(), [name]).column(0)
    chunks = column.chunks or [column.combine_chunks()]
    if field is not None and field.is_list:
        lists = [one for chunk in chunks for one in list_values(chunk, field)]
        values = np.empty(len(lists), object)
        values[:] = lists
        return values[dataset._row_numbers()]
    values = np.concatenate([numpy_values(chunk, field) for chunk in chunks])
    return values[dataset._row_numbers()]


def list_values(chunk: pa.ListArray, field: Field) -> list[NDArray[Any]]:
    """The lists of a chunk, each a view of it."""
    values = chunk.values.flatten() if pa.types.is_fixed_size_list(chunk.values.type) else chunk.values
    elements = values.to_numpy().astype(field.dtype, copy=False).reshape(-1, *(field.shape or ()))
    offsets = chunk.offsets.to_numpy()
    return [elements[start:end] for start, end in itertools.pairwise(offsets)]


def numpy_values(chunk: pa.Array, field: Field | None) -> NDArray[Any]:
    """The values of a chunk in the type and shape of their field."""
    if isinstance(chunk, pa.ExtensionArray):
        chunk = chunk.storage
    if isinstance(chunk, pa.FixedSizeListArray):
        chunk, rows = chunk.flatten(), len(chunk)
        shape = (rows, *(field.shape or ())) if field is not None else (rows, -1)
    else:
        shape = (len(chunk),)
    values: NDArray[Any] = chunk.to_numpy(zero_copy_only=False).reshape(shape)
    # NumPy's own type of byte strings drops zeros at their end: texts and bytes are objects.
    return (
        values.astype(field.dtype, copy=False) if field is not None and field.type not in ("text", "bytes") else values
    )


def _take(table: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """Rows in any order, gathered block by block: ``Table.take`` would join all chunks first, which can overflow."""
    batches = table.to_batches()
    starts = np.cumsum([0] + [batch.num_rows for batch in batches])
    blocks = [
        take_block(batches, starts, rows[start : start + _TAKE_ROWS]) for start in range(0, len(rows), _TAKE_ROWS)
    ]
    return pa.concat_tables(blocks) if blocks else table.slice(0, 0)


def take_block(batches: list[pa.RecordBatch], starts: NDArray[np.int64], rows: NDArray[np.int64]) -> pa.Table:
    """Rows in any order, of batches whose first rows are ``starts``. What they hold must stay below 2 GiB."""
    homes = np.searchsorted(starts, rows, side="right") - 1
    order = np.argsort(homes, kind="stable")
    pieces = []
    for home in np.unique(homes):
        members = rows[homes == home]
        pieces.append(batches[home].take(pa.array(members - starts[home])))
    gathered = pa.Table.from_batches(pieces)
    if np.all(order[:-1] < order[1:]):
        return gathered
    return gathered.combine_chunks().take(pa.array(np.argsort(order, kind="stable")))
