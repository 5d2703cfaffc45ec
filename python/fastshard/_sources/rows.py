"""Sources that are iterables of dicts: the first sample sets the fields, all others must match."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import pyarrow as pa

from fastshard._base.records import SkippedRow
from fastshard._fastshard import SourceError

from .base import Sample, StreamSource, ipc_stream
from .columns import column_of

__all__ = ["RowSource"]

_CHUNK_BYTES = 16 << 20
_FIXED_CHUNK_BYTES = 32 << 20
_CHUNK_ROWS = 65_536


class RowSource(StreamSource):
    """Samples of an iterable, as record batches.

    Memory stays bounded: chunks hold up to 16 MiB, or 32 MiB (a power of two of rows) if all fields have a fixed size,
    and one sample at least. Rows count from 0. Raises SourceError for a sample that does not match the first. ``hints``
    are types of fields which need not be there. Given a
    list of ``skipped`` rows, it leaves such samples out and notes them there, as whoever makes the samples may do.
    """

    def __init__(
        self,
        samples: Iterable[Mapping[str, Any]],
        class_names: Mapping[str, Sequence[str]],
        shard_size: int = _FIXED_CHUNK_BYTES,
        types: Mapping[str, str] | None = None,
        *,
        hints: Mapping[str, str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        skipped: list[SkippedRow] | None = None,
    ) -> None:
        iterator = iter(samples)
        first = next(iterator, None)
        if first is None:
            raise SourceError("the iterable has no samples" if provenance is None else _nothing(provenance, skipped))
        _check_mapping(0, first)
        for option, names in (("class_names", class_names), ("types", types or {})):
            if strangers := sorted(set(names).difference(first)):
                raise SourceError(f"{option} for {strangers[0]!r}: the first sample has {', '.join(map(repr, first))}")
        kinds = {**(hints or {}), **(types or {})}
        self._columns = [column_of(name, one, class_names.get(name), kinds.get(name)) for name, one in first.items()]
        self._names = first.keys()
        # No chunk, which becomes a block, is larger than a shard is meant to be.
        self._chunk_bytes = min(_CHUNK_BYTES, shard_size)
        self._fixed_chunk_bytes = min(_FIXED_CHUNK_BYTES, shard_size)
        self._samples = itertools.chain([first], iterator)
        self._skipped = skipped
        self._length = len(samples) if isinstance(samples, Sized) else 0
        self.skipped = () if skipped is None else skipped
        self.provenance = dict(provenance or {"source": type(samples).__name__, "kind": "iterable"})
        self.fields = [column.field for column in self._columns]

    def __len__(self) -> int:
        return self._length

    def chunks(self) -> Iterator[bytes]:
        """One Arrow IPC stream with one record batch for every chunk of rows."""
        limit = self._fixed_rows()
        rows, filled = 0, 0
        for row, sample in enumerate(self._samples):
            added = self._add(row, rows, sample)
            if added is None:
                continue
            filled += added
            rows += 1
            if rows == limit or (filled >= self._chunk_bytes and not self._is_fixed):
                yield self._take()
                rows, filled = 0, 0
        if rows:
            yield self._take()

    @property
    def _is_fixed(self) -> bool:
        return all(column.row_bytes is not None for column in self._columns)

    def _fixed_rows(self) -> int:
        if not self._is_fixed:
            return _CHUNK_ROWS
        fitting = max(1, self._fixed_chunk_bytes // sum(column.row_bytes or 0 for column in self._columns))
        return min(_CHUNK_ROWS, int(2 ** (fitting.bit_length() - 1)))

    def _add(self, row: int, waiting: int, sample: Mapping[str, Any]) -> int | None:
        """The bytes of a sample that was taken in behind so many others; None for one that was skipped."""
        if not isinstance(sample, Sample):
            return self._add_values(row, sample)
        try:
            return self._add_values(sample.row, sample)
        except SourceError as error:
            if self._skipped is None:
                raise SourceError(f"{sample.place}: {error}") from None
            self._skipped.append(SkippedRow(sample.row, sample.place, str(error)))
            for column in self._columns:
                del column.values[waiting:]
            return None

    def _add_values(self, row: int, sample: Mapping[str, Any]) -> int:
        _check_mapping(row, sample)
        if sample.keys() != self._names:
            expected, received = ", ".join(map(repr, self._names)), ", ".join(map(repr, sample))
            raise SourceError(f"row {row}: fields {received}; expected those of the first sample: {expected}")
        return sum(column.add(row, sample[column.name]) for column in self._columns)

    def _take(self) -> bytes:
        arrays = [column.take() for column in self._columns]
        return ipc_stream(pa.record_batch(arrays, names=[column.name for column in self._columns]))


def _nothing(provenance: Mapping[str, Any], skipped: Sequence[SkippedRow] | None) -> str:
    said = f"{provenance['source']}: no samples"
    return f"{said}; the first that was skipped: {skipped[0].path}: {skipped[0].error}" if skipped else said


def _check_mapping(row: int, sample: object) -> None:
    if not isinstance(sample, Mapping):
        raise SourceError(f"row {row}: a sample is {type(sample).__name__}; expected a dict of field names and values")
