"""Just enough of protocol buffers to read ``tf.train.Example``, with every length held against what is there.

``Example { Features features = 1 }``, ``Features { map<string, Feature> feature = 1 }``, ``Feature { oneof { BytesList
bytes_list = 1, FloatList float_list = 2, Int64List int64_list = 3 } }``; lists have one repeated field, 1. Numbers come
packed or one by one; fields that nobody knows are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastshard._fastshard import SourceError, usual_features

__all__ = ["Feature", "read_example"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_FEATURES = 10_000
# Of SequenceExample { Features context = 1, FeatureLists feature_lists = 2 }.
_FEATURE_LISTS = 2
# Bytes of packed numbers that are read one by one, since setting arrays up takes longer.
_FEW = 24
_KINDS = {1: "bytes", 2: "float", 3: "int64"}

# Of a feature: "bytes" with (start, end) pairs, "float" or "int64" with an array, or None for one without a value.
Feature = tuple[str, Any]


def read_example(data: bytes, start: int, end: int) -> dict[str, Feature]:
    """The features of an Example by their names. Raises SourceError with the byte, counted from ``start``."""
    try:
        usual = usual_features(data, start, end)
        if usual is not None:
            return {name: _usual(data, kind, at, stop) for name, kind, at, stop in usual}
        found: dict[str, Feature] = {}
        for number, wire, at, stop in _fields(data, start, end):
            if number == 1:
                _expect(wire, _BYTES, at, "features")
                _read_features(data, at, stop, found)
            elif number == _FEATURE_LISTS and _are_lists(data, wire, at, stop):
                raise SourceError("a SequenceExample, whose feature lists no field holds; expected a tf.train.Example")
        return found
    except _WrongError as error:
        at = error.args[0] - start
        raise SourceError(f"byte {at:,} of {end - start:,}: {error.args[1]}") from None


def _are_lists(data: bytes, wire: int, at: int, end: int) -> bool:
    """Whether field 2 holds what it holds in a SequenceExample, which begins as an Example does: entries, field 1."""
    try:
        return wire == _BYTES and all(number == 1 and kind == _BYTES for number, kind, _, _ in _fields(data, at, end))
    except _WrongError:
        return False


class _WrongError(Exception):
    """Where, and what."""


def _usual(data: bytes, kind: str, start: int, stop: int) -> Feature:
    """The value of a feature of a usual Example, the same as `_feature` makes of it."""
    if kind == "bytes":
        return kind, [(start, stop)]
    if kind == "int64":
        return kind, _packed(data, start, stop)
    return kind, np.frombuffer(data, "<f4", (stop - start) // 4, start)


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    start = at
    while True:
        if at >= end:
            raise _WrongError(start, "a number that goes on behind the end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise _WrongError(start, "a number of more than ten bytes")
    if value >> 64:
        raise _WrongError(start, "a number of more than 64 bits")
    return value, at


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, and where the value starts and ends, of each field of a message."""
    while at < end:
        start = at
        byte = data[at]
        if byte < 0x80:
            tag, at = byte, at + 1
        else:
            tag, at = _varint(data, at, end)
        wire = tag & 7
        if wire == _BYTES:
            length, at = _varint(data, at, end)
            stop = at + length
        elif wire == _VARINT:
            _, stop = _varint(data, at, end)
        elif wire in (_FIXED64, _FIXED32):
            stop = at + (8 if wire == _FIXED64 else 4)
        else:
            raise _WrongError(start, f"wire type {wire}; expected 0, 1, 2 or 5")
        if tag < 8 or stop > end:
            raise _WrongError(
                start, f"a field of {stop - at:,} bytes, {end - at:,} are left" if tag >= 8 else "field 0"
            )
        yield tag >> 3, wire, at, stop
        at = stop


def _expect(wire: int, wanted: int, at: int, what: str) -> None:
    if wire != wanted:
        raise _WrongError(at, f"{what} of wire type {wire}; expected {wanted}")


def _read_features(data: bytes, at: int, end: int, found: dict[str, Feature]) -> None:
    start = at
    while at < end:
        at = _read_field(data, at, end, found)
    if len(found) > _MAX_FEATURES:
        raise _WrongError(start, f"more than {_MAX_FEATURES:,} features")


def _read_field(data: bytes, at: int, end: int, found: dict[str, Feature]) -> int:
    """A field of the features, which is an entry or unknown, and where it ends."""
    number, wire, entry, entry_end = next(_fields(data, at, end))
    if number != 1:
        return entry_end
    _expect(wire, _BYTES, entry, "an entry of the features")
    name, feature = "", ("none", None)
    for part, part_wire, start, stop in _fields(data, entry, entry_end):
        if part == 1:
            _expect(part_wire, _BYTES, start, "the name of a feature")
            name = _name(data, start, stop)
        elif part == 2:
            _expect(part_wire, _BYTES, start, f"feature {name!r}")
            feature = _feature(data, start, stop, name)
    # As everywhere in protocol buffers, the last of several counts.
    found[name] = feature
    return entry_end


def _name(data: bytes, start: int, stop: int) -> str:
    try:
        return data[start:stop].decode()
    except UnicodeDecodeError:
        raise _WrongError(start, "the name of a feature is not UTF-8") from None


def _feature(data: bytes, at: int, end: int, name: str) -> Feature:
    found: Feature = ("none", None)
    for number, wire, start, stop in _fields(data, at, end):
        kind = _KINDS.get(number)
        if kind is None:
            continue
        _expect(wire, _BYTES, start, f"the {kind} list of feature {name!r}")
        if kind == "bytes":
            found = kind, _bytes_list(data, start, stop, name)
        else:
            found = kind, (_floats if kind == "float" else _integers)(data, start, stop, name)
    return found


def _bytes_list(data: bytes, at: int, end: int, name: str) -> list[tuple[int, int]]:
    values = []
    for number, wire, start, stop in _fields(data, at, end):
        if number == 1:
            _expect(wire, _BYTES, start, f"a value of feature {name!r}")
            values.append((start, stop))
    return values


def _floats(data: bytes, at: int, end: int, name: str) -> NDArray[np.float32]:
    parts = []
    for number, wire, start, stop in _fields(data, at, end):
        if number != 1:
            continue
        if wire not in (_BYTES, _FIXED32) or (stop - start) % 4:
            raise _WrongError(start, f"{stop - start:,} bytes of wire type {wire} as floats of feature {name!r}")
        parts.append(np.frombuffer(data, "<f4", (stop - start) // 4, start))
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.float32), *parts])


def _integers(data: bytes, at: int, end: int, name: str) -> NDArray[np.int64]:
    parts = []
    single: list[int] = []
    for number, wire, start, stop in _fields(data, at, end):
        if number != 1:
            continue
        if wire == _VARINT:
            single.append(_varint(data, start, stop)[0])
        elif wire != _BYTES:
            raise _WrongError(start, f"wire type {wire} as whole numbers of feature {name!r}; expected 0 or 2")
        else:
            parts.append(_packed(data, start, stop))
    if parts and single:
        raise _WrongError(at, f"whole numbers of feature {name!r}, of which some are packed and some are not")
    if parts:
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
    return np.array(single, np.uint64).view(np.int64)


def _packed(data: bytes, start: int, stop: int) -> NDArray[np.int64]:
    """Varints one behind the other; many at once: each byte is shifted to its place, and those of a number added."""
    if stop - start <= _FEW:
        single = []
        while start < stop:
            value, start = _varint(data, start, stop)
            single.append(value)
        return np.array(single, np.uint64).view(np.int64)
    raw = np.frombuffer(data, np.uint8, stop - start, start)
    last = raw < 0x80
    if not last[-1]:
        raise _WrongError(start, "a number that goes on behind the end")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 10:
        raise _WrongError(start, "a number of more than ten bytes")
    places = np.arange(len(raw)) - np.repeat(starts, lengths)
    if (raw[places == 9] > 1).any():
        raise _WrongError(start, "a number of more than 64 bits")
    shifted = (raw & 0x7F).astype(np.uint64) << (7 * places).astype(np.uint64)
    return np.bitwise_or.reduceat(shifted, starts).view(np.int64)
