"""Rows of record batches by the bytes that they take once nothing is shared between them any more.

Dictionaries and views say a long value once for all rows that hold it: 0.2 MB on disk can be gigabytes as plain text.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

__all__ = ["is_text", "plain", "rows_within", "text_of"]

# Of a view, 16 bytes in all: its length, and where its bytes are.
_VIEW_WORDS = 4


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text, also in a dictionary."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def text_of(column: pa.Array) -> pa.Array:
    """Text of any kind as plain strings."""
    return column.cast(pa.string())


def plain(column: pa.Array) -> pa.Array:
    """The values without a dictionary."""
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def rows_within(batch: pa.RecordBatch, limit: int) -> list[tuple[int, int]]:
    """The rows of a batch cut into ranges of about ``limit`` decoded bytes, or a single row that has more."""
    sizes = np.ones(batch.num_rows)
    for column in batch.columns:
        sizes += _row_bytes(column)
    filled = np.cumsum(sizes)
    ranges = []
    start = 0
    while start < batch.num_rows:
        before = filled[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(filled, before + limit, side="right")))
        ranges.append((start, end))
        start = end
    return ranges


def _row_bytes(column: pa.Array) -> NDArray[Any] | float:
    """Decoded bytes of each row, or the mean where rows share nothing."""
    kind = column.type
    if pa.types.is_struct(kind):
        return sum((_row_bytes(column.field(at)) for at in range(kind.num_fields)), 0.0)
    if not pa.types.is_dictionary(kind):
        return _lengths(column) if _is_view(kind) else column.nbytes / len(column)
    if len(column.dictionary) == 0:
        return 0.0
    sizes: NDArray[Any] = _lengths(column.dictionary)[pc.fill_null(column.indices, 0).to_numpy()]
    return sizes


def _lengths(values: pa.Array) -> NDArray[Any]:
    """Bytes of each value."""
    kind = values.type
    if _is_view(kind):
        words = np.frombuffer(values.buffers()[1], np.int32).reshape(-1, _VIEW_WORDS)
        known = pc.is_valid(values).to_numpy(zero_copy_only=False)
        return np.where(known, words[values.offset : values.offset + len(values), 0], 0)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        lengths: NDArray[Any] = pc.fill_null(pc.binary_length(values), 0).to_numpy(zero_copy_only=False)
        return lengths
    return np.full(len(values), values.nbytes / len(values))


def _is_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))
