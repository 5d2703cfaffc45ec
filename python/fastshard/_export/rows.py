"""What an export reads: the rows of a dataset or view, a bounded block at a time, each held against its checksum."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastshard._rows import arrow
from fastshard._rows.opened import Field
from fastshard._rows.view import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

__all__ = ["Block", "blocks"]

_BLOCK_BYTES = 16 << 20
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Block:
    """Some rows in their order: ``start`` is the place of the first in the export, ``rows`` are their numbers."""

    start: int
    rows: Integers
    batch: pa.RecordBatch
    fields: tuple[Field, ...]
    _values: dict[str, Sequence[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def values(self, of: Field) -> Sequence[Any]:
        """The values of a field by row: ``(bytes, path)`` of images and audio, memory views on the dataset."""
        if of.name not in self._values:
            self._values[of.name] = _values(self.batch.column(of.name), of)
        return self._values[of.name]

    def column(self, name: str) -> NDArray[Any]:
        """A column of numbers of fastshard's own."""
        values: NDArray[Any] = self.batch.column(name).to_numpy()
        return values


def blocks(
    dataset: View, fields: Sequence[Field], columns: Sequence[str] = (), limit: int = _BLOCK_BYTES
) -> Iterator[Block]:
    """The rows, about ``limit`` bytes at a time and one at least; ``columns`` of fastshard's own come along.

    Raises CorruptionError for a row that is not what was packed, with its number.
    """
    names = [*(one.name for one in fields), *columns]
    source = _Batches(dataset, names, fields, limit)
    start = 0
    for rows in source.pieces(dataset._row_numbers()):
        dataset._opened.native.check(rows.astype("<i8").tobytes())
        yield Block(start, rows, source.batch(rows), tuple(fields))
        start += len(rows)


class _Batches:
    """The blocks of all shards, of which rows are taken without reading what lies between them."""

    def __init__(self, dataset: View, names: list[str], fields: Sequence[Field], limit: int) -> None:
        tables = dataset._opened.tables(names)
        self._batches = [batch for table in tables for batch in table.to_batches() if batch.num_rows]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        self._row_bytes: dict[int, Integers] = {}
        self._fields = fields
        self._limit = limit

    def pieces(self, rows: Integers) -> Iterator[Integers]:
        """``rows`` cut into what fits into a block, and where one batch ends and rows just go on in the next."""
        for at in range(0, len(rows), _ROWS_AT_ONCE):
            part = rows[at : at + _ROWS_AT_ONCE]
            homes = np.searchsorted(self._starts, part, side="right") - 1
            filled = np.cumsum(self._bytes_of(part, homes))
            follows = np.diff(part, prepend=part[0] - 1) == 1
            moves = np.flatnonzero((np.diff(homes, prepend=homes[0]) > 0) & follows)
            in_order = np.append(moves, len(part)) if follows.all() else np.array([len(part)])
            start = 0
            while start < len(part):
                before = filled[start - 1] if start else 0
                fitting = int(np.searchsorted(filled, before + self._limit, side="right"))
                end = min(max(fitting, start + 1), int(in_order[np.searchsorted(in_order, start, side="right")]))
                yield part[start:end]
                start = end

    def _bytes_of(self, rows: Integers, homes: Integers) -> Integers:
        sizes = np.empty(len(rows), np.int64)
        for home in np.unique(homes).tolist():
            if home not in self._row_bytes:
                self._row_bytes[home] = _row_bytes(self._batches[home], self._fields)
            here = homes == home
            sizes[here] = self._row_bytes[home][rows[here] - self._starts[home]]
        return sizes

    def batch(self, rows: Integers) -> pa.RecordBatch:
        """The rows; not copied if they follow each other in one batch."""
        homes = np.searchsorted(self._starts, rows, side="right") - 1
        first = int(homes[0])
        if homes[-1] == first and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
            return self._batches[first].slice(int(rows[0] - self._starts[first]), len(rows))
        return arrow.take_block(self._batches, self._starts, rows).combine_chunks().to_batches()[0]


def _row_bytes(batch: pa.RecordBatch, fields: Sequence[Field]) -> Integers:
    """About how many bytes each row takes in memory."""
    sizes = np.full(batch.num_rows, 64, np.int64)
    for of in fields:
        column = batch.column(of.name)
        if of.is_file:
            sizes += pc.binary_length(column.field("bytes")).to_numpy()
        elif of.type in ("text", "bytes"):
            sizes += pc.binary_length(column).to_numpy()
        else:
            item = np.dtype(of.dtype).itemsize * int(np.prod(of.shape or ()))
            sizes += item * (pc.list_value_length(column).to_numpy() if of.is_list else 1)
    return sizes


def _values(column: pa.Array, of: Field) -> Sequence[Any]:
    if of.is_file:
        return list(zip(_slices(column.field("bytes")), column.field("path").to_pylist(), strict=True))
    if of.is_list:
        return arrow.list_values(column, of)
    if of.type in ("text", "bytes"):
        listed: list[Any] = column.to_pylist()
        return listed
    return arrow.numpy_values(column, of)  # type: ignore[return-value] # indexed like a sequence


def _slices(column: pa.BinaryArray) -> list[memoryview]:
    """The values where they lie."""
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1].tolist()
    whole = memoryview(data) if data is not None else memoryview(b"")
    return [whole[start:end] for start, end in itertools.pairwise(ends)]
