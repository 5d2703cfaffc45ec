"""Sources that are iterables of dicts: the first sample sets the fields, all others must match."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from . import _fastshard
from ._fastshard import SourceError
from ._source import class_field, list_field

__all__ = ["RowSource"]

_CHUNK_BYTES = 16 << 20
_FIXED_CHUNK_BYTES = 32 << 20
_CHUNK_ROWS = 65_536
_DTYPES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
)


class RowSource:
    """Samples of an iterable, as record batches.

    Memory stays bounded: chunks hold up to 16 MiB, or 32 MiB (a power of two of rows) if all fields have a fixed size,
    and one sample at least. Rows count from 0. Raises SourceError for a sample that does not match the first.
    """

    def __init__(
        self,
        samples: Iterable[Mapping[str, Any]],
        class_names: Mapping[str, Sequence[str]],
        shard_size: int = _FIXED_CHUNK_BYTES,
        types: Mapping[str, str] | None = None,
    ) -> None:
        iterator = iter(samples)
        first = next(iterator, None)
        if first is None:
            raise SourceError("the iterable has no samples")
        _check_mapping(0, first)
        unknown = sorted(set(class_names).difference(first))
        if unknown:
            raise SourceError(f"class_names for {unknown[0]!r}: the first sample has {', '.join(map(repr, first))}")
        types = types or {}
        if strangers := sorted(set(types).difference(first)):
            raise SourceError(f"types for {strangers[0]!r}: the first sample has {', '.join(map(repr, first))}")
        self._columns = [_column(name, one, class_names.get(name), types.get(name)) for name, one in first.items()]
        self._names = first.keys()
        # No chunk, which becomes a block, is larger than a shard is meant to be.
        self._chunk_bytes = min(_CHUNK_BYTES, shard_size)
        self._fixed_chunk_bytes = min(_FIXED_CHUNK_BYTES, shard_size)
        self._samples = itertools.chain([first], iterator)

    @property
    def fields(self) -> list[dict[str, Any]]:
        """The descriptions of the fields."""
        return [column.field for column in self._columns]

    def chunks(self) -> Iterator[bytes]:
        """One Arrow IPC stream with one record batch for every chunk of rows."""
        limit = self._fixed_rows()
        rows, filled = 0, 0
        for row, sample in enumerate(self._samples):
            filled += self._add(row, sample)
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

    def _add(self, row: int, sample: Mapping[str, Any]) -> int:
        _check_mapping(row, sample)
        if sample.keys() != self._names:
            expected, received = ", ".join(map(repr, self._names)), ", ".join(map(repr, sample))
            raise SourceError(f"row {row}: fields {received}; expected those of the first sample: {expected}")
        return sum(column.add(row, sample[column.name]) for column in self._columns)

    def _take(self) -> bytes:
        arrays = [column.take() for column in self._columns]
        batch = pa.record_batch(arrays, names=[column.name for column in self._columns])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return bytes(sink.getvalue().to_pybytes())


def _check_mapping(row: int, sample: object) -> None:
    if not isinstance(sample, Mapping):
        raise SourceError(f"row {row}: a sample is {type(sample).__name__}; expected a dict of field names and values")


class _Column:
    """One field: checks values as they come and hands them over as an Arrow array. This one takes bytes."""

    row_bytes: int | None = None
    kind: pa.DataType = pa.binary()

    def __init__(self, field: dict[str, Any], expected: str) -> None:
        self.field = field
        self.name = str(field["name"])
        self.expected = expected
        self.values: list[Any] = []

    def add(self, row: int, value: Any) -> int:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise self.mismatch(row, value)
        data = bytes(value)
        self.values.append(data)
        return len(data)

    def take(self) -> pa.Array:
        values, self.values = self.values, []
        return self.array(values)

    def array(self, values: list[Any]) -> pa.Array:
        return pa.array(values, self.kind)

    def mismatch(self, row: int, value: Any) -> SourceError:
        return SourceError(f"row {row}, field {self.name!r}: {_describe(value)}; expected {self.expected}")


class _TextColumn(_Column):
    kind = pa.string()

    def add(self, row: int, value: Any) -> int:
        if not isinstance(value, str):
            raise self.mismatch(row, value)
        self.values.append(value)
        return len(value)


class _ScalarColumn(_Column):
    row_bytes = 8

    def __init__(self, field: dict[str, Any], expected: str) -> None:
        super().__init__(field, expected)
        self.dtype = np.dtype(field["dtype"])

    def add(self, row: int, value: Any) -> int:
        dtype = _dtype_name(value)
        # A whole number is a fine float64, as in {"age": 4} after {"age": 3.5}.
        if dtype != self.dtype.name and not (type(value) is int and self.dtype.name == "float64"):
            raise self.mismatch(row, value)
        if dtype == "int64" and not -(2**63) <= value < 2**63:
            raise self.mismatch(row, value)
        self.values.append(value)
        return 8

    def array(self, values: list[Any]) -> pa.Array:
        return _flat(np.array(values, self.dtype))


class _ClassColumn(_Column):
    row_bytes = 8
    kind = pa.int64()

    def __init__(self, field: dict[str, Any], expected: str) -> None:
        super().__init__(field, expected)
        self.codes = {name: code for code, name in enumerate(field["class_names"])}

    def add(self, row: int, value: Any) -> int:
        code = self.codes.get(value, -1) if isinstance(value, str) else value
        if not isinstance(code, (int, np.integer)) or isinstance(code, bool) or not 0 <= code < len(self.codes):
            raise self.mismatch(row, value)
        self.values.append(int(code))
        return 8


class _TensorColumn(_Column):
    def __init__(self, field: dict[str, Any], expected: str) -> None:
        super().__init__(field, expected)
        self.shape = tuple(field["shape"])
        self.dtype = np.dtype(field["dtype"])
        self.row_bytes = self.dtype.itemsize * int(np.prod(self.shape))

    def add(self, row: int, value: Any) -> int:
        is_same = isinstance(value, np.ndarray) and value.shape == self.shape and value.dtype.name == self.dtype.name
        if not is_same:
            raise self.mismatch(row, value)
        # A copy: generators like to fill the same array again.
        self.values.append(np.array(value, self.dtype, order="C"))
        return self.row_bytes or 0

    def array(self, values: list[Any]) -> pa.Array:
        size = int(np.prod(self.shape))
        return pa.FixedSizeListArray.from_arrays(_flat(np.stack(values).reshape(-1)), size)


class _ListColumn(_Column):
    """Lists of numbers, or of arrays of one shape; from Python lists or arrays."""

    def __init__(self, field: dict[str, Any], expected: str) -> None:
        super().__init__(field, expected)
        self.dtype = np.dtype(field["dtype"])
        self.shape = tuple(field.get("shape", ()))

    def add(self, row: int, value: Any) -> int:
        if not isinstance(value, (list, tuple, np.ndarray)):
            raise self.mismatch(row, value)
        try:
            array = np.array(value)
        except ValueError:
            raise self.mismatch(row, value) from None
        if not array.size and array.shape[1:] in ((), self.shape):
            array = np.empty((0, *self.shape), self.dtype)
        kinds = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}.get(self.dtype.kind, "")
        if array.ndim != 1 + len(self.shape) or array.shape[1:] != self.shape or array.dtype.kind not in kinds:
            raise self.mismatch(row, value)
        with np.errstate(over="ignore"):
            cast = array.astype(self.dtype)
        lost = np.isinf(cast) & np.isfinite(array) if self.dtype.kind == "f" else cast != array
        if lost.any():
            raise self.mismatch(row, array[lost][0])
        self.values.append(cast)
        return int(cast.nbytes)

    def array(self, values: list[Any]) -> pa.Array:
        flat = _flat(np.concatenate(values).reshape(-1))
        if self.shape:
            flat = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(self.shape)))
        offsets = np.cumsum([0, *map(len, values)], dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), flat)


def _flat(values: np.ndarray[Any, Any]) -> pa.Array:
    return pa.array(values.view(np.uint8) if values.dtype == np.bool_ else values)


def _column(name: str, value: Any, class_names: Sequence[str] | None, kind: str | None) -> _Column:
    """The column that ``class_names``, ``kind`` or else the first value of a field asks for."""
    if class_names is not None:
        column: _Column = _class_column(name, class_names)
    elif kind is not None:
        column = _list_column(name, kind)
    elif isinstance(value, (list, tuple)):
        column = _list_column(name, _kind_of(name, value))
    elif isinstance(value, (bytes, bytearray, memoryview)):
        kind = _kind_of_bytes(bytes(value))
        expected = {"image": "bytes of an encoded image", "audio": "bytes of an audio file"}
        column = _Column({"name": name, "type": kind}, expected.get(kind, "bytes"))
    elif isinstance(value, str):
        column = _TextColumn({"name": name, "type": "text"}, "text")
    elif isinstance(value, np.ndarray) and value.ndim:
        column = _tensor_column(name, value)
    else:
        column = _scalar_column(name, value)
    column.add(0, value)
    column.values.clear()
    return column


def _kind_of_bytes(value: bytes) -> str:
    if _fastshard.image_format(value) is not None:
        return "image"
    return "bytes" if _fastshard.audio_format(value) is None else "audio"


def _class_column(name: str, class_names: Sequence[str]) -> _ClassColumn:
    names = list(class_names)
    if not names or len(set(names)) != len(names) or not all(isinstance(item, str) for item in names):
        raise ValueError(f"class_names[{name!r}]={class_names!r}: expected different names")
    return _ClassColumn(class_field(name, names), f"a class name or a number from 0 to {len(names) - 1}")


def _tensor_column(name: str, value: np.ndarray[Any, Any]) -> _TensorColumn:
    dtype = value.dtype.name
    if dtype not in _DTYPES or not value.size:
        raise SourceError(f"row 0, field {name!r}: {_describe(value)}; expected a numeric array that is not empty")
    shape = list(value.shape)
    expected = f"an array of shape {value.shape} and type {dtype}, like the first sample's"
    return _TensorColumn({"name": name, "type": "tensor", "dtype": dtype, "shape": shape}, expected)


def _kind_of(name: str, value: Sequence[Any]) -> str:
    kinds = {_dtype_name(one) for one in value}
    if len(kinds) == 1 and (kind := kinds.pop()) in _DTYPES:
        return f"list[{kind}]"
    if kinds == {"int64", "float64"}:
        return "list[float64]"
    wanted = f'numbers; types={{{name!r}: "list[int32]"}} says which, "list[float32, 4]" of arrays of shape [4]'
    raise SourceError(f"row 0, field {name!r}: {_describe(value)}; expected {wanted}")


def _list_column(name: str, kind: str) -> _ListColumn:
    """For ``"list[int32]"``, or ``"list[float32, 4]"`` for elements of shape [4]."""
    match = re.fullmatch(r"list\[(\w+)((?:, ?\d+)*)\]", kind)
    if match is None or match[1] not in _DTYPES:
        raise ValueError(f'types[{name!r}]={kind!r}: expected such as "list[int32]" or "list[float32, 4]"')
    item = pa.bool_() if match[1] == "bool" else pa.from_numpy_dtype(match[1])
    for size in reversed(re.findall(r"\d+", match[2])):
        item = pa.list_(item, int(size))
    field = list_field(name, pa.list_(item), None, name)
    shape = f" of shape {field['shape']}" if "shape" in field else ""
    return _ListColumn(field, f"a list of {match[1]}{shape}")


def _scalar_column(name: str, value: Any) -> _ScalarColumn:
    dtype = _dtype_name(value)
    if dtype not in _DTYPES:
        raise SourceError(
            f"row 0, field {name!r}: {_describe(value)}; expected bytes, text, a number, a bool, a list of numbers or a NumPy array"
        )
    return _ScalarColumn({"name": name, "type": "scalar", "dtype": dtype}, f"{dtype}, like the first sample's")


def _dtype_name(value: Any) -> str | None:
    if isinstance(value, (np.generic, np.ndarray)):
        return str(value.dtype.name) if not getattr(value, "ndim", 0) else None
    return {bool: "bool", int: "int64", float: "float64"}.get(type(value))


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{len(value):,} bytes"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
