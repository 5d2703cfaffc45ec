"""TFRecord files of ``tf.train.Example``, written without TensorFlow.

A record is its length, the masked CRC32C of that, the message, and the masked CRC32C of the message. The message is
protocol buffers' wire format: field numbers and lengths as variable-length integers, seven bits a byte.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastshard._base import write as _write
from fastshard._base.crc import masked_crc
from fastshard._rows.opened import Field

from .files import Shards, number_of_all
from .plan import Plan, check_codes
from .rows import Block

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TFRecordWriter"]

_SUFFIX = ".tfrecord"
_FEATURES = "features.json"
# Field numbers of the messages Feature and Example, with wire type 2, "length-delimited", in their lowest bits.
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = (number << 3 | 2 for number in (1, 2, 3))
_FIRST = 1 << 3 | 2
_SECOND = 2 << 3 | 2

Encode = Callable[[Block], Sequence[bytes]]


class TFRecordWriter:
    """Writes the format ``tfrecord``."""

    columns: Sequence[str] = ()

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._features = [feature for one in plan.fields for feature in _features(one)]
        names = [name for name, _, _ in self._features]
        if len(set(names)) < len(names):
            raise ValueError(f"fields {', '.join(names)}: the path of images or audio has the name of another field")
        self._shards = Shards(folder, plan.name, _SUFFIX, plan.shard_size, None)
        self._described = 0
        self.notes: list[str] = []

    @property
    def files(self) -> int:
        """The TFRecord files, and the description of their features."""
        return len(self._shards.paths) + 1

    @property
    def bytes(self) -> int:
        """Of all of them."""
        return self._shards.bytes + self._described

    def write(self, block: Block) -> None:
        """Writes some rows."""
        columns = [_entries(name, encode(block)) for name, _, encode in self._features]
        for entries in zip(*columns, strict=True):
            features = b"".join(entries)
            self._shards.write(_record(_message(_FIRST, features)))

    def finish(self) -> None:
        """Numbers the files, and says how to read them."""
        self._shards.finish()
        number_of_all(self._shards.paths, self._plan.name, _SUFFIX)
        text = json.dumps({"rows": len(self._plan.dataset), "features": self._describe()}, indent=1)
        self._described = _write.new_file(self._folder / _FEATURES, f"{text}\n".encode("ascii"))

    def _describe(self) -> list[dict[str, Any]]:
        described = []
        for one in self._plan.fields:
            about = vars(one) | {"name": None}
            kept = {name: value for name, value in about.items() if value is not None}
            described += [{"name": name, "stored": stored, **kept} for name, stored, _ in _features(one)]
        return described

    def close(self) -> None:
        """Lets go of the file."""
        self._shards.close()


def _features(of: Field) -> list[tuple[str, str, Encode]]:
    """Name, kind of list and encoder of each feature that a field becomes."""
    if of.is_file:
        path = f"{of.name}/path"
        return [(of.name, "bytes_list", _files(of, 0)), (path, "bytes_list", _files(of, 1))]
    if of.type in ("text", "bytes"):
        return [(of.name, "bytes_list", lambda block: [_bytes_list(_as_bytes(value)) for value in block.values(of)])]
    if of.type == "class":
        return [(of.name, "int64_list", lambda block: list(map(_int64_list, check_codes(block, of))))]
    dtype = np.dtype(of.dtype)
    if dtype == np.float64 or (dtype == np.uint8 and of.type != "scalar"):
        return [(of.name, "bytes_list", lambda block: [_bytes_list(_raw(value)) for value in block.values(of)])]
    if dtype.kind == "f":
        return [(of.name, "float_list", lambda block: list(map(_float_list, block.values(of))))]
    return [(of.name, "int64_list", lambda block: list(map(_int64_list, block.values(of))))]


def _files(of: Field, part: int) -> Encode:
    return lambda block: [_bytes_list(_as_bytes(value[part])) for value in block.values(of)]


def _as_bytes(value: str | bytes | memoryview) -> bytes | memoryview:
    return value.encode() if isinstance(value, str) else value


def _raw(value: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes()


def _entries(name: str, features: Sequence[bytes]) -> list[bytes]:
    """Entries of the map from names to features, which is what the message Features holds."""
    key = _message(_FIRST, name.encode())
    return [_message(_FIRST, key + _message(_SECOND, feature)) for feature in features]


def _bytes_list(value: bytes | memoryview) -> bytes:
    return _message(_BYTES_LIST, _message(_FIRST, value))


def _float_list(value: NDArray[Any]) -> bytes:
    return _message(_FLOAT_LIST, _message(_FIRST, np.asarray(value, "<f4").tobytes()))


def _int64_list(value: NDArray[Any]) -> bytes:
    return _message(_INT64_LIST, _message(_FIRST, _varints(np.asarray(value).reshape(-1))))


def _message(tag: int, data: bytes | memoryview) -> bytes:
    return b"".join((bytes((tag,)), _varint(len(data)), data))


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; all bytes but the last have the highest bit set."""
    if number < 0x80:
        return bytes((number,))
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _varints(values: NDArray[Any]) -> bytes:
    """Integers behind each other, negative ones as the 64 bits of two's complement."""
    numbers = values.astype(np.int64).view(np.uint64) if values.dtype.kind == "i" else values.astype(np.uint64)
    if len(numbers) < 8:
        return b"".join(map(_varint, numbers.tolist()))
    shifts = np.arange(0, 70, 7, dtype=np.uint64)
    digits = (numbers[:, None] >> shifts) & np.uint64(0x7F)
    is_kept = (numbers[:, None] >> shifts) > 0
    is_kept[:, 0] = True
    goes_on = np.zeros_like(is_kept)
    goes_on[:, :-1] = is_kept[:, 1:]
    return bytes((digits.astype(np.uint8) | (goes_on * np.uint8(0x80)))[is_kept].tobytes())


def _record(message: bytes) -> list[bytes | memoryview]:
    size = struct.pack("<Q", len(message))
    return [size, _crc(size), message, _crc(message)]


def _crc(data: bytes) -> bytes:
    return masked_crc(data).to_bytes(4, "little")
