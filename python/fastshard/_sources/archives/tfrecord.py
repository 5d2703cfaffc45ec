"""TFRecord files of ``tf.train.Example``: length and data each with a checksum, record behind record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastshard._base.crc import masked_crc
from fastshard._fastshard import SourceError
from fastshard._sources.base import MAX_ITEM, Encoded
from fastshard._sources.options import SourceOptions
from fastshard._sources.rows import RowSource
from fastshard._sources.samples import chained, file_kind, rows_of, text_of
from fastshard._sources.stream import Input, open_input

from .protobuf import Feature, read_example

__all__ = ["tfrecord_source"]

_PREFIX = 12  # the length and its checksum
_SUFFIX = 4
_NONE: Feature = ("none", None)
_BYTES = ("image", "audio", "text", "bytes")


class _Record(NamedTuple):
    """A record: the file, its number from 0 and its place there, and its bytes."""

    path: str
    number: int
    offset: int
    data: bytes
    # Whether the bytes lie in the file as they are.
    places: bool

    @property
    def place(self) -> str:
        """For errors."""
        return f"{self.path}: record {self.number:,} at byte {self.offset:,}"

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)


def tfrecord_source(paths: Sequence[str], options: SourceOptions) -> RowSource:
    """The Examples of files, one file behind the other.

    Raises SourceError that names file, record, byte and reason.
    """
    records = chained(paths, _records)
    provenance = {"kind": "tfrecord", "source": list(paths) if len(paths) > 1 else paths[0]}
    return rows_of(records, lambda first: _Plan(first, options.types), options, provenance)


def _records(path: str) -> Iterator[_Record]:
    source = open_input(path)
    try:
        number = 0
        while (record := _next(source, number)) is not None:
            yield record
            number += 1
    finally:
        source.close()


def _next(source: Input, number: int) -> _Record | None:
    offset = source.position
    prefix = source.take(_PREFIX)
    if not prefix:
        return None
    place = f"{source.path}: record {number:,} at byte {offset:,}"
    if len(prefix) < _PREFIX:
        raise SourceError(f"{place}: truncated: {len(prefix)} of the {_PREFIX} bytes of its length")
    if int.from_bytes(prefix[8:], "little") != masked_crc(prefix, 0, 8):
        raise SourceError(f"{place}: the checksum of its length is wrong")
    length = int.from_bytes(prefix[:8], "little")
    if length > MAX_ITEM:
        raise SourceError(f"{place}: {length:,} bytes; a record holds at most 2 GiB")
    data = source.take(length + _SUFFIX)
    if len(data) < length + _SUFFIX:
        raise SourceError(f"{place}: truncated: {len(data):,} of {length + _SUFFIX:,} bytes")
    if int.from_bytes(data[length:], "little") != masked_crc(data, 0, length):
        raise SourceError(f"{place}: the checksum of its data is wrong")
    return _Record(source.path, number, offset, data, source.places)


class _Plan:
    """What each feature becomes, as the first records show."""

    def __init__(self, first: Sequence[_Record], types: Mapping[str, str]) -> None:
        self.types: dict[str, str] = {}
        self._kinds: dict[str, str] = {}
        self._asked = types
        examples = [_parsed(record) for record in first]
        # A record that is no Example shows again, with its place, when it is decoded.
        known = [(record, example) for record, example in zip(first, examples, strict=True) if example is not None]
        # Sorted, since the order in a record is any.
        for name in sorted({name for _, example in known for name in example}):
            features = [(record, example.get(name, _NONE)) for record, example in known]
            self._kinds[name] = self._kind(name, features)

    def _kind(self, name: str, features: Sequence[tuple[_Record, Feature]]) -> str:
        asked = self._asked.get(name)
        wires = {kind for _, (kind, _) in features} - {"none"}
        if asked is not None:
            if asked not in _BYTES and not asked.startswith("list["):
                raise ValueError(
                    f'types[{name!r}]={asked!r}: expected "image", "audio", "text", "bytes" or such as "list[int32]"'
                )
            return "list" if asked.startswith("list") else asked
        if wires == {"bytes"}:
            samples = [record.data[start:stop] for record, (_, spans) in features for start, stop in spans or ()]
            kind = file_kind(samples) or ("text" if _is_text(samples) else "bytes")
            self.types[name] = kind
            return kind
        counts = {0 if values is None else len(values) for _, (_, values) in features}
        if counts == {1}:
            return "scalar"
        if len(counts) == 1:
            return "tensor"
        self.types[name] = f"list[{'float32' if 'float' in wires else 'int64'}]"
        return "list"

    def decode(self, record: _Record) -> dict[str, Any]:
        """The values of an Example."""
        found = read_example(record.data, 0, len(record.data) - _SUFFIX)
        if strangers := found.keys() - self._kinds.keys():
            raise SourceError(f"feature {min(strangers)!r}: the first records have none of that name")
        return {name: self._value(record, name, *found.get(name, _NONE)) for name in self._kinds}

    def _value(self, record: _Record, name: str, kind: str, values: Any) -> Any:
        wanted = self._kinds[name]
        if wanted in _BYTES and kind == "bytes" and len(values) == 1:
            return _bytes_value(record, name, wanted, *values[0])
        if wanted == "list" and kind in ("none", "float", "int64"):
            return np.empty(0, np.float32) if values is None else values
        if kind in ("float", "int64") and wanted == "scalar" and len(values) == 1:
            return values[0]
        if kind in ("float", "int64") and wanted == "tensor":
            return values
        count = 0 if values is None else len(values)
        hint = f'; types={{{name!r}: "list[int64]"}} makes lists' if wanted in ("scalar", "tensor") else ""
        raise SourceError(f"feature {name!r}: {count:,} values of type {kind}; expected {wanted}{hint}")


def _bytes_value(record: _Record, name: str, wanted: str, start: int, stop: int) -> Any:
    if wanted == "text":
        return text_of(f"feature {name!r}", record.data[start:stop])
    if wanted == "bytes":
        return record.data[start:stop]
    path = f"{record.path.rpartition('/')[2]}/{record.number}"
    if record.places:
        return Encoded(path, b"", record.path, record.offset + _PREFIX + start, stop - start)
    return Encoded(path, record.data[start:stop])


def _parsed(record: _Record) -> dict[str, Feature] | None:
    try:
        return read_example(record.data, 0, len(record.data) - _SUFFIX)
    except SourceError:
        return None


def _is_text(samples: Sequence[bytes]) -> bool:
    try:
        for sample in samples:
            sample.decode()
    except UnicodeDecodeError:
        return False
    return True
