"""Arrays as sources: NumPy's files, memory maps, tensors; read a block at a time, whatever they lie in."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fastshard._fastshard import SourceError
from fastshard._sources.base import MAX_ITEM, StreamSource, class_field, ipc_stream
from fastshard._sources.samples import npy_header
from fastshard._sources.statistics import Statistics
from fastshard._sources.stream import check_inflated

__all__ = ["ArraySource", "array_files", "array_readers"]

_BLOCK_BYTES = 16 << 20
_MAX_BLOCK_ROWS = 1 << 20
_DTYPES = ("bool", "float16", "float32", "float64", *(f"{s}int{bits}" for s in ("", "u") for bits in (8, 16, 32, 64)))


class Reader(Protocol):
    """An array that is read from its first row to its last: its name for errors, its type and shape."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def read(self, rows: int) -> NDArray[Any]:
        """The next rows."""


class _InMemory:
    """An array that is there, or mapped by whoever made it."""

    def __init__(self, name: str, array: NDArray[Any]) -> None:
        self.name, self.dtype, self.shape = name, array.dtype, array.shape
        self._array, self._next = array, 0

    def read(self, rows: int) -> NDArray[Any]:
        self._next += rows
        return self._array[self._next - rows : self._next]


class _File:
    """An array of an ``.npy`` file, read and not mapped: to touch a map of a file that was cut short is the end."""

    def __init__(self, path: str) -> None:
        self.name = path
        with Path(path).open("rb") as file:
            self.shape, self._columns_first, self.dtype = npy_header(path, file)
            self._start = file.tell()
            _check_size(self, os.fstat(file.fileno()).st_size - self._start)
        self._row = math.prod(self.shape[1:])
        self._next = 0

    def read(self, rows: int) -> NDArray[Any]:
        with Path(self.name).open("rb") as file:
            if not self._columns_first:
                values = self._values(file, self._next * self._row, rows * self._row)
                found = values.reshape(rows, *self.shape[1:])
            else:
                starts = range(self._next, self._next + self._row * self.shape[0], self.shape[0])
                columns = [self._values(file, start, rows) for start in starts]
                found = np.concatenate(columns).reshape(*reversed(self.shape[1:]), rows).T
        self._next += rows
        return found

    def _values(self, file: IO[bytes], start: int, count: int) -> NDArray[Any]:
        file.seek(self._start + start * self.dtype.itemsize)
        return _array_of(self, file.read(count * self.dtype.itemsize), count)


class _Member:
    """An array of an ``.npz`` file, decompressed as it is read."""

    def __init__(self, archive: zipfile.ZipFile, file: str) -> None:
        self.name = f"{archive.filename}: {file}"
        self._stream: IO[bytes] = archive.open(file)
        try:
            self.shape, columns_first, self.dtype = npy_header(self.name, self._stream)
            info = archive.getinfo(file)
            _check_size(self, info.file_size - self._stream.tell())
            check_inflated(self.name, math.prod(self.shape[1:]) * self.dtype.itemsize, info.compress_size)
            if columns_first and len(self.shape) > 1:
                raise SourceError(f"{self.name}: stored column by column; save np.ascontiguousarray of it")
        except SourceError:
            self._stream.close()
            raise

    def read(self, rows: int) -> NDArray[Any]:
        count = rows * math.prod(self.shape[1:])
        try:
            data = self._stream.read(count * self.dtype.itemsize)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise SourceError(f"{self.name}: {error}") from None
        return _array_of(self, data, count).reshape(rows, *self.shape[1:])


def _array_of(reader: Reader, data: bytes, count: int) -> NDArray[Any]:
    wanted = count * reader.dtype.itemsize
    if len(data) != wanted:
        raise SourceError(f"{reader.name}: truncated: {len(data):,} bytes, expected {wanted:,}")
    return np.frombuffer(data, reader.dtype, count)


def _check_size(reader: Reader, there: int) -> None:
    """Holds what a header declares against the bytes behind it, and a row against what one item may have."""
    wanted = math.prod(reader.shape) * reader.dtype.itemsize
    declared = f"{reader.name}: an array of shape {reader.shape} and type {reader.dtype}"
    if min(reader.shape, default=1) < 0 or wanted > there:
        raise SourceError(f"{declared} in {there:,} bytes")
    if wanted and wanted // reader.shape[0] > MAX_ITEM:
        raise SourceError(f"{declared}: a row holds at most 2 GiB")


class ArraySource(StreamSource):
    """Arrays of equally many rows, a field each, as record batches of up to 16 MiB.

    Raises SourceError for arrays that can't be stored or differ in length, and for classes that have no name; rows
    count from 0.
    """

    def __init__(
        self, readers: Mapping[str, Reader], class_names: Mapping[str, Sequence[str]], shard_size: int
    ) -> None:
        unknown = sorted(set(class_names).difference(readers))
        if unknown:
            raise SourceError(f"class_names for {unknown[0]!r}: the arrays are {', '.join(map(repr, readers))}")
        self._readers = readers
        self._classes = {name: len(list(names)) for name, names in class_names.items()}
        self.fields = [_field(name, reader, class_names.get(name)) for name, reader in readers.items()]
        lengths = {reader.name: reader.shape[0] for reader in readers.values()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name}: {length:,}" for name, length in lengths.items())
            raise SourceError(f"arrays of different lengths ({listed}): expected a row for each sample in all of them")
        self._rows = next(iter(lengths.values()))
        if not self._rows:
            raise SourceError(f"{next(iter(lengths))}: no rows")
        row_bytes = sum(math.prod(one.shape[1:]) * one.dtype.itemsize for one in readers.values())
        rows = max(1, min(_BLOCK_BYTES, shard_size) // max(1, row_bytes))
        self._block_rows = min(_MAX_BLOCK_ROWS, 1 << (rows.bit_length() - 1))
        self.provenance = {"kind": "arrays", "source": list(lengths)}
        self._statistics = Statistics()

    def __len__(self) -> int:
        return int(self._rows)

    def chunks(self) -> Iterator[bytes]:
        """One Arrow IPC stream with one record batch for every block."""
        for start in range(0, self._rows, self._block_rows):
            rows = min(self._block_rows, self._rows - start)
            batch = pa.record_batch({name: self._column(name, start, rows) for name in self._readers})
            yield ipc_stream(batch)

    def described(self) -> dict[str, Any]:
        """What the manifest keeps of the fields beside their types; complete after the last chunk."""
        return self._statistics.described()

    def _column(self, name: str, start: int, rows: int) -> pa.Array:
        reader = self._readers[name]
        values = reader.read(rows)
        if name in self._classes:
            values = self._codes(reader, start, values, self._classes[name])
        values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
        if values.dtype.kind == "f":
            self._statistics.add(name, values)
        flat = values.reshape(-1)
        array = pa.array(flat.view(np.uint8) if flat.dtype == np.bool_ else flat)
        return array if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(array, values[0].size)

    def _codes(self, reader: Reader, start: int, values: NDArray[Any], classes: int) -> NDArray[np.int64]:
        wrong = (values < 0) | (values >= classes)
        if wrong.any():
            at = int(wrong.argmax())
            raise SourceError(
                f"{reader.name}: row {start + at}: {values[at]}; expected a class from 0 to {classes - 1}"
            )
        return values.astype(np.int64)


def array_files(path: str) -> dict[str, Reader]:
    """The arrays of an ``.npy`` file, called like the file, or of an ``.npz`` file."""
    try:
        if path.lower().endswith(".npy"):
            return {Path(path).stem: _File(path)}
        # Only its members keep the file open, the last of them longest.
        with zipfile.ZipFile(path) as archive:
            members = {file.removesuffix(".npy"): file for file in archive.namelist()}
            if not members:
                raise SourceError(f"{path}: holds no arrays")
            return {name: _Member(archive, file) for name, file in members.items()}
    except SourceError:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
        raise SourceError(f"{path}: {error}") from None


def array_readers(arrays: Mapping[str, Any]) -> dict[str, Reader]:
    """Arrays by name: anything that NumPy takes, and names of ``.npy`` files."""
    readers: dict[str, Reader] = {}
    for name, values in arrays.items():
        if isinstance(values, (str, os.PathLike)):
            readers[name] = next(iter(array_files(os.fspath(values)).values()))
            continue
        try:
            array = np.asarray(values)
        except (TypeError, RuntimeError, ValueError) as error:
            raise SourceError(f"array {name!r}: {error}") from None
        readers[name] = _InMemory(f"array {name!r}", array)
    return readers


def _field(name: str, reader: Reader, class_names: Sequence[str] | None) -> dict[str, Any]:
    if not reader.shape:
        raise SourceError(f"{reader.name}: a single value; expected a row for each sample")
    if reader.dtype.name not in _DTYPES:
        raise SourceError(f"{reader.name} is {reader.dtype}; expected one of {', '.join(_DTYPES)}")
    if class_names is not None:
        if reader.dtype.kind not in "iu" or len(reader.shape) > 1:
            raise SourceError(f"{reader.name}: expected whole numbers, one a row, to be the classes of class_names")
        return class_field(name, list(class_names))
    described = {"name": name, "dtype": reader.dtype.name}
    if len(reader.shape) == 1:
        return described | {"type": "scalar"}
    return described | {"type": "tensor", "shape": list(reader.shape[1:])}
