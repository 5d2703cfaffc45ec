"""WebDataset: tar files in which neighbours of the same key are one sample."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastshard._base.names import Names, safe_name
from fastshard._fastshard import SourceError
from fastshard._rows.arrow import read_column
from fastshard._rows.opened import Field

from .files import Shards
from .plan import Plan, check_codes, suffix_of
from .rows import Block

__all__ = ["WebDatasetWriter"]

_KEY = "key"
_MOST_KEY = 200
_TAR_BLOCK = 512
_TAR_RECORD = 20 * _TAR_BLOCK
_SHORT = 100
_NAMELESS = tarfile.TarInfo().tobuf(tarfile.PAX_FORMAT)

Member = tuple[str, "bytes | memoryview"]
Encode = Callable[[Block], Sequence[Member]]


class WebDatasetWriter:
    """Writes the format ``webdataset``."""

    columns: Sequence[str] = ()

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._key = next((one for one in plan.fields if one.name == _KEY and _is_key(one)), None)
        fields = [one for one in plan.fields if one is not self._key]
        if not fields:
            raise ValueError(f"field {_KEY!r}: expected others beside the keys")
        if self._key is not None:
            _check_unique(plan, self._key)
        self._width = max(6, len(str(max(0, len(plan.dataset) - 1))))
        self._shards = Shards(folder, plan.name, ".tar", plan.shard_size, _tar_end)
        self.notes: list[str] = []
        self._members = list(_members(fields, self.notes))

    @property
    def files(self) -> int:
        """The tar files."""
        return len(self._shards.paths)

    @property
    def bytes(self) -> int:
        """Of all of them."""
        return self._shards.bytes

    def write(self, block: Block) -> None:
        """Writes some rows."""
        keys = self._keys(block)
        for key, *members in zip(keys, *(encode(block) for encode in self._members), strict=True):
            self._shards.write([part for suffix, data in members for part in _tar_member(key + suffix, data)])

    def _keys(self, block: Block) -> list[str]:
        if self._key is None:
            return [f"{place:0{self._width}d}" for place in range(block.start, block.start + len(block))]
        keys = list(map(str, block.values(self._key)))
        for row, key in zip(block.rows, keys, strict=True):
            if not key or "." in key or safe_name(key) != key or len(key) > _MOST_KEY:
                wanted = "expected what can begin a file name, without a dot; leave the field out with fields="
                raise SourceError(f"row {row}: field {_KEY!r} is {key[:_MOST_KEY]!r}, {wanted}")
        return keys

    def finish(self) -> None:
        """Ends the last file."""
        self._shards.finish()

    def close(self) -> None:
        """Lets go of the file."""
        self._shards.close()


def _is_key(of: Field) -> bool:
    return of.type == "text" or (of.type == "scalar" and np.dtype(of.dtype).kind in "iu")


def _check_unique(plan: Plan, of: Field) -> None:
    values, counts = np.unique(read_column(plan.dataset, of.name), return_counts=True)
    if len(values) < len(plan.dataset):
        twice = values[np.argmax(counts > 1)]
        wanted = "expected different keys; leave the field out with fields="
        raise SourceError(f"field {of.name!r} is {str(twice)[:_MOST_KEY]!r} in {counts.max():,} rows, {wanted}")


def _members(fields: Sequence[Field], notes: list[str]) -> Iterator[Encode]:
    """What makes the members of each sample: one for each field, but one for all numbers."""
    kinds: dict[str, list[Field]] = {}
    for one in fields:
        kinds.setdefault("array" if one.type == "tensor" or one.is_list else one.type, []).append(one)
    names = Names()
    for kind, members in kinds.items():
        if kind == "scalar":
            yield _numbers(members)
            continue
        for one in members:
            # The library takes suffixes in small letters.
            prefix = f".{names.unique(safe_name(one.name).lower())}" if len(members) > 1 else ""
            notes += [f"field {one.name!r} is {prefix}.*"] if prefix else []
            yield _ENCODERS[kind](one, prefix)


def _files(of: Field, prefix: str) -> Encode:
    def encode(block: Block) -> list[Member]:
        values = zip(block.rows, block.values(of), strict=True)
        return [(prefix + suffix_of(data, int(row), of), data) for row, (data, _) in values]

    return encode


def _classes(of: Field, prefix: str) -> Encode:
    return lambda block: [(f"{prefix}.cls", str(code).encode()) for code in check_codes(block, of).tolist()]


def _texts(of: Field, prefix: str) -> Encode:
    return lambda block: [(f"{prefix}.txt", text.encode()) for text in block.values(of)]


def _bytes(of: Field, prefix: str) -> Encode:
    return lambda block: [(f"{prefix}.bin", data) for data in block.values(of)]


def _arrays(of: Field, prefix: str) -> Encode:
    return lambda block: [(f"{prefix}.npy", _npy(value)) for value in block.values(of)]


def _npy(value: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, value, allow_pickle=False)
    return file.getvalue()


def _numbers(fields: Sequence[Field]) -> Encode:
    def encode(block: Block) -> list[Member]:
        columns = [np.asarray(block.values(one)).tolist() for one in fields]
        samples = (dict(zip((one.name for one in fields), row, strict=True)) for row in zip(*columns, strict=True))
        return [(".json", json.dumps(sample, ensure_ascii=False).encode()) for sample in samples]

    return encode


_ENCODERS: dict[str, Callable[[Field, str], Encode]] = {
    "image": _files,
    "audio": _files,
    "class": _classes,
    "text": _texts,
    "bytes": _bytes,
    "array": _arrays,
}


def _tar_member(name: str, data: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    """Header, data and padding; nobody's, of no time, so that the same rows are the same file."""
    return _tar_header(name, len(data)), data, b"\0" * (-len(data) % _TAR_BLOCK)


def _tar_header(name: str, size: int) -> bytes:
    """What ``TarInfo.tobuf`` gives, which takes as long as all else that is done for a small sample."""
    if len(name) > _SHORT or not name.isascii() or size >= 8 << 30:
        info = tarfile.TarInfo(name)
        info.size = size
        return info.tobuf(tarfile.PAX_FORMAT)
    header = bytearray(_NAMELESS)
    header[: len(name)] = name.encode()
    header[124:135] = b"%011o" % size
    header[148:155] = b"%06o\0" % (sum(header) - sum(header[148:156]) + 8 * ord(" "))
    return bytes(header)


def _tar_end(size: int) -> bytes:
    """Two empty blocks, and as many more as fill a record."""
    return b"\0" * (2 * _TAR_BLOCK + -(size + 2 * _TAR_BLOCK) % _TAR_RECORD)
