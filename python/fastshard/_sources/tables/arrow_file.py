"""Arrow files of strangers: what they declare is checked before pyarrow makes memory for it.

Both formats are read, the one of files and the one of streams, which Hugging Face writes. Batches are copied out of the
file: to read a mapped file that somebody cuts short ends the process. Only batches of more than 1 GiB stay mapped.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa

from fastshard._fastshard import SourceError

__all__ = ["arrow_batches", "arrow_schema"]

_MAGIC = b"ARROW1"
_MAX_METADATA = 256 << 20
_MAX_COPIED = 1 << 30
# A batch may decompress to 1 GiB, or to a hundred times its size. LZ4 reaches 255 on zeros, and zstd far more.
_MAX_INFLATED = 1 << 30
_MAX_RATIO = 100
# Of a flatbuffer, in the order of Arrow's Message.fbs and File.fbs.
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_BUFFERS, _COMPRESSION = 2, 3
_DICTIONARY_DATA = 1
_DICTIONARIES, _BATCHES = 2, 3
_BLOCK = struct.Struct("<qi4xq")
_BUFFER = struct.Struct("<qq")


def arrow_schema(path: str) -> pa.Schema:
    """The columns of a file. Raises SourceError for one that is damaged."""
    with pa.OSFile(path) as source:
        return _reader(source, path).schema


def arrow_batches(path: str) -> Iterator[pa.RecordBatch]:
    """The batches of a file, which are still to be validated. Raises SourceError for one that is damaged."""
    largest = _check(path)
    source = pa.memory_map(path) if largest > _MAX_COPIED else pa.OSFile(path)
    with source:
        reader = _reader(source, path)
        if isinstance(reader, pa.RecordBatchFileReader):
            for at in range(reader.num_record_batches):
                yield reader.get_batch(at)
        else:
            yield from reader


def _reader(source: pa.NativeFile, path: str) -> pa.RecordBatchFileReader | pa.RecordBatchStreamReader:
    return pa.ipc.open_file(source) if _is_file(path) else pa.ipc.open_stream(source)


def _is_file(path: str) -> bool:
    with Path(path).open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


class _Block(NamedTuple):
    """A message with the bytes behind it, each by its place in the file."""

    start: int
    metadata: int
    body: int


def _check(path: str) -> int:
    """Bytes of the largest body. Raises SourceError for a message that leads out of the file or inflates too far."""
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        largest = start = 0
        try:
            for block in _footer_blocks(file, size) if _is_file(path) else _stream_blocks(file, size):
                start = block.start
                _check_block(file, block, size)
                largest = max(largest, block.body)
        except (struct.error, ValueError) as error:
            raise SourceError(f"{path}: damaged: message at byte {start:,}: {error}") from None
    return largest


def _footer_blocks(file: BinaryIO, size: int) -> Iterator[_Block]:
    """The dictionaries and batches that the footer lists."""
    tail = 4 + len(_MAGIC)
    (length,) = struct.unpack("<i", _at(file, size - tail, 4))
    if not 0 <= length <= min(size - tail, _MAX_METADATA):
        raise ValueError(f"a footer of {length:,} bytes in a file of {size:,}")
    footer = _Table.root(_at(file, size - tail - length, length))
    for index in (_DICTIONARIES, _BATCHES):
        for start, metadata, body in footer.structs(index, _BLOCK):
            yield _Block(start, metadata, body)


def _stream_blocks(file: BinaryIO, size: int) -> Iterator[_Block]:
    """All messages, one after the other."""
    start = 0
    while size - start >= 8:
        length, prefix = _prefix(file, start)
        if length == 0:
            return
        if not 0 < length <= min(size - start - prefix, _MAX_METADATA):
            raise ValueError(f"metadata of {length:,} bytes, {size - start - prefix:,} are left")
        message = _Table.root(_at(file, start + prefix, length))
        body = message.number(_BODY_LENGTH, "<q")
        yield _Block(start, prefix + length, body)
        start += prefix + length + body


def _prefix(file: BinaryIO, start: int) -> tuple[int, int]:
    """The length of a message's metadata, and the bytes before it: four in files from before 2019."""
    first, second = struct.unpack("<ii", _at(file, start, 8))
    return (second, 8) if first == -1 else (first, 4)


def _check_block(file: BinaryIO, block: _Block, size: int) -> None:
    body = block.start + block.metadata
    if min(block) < 0 or block.metadata > _MAX_METADATA or body + block.body > size:
        raise ValueError(f"{block.metadata:,} and {block.body:,} bytes in a file of {size:,}")
    length, prefix = _prefix(file, block.start)
    if not 0 < length <= block.metadata - prefix:
        raise ValueError(f"metadata of {length:,} bytes; the footer says {block.metadata:,}")
    message = _Table.root(_at(file, block.start + prefix, length))
    if message.number(_BODY_LENGTH, "<q") != block.body:
        raise ValueError(f"a body of {message.number(_BODY_LENGTH, '<q'):,} bytes; the footer says {block.body:,}")
    kind = message.number(_HEADER_TYPE, "<B")
    batch = message.table(_HEADER)
    if kind == _DICTIONARY_BATCH and batch is not None:
        batch = batch.table(_DICTIONARY_DATA)
    if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH) or batch is None or batch.table(_COMPRESSION) is None:
        return
    # Each compressed buffer begins with its decompressed size, or -1 if it was left as it is.
    declared = 0
    for start, stored in batch.structs(_BUFFERS, _BUFFER):
        if stored > 0:
            if start < 0 or start + stored > block.body or stored < 8:
                raise ValueError(f"a buffer of {stored:,} bytes at {start:,} in a body of {block.body:,}")
            declared += max(0, *struct.unpack("<q", _at(file, body + start, 8)))
    if declared > max(_MAX_INFLATED, _MAX_RATIO * block.body):
        wanted = f"expected at most 1 GiB, or {_MAX_RATIO} times as many"
        raise ValueError(f"{block.body:,} bytes that declare to hold {declared:,}; {wanted}")


def _at(file: BinaryIO, start: int, length: int) -> bytes:
    data = os.pread(file.fileno(), length, start) if start >= 0 else b""
    if len(data) < length:
        raise ValueError(f"{length:,} bytes at {start:,} are not all there")
    return data


class _Table:
    """A table of a flatbuffer: fields by their number. Raises struct.error where it leads out of its bytes."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place
        self._fields = place - self._read("<i", place)

    @classmethod
    def root(cls, data: bytes) -> _Table:
        """The table that a flatbuffer is about."""
        return cls(data, struct.unpack_from("<I", data)[0])

    def _read(self, kind: str, place: int) -> int:
        if place < 0:
            raise ValueError("an offset before the beginning")
        value: int = struct.unpack_from(kind, self._data, place)[0]
        return value

    def _field(self, index: int) -> int:
        """Where a field is; 0 for one that is left out."""
        inside = 4 + 2 * index < self._read("<H", self._fields)
        offset = self._read("<H", self._fields + 4 + 2 * index) if inside else 0
        return self._place + offset if offset else 0

    def number(self, index: int, kind: str) -> int:
        """A number, 0 by default."""
        place = self._field(index)
        return self._read(kind, place) if place else 0

    def table(self, index: int) -> _Table | None:
        """A table below this one."""
        place = self._field(index)
        return _Table(self._data, place + self._read("<I", place)) if place else None

    def structs(self, index: int, kind: struct.Struct) -> Iterator[tuple[int, ...]]:
        """The structs of a vector."""
        place = self._field(index)
        if not place:
            return
        start = place + self._read("<I", place)
        count = self._read("<I", start)
        if count * kind.size > len(self._data) - start - 4:
            raise ValueError(f"{count:,} entries in {len(self._data):,} bytes")
        yield from kind.iter_unpack(self._data[start + 4 : start + 4 + count * kind.size])
