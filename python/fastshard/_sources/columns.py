"""The fields of samples that come one by one: each checks its values and hands them over as an Arrow array."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fastshard import _fastshard
from fastshard._fastshard import SourceError
from fastshard._transforms.boxes import box_type

from .base import MAX_ITEM, Encoded, class_field, list_field
from .plain_arrays import blobs, numbers, texts

__all__ = ["Column", "column_of", "is_picture"]

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


class Column:
    """One field: checks values as they come and hands them over as an Arrow array. This one takes bytes.

    ``row_bytes`` are those of a value, where all have as many.
    """

    row_bytes: int | None = None

    def __init__(self, field: dict[str, Any], expected: str) -> None:
        self.field = field
        self.name = str(field["name"])
        self.expected = expected
        self.values: list[Any] = []

    def add(self, row: int, value: Any) -> int:
        """Takes a value in and says how many bytes it has."""
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise self.mismatch(row, value)
        data = bytes(value)
        self.values.append(data)
        return self._within(row, len(data))

    def take(self) -> pa.Array:
        """The values since the last time."""
        values, self.values = self.values, []
        return self.array(values)

    def array(self, values: list[Any]) -> pa.Array:
        """Values as Arrow stores them."""
        return blobs(values)

    def mismatch(self, row: int, value: Any) -> SourceError:
        """The error for a value that doesn't fit."""
        return SourceError(f"row {row}, field {self.name!r}: {_describe(value)}; expected {self.expected}")

    def _within(self, row: int, size: int) -> int:
        if size > MAX_ITEM:
            raise SourceError(f"row {row}, field {self.name!r}: {size:,} bytes; one item holds at most 2 GiB")
        return size


class _FileColumn(Column):
    """Encoded images, or audio, that know where they come from."""

    kind = pa.struct(
        {"bytes": pa.binary(), "path": pa.string(), "file": pa.string(), "offset": pa.uint64(), "length": pa.uint64()}
    )

    def add(self, row: int, value: Any) -> int:
        if isinstance(value, (bytes, bytearray, memoryview)):
            value = Encoded("", bytes(value))
        if not isinstance(value, Encoded):
            raise self.mismatch(row, value)
        self.values.append(value)
        return self._within(row, value.size)

    def array(self, values: list[Any]) -> pa.Array:
        paths, data, files, offsets, lengths = zip(*values, strict=True)
        columns = [blobs(data), *map(texts, (paths, files))]
        columns += [numbers(np.array(one, np.uint64)) for one in (offsets, lengths)]
        return pa.StructArray.from_arrays(columns, fields=list(self.kind))


class _ImageColumn(_FileColumn):
    """The same of images, among them pictures of PIL's."""

    def add(self, row: int, value: Any) -> int:
        if is_picture(value):
            from .pictures import encoded_picture

            value = encoded_picture(value, f"row {row}, field {self.name!r}")
        return super().add(row, value)


class _TextColumn(Column):
    def add(self, row: int, value: Any) -> int:
        if not isinstance(value, str):
            raise self.mismatch(row, value)
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise self.mismatch(row, value) from None
        self.values.append(value)
        return self._within(row, size)

    def array(self, values: list[Any]) -> pa.Array:
        return texts(values)


class _ScalarColumn(Column):
    row_bytes = 8

    def __init__(self, field: dict[str, Any], expected: str) -> None:
        super().__init__(field, expected)
        self.dtype = np.dtype(field["dtype"])
        self._dtype_name = self.dtype.name  # which NumPy makes anew each time

    def add(self, row: int, value: Any) -> int:
        if isinstance(value, np.generic) and value.dtype == self.dtype:
            self.values.append(value)
            return 8
        dtype = _dtype_name(value)
        # A whole number is a fine float64, as in {"age": 4} after {"age": 3.5}.
        if dtype != self._dtype_name and not (type(value) is int and self._dtype_name == "float64"):
            raise self.mismatch(row, value)
        if dtype == "int64" and not -(2**63) <= value < 2**63:
            raise self.mismatch(row, value)
        if dtype == "int64" and self._dtype_name == "float64" and int(float(value)) != value:
            raise self.mismatch(row, value)
        self.values.append(value)
        return 8

    def array(self, values: list[Any]) -> pa.Array:
        return _flat(np.array(values, self.dtype))


class _ClassColumn(Column):
    row_bytes = 8

    def __init__(self, field: dict[str, Any], expected: str) -> None:
        super().__init__(field, expected)
        self.codes = {name: code for code, name in enumerate(field["class_names"])}

    def add(self, row: int, value: Any) -> int:
        code = self.codes.get(value, -1) if isinstance(value, str) else value
        if not isinstance(code, (int, np.integer)) or isinstance(code, bool) or not 0 <= code < len(self.codes):
            raise self.mismatch(row, value)
        self.values.append(int(code))
        return 8

    def array(self, values: list[Any]) -> pa.Array:
        return numbers(np.array(values, np.int64))


class _TensorColumn(Column):
    def __init__(self, field: dict[str, Any], expected: str) -> None:
        super().__init__(field, expected)
        self.shape = tuple(field["shape"])
        self.dtype = np.dtype(field["dtype"])
        self.row_bytes = self.dtype.itemsize * int(np.prod(self.shape))

    def add(self, row: int, value: Any) -> int:
        is_same = isinstance(value, np.ndarray) and value.shape == self.shape and value.dtype == self.dtype
        if not is_same:
            raise self.mismatch(row, value)
        # A copy: generators like to fill the same array again.
        self.values.append(np.array(value, self.dtype, order="C"))
        return self.row_bytes or 0

    def array(self, values: list[Any]) -> pa.Array:
        size = int(np.prod(self.shape))
        return pa.FixedSizeListArray.from_arrays(_flat(np.stack(values).reshape(-1)), size)


class _ListColumn(Column):
    """Lists of numbers, or of arrays of one shape; from Python lists or arrays."""

    def __init__(self, field: dict[str, Any], expected: str) -> None:
        super().__init__(field, expected)
        self.dtype = np.dtype(field["dtype"])
        self.shape = tuple(field.get("shape", ()))
        # Of class numbers: how many classes there are.
        self.limit: int | None = None
        if field["type"] == "boxes":
            self.field = {name: value for name, value in field.items() if name not in ("dtype", "shape")}

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
        if self.dtype.kind == "f":
            lost = np.isinf(cast) & np.isfinite(array)
            # Of whole numbers, float64 holds those up to 2^53; what narrower types do to fractions they do to these.
            if array.dtype.kind in "iu" and self.dtype.itemsize == 8:
                lost |= _rounded(array, cast)
        else:
            lost = cast != array
        if self.limit is not None:
            lost |= (cast < 0) | (cast >= self.limit)
        if lost.any():
            raise self.mismatch(row, array[lost][0].item())
        self.values.append(cast)
        return int(cast.nbytes)

    def array(self, values: list[Any]) -> pa.Array:
        flat = _flat(np.concatenate(values).reshape(-1))
        if self.shape:
            flat = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(self.shape)))
        offsets = np.cumsum([0, *map(len, values)], dtype=np.int32)
        return pa.ListArray.from_arrays(numbers(offsets), flat)


def _rounded(whole: NDArray[Any], floats: NDArray[Any]) -> NDArray[np.bool_]:
    """Which whole numbers float64 doesn't hold; 2^63 and more, which int64 lacks, are looked at one by one."""
    large: NDArray[np.bool_] = np.abs(floats) >= 2.0**53
    exact = [int(one) == int(other) for one, other in zip(floats[large], whole[large], strict=True)]
    large[large] = ~np.array(exact, np.bool_)
    return large


def is_picture(value: object) -> bool:
    """Whether something is an image of PIL's, which is asked only if somebody has loaded that."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(value, pil.Image)


def _flat(values: np.ndarray[Any, Any]) -> pa.Array:
    return numbers(values.view(np.uint8) if values.dtype == np.bool_ else values)


def column_of(name: str, value: Any, class_names: Sequence[str] | None, kind: str | None) -> Column:
    """The column that ``class_names``, ``kind`` or else the first value of a field asks for."""
    if class_names is not None and (kind is not None or isinstance(value, (list, tuple))):
        column: Column = _labels_column(name, kind or _kind_of(name, cast("Sequence[Any]", value)), class_names)
    elif class_names is not None:
        column = _class_column(name, class_names)
    elif kind in _PLAIN:
        column = _PLAIN[kind]({"name": name, "type": kind}, f"{kind}, as types= says")
    elif kind is not None:
        column = _typed_column(name, kind)
    elif isinstance(value, Encoded) or is_picture(value):
        column = _ImageColumn({"name": name, "type": "image"}, "an encoded image")
    elif isinstance(value, (list, tuple)):
        column = _list_column(name, _kind_of(name, value))
    elif isinstance(value, (bytes, bytearray, memoryview)):
        column = _bytes_column(name, bytes(value))
    elif isinstance(value, str):
        column = _TextColumn({"name": name, "type": "text"}, "text")
    elif isinstance(value, np.ndarray) and value.ndim:
        column = _tensor_column(name, value)
    else:
        column = _scalar_column(name, value)
    column.add(0, value)
    column.values.clear()
    return column


_PLAIN = {"image": _ImageColumn, "audio": _FileColumn, "bytes": Column, "text": _TextColumn}


def _bytes_column(name: str, value: bytes) -> Column:
    """For what the first bytes are: an image, audio, or just bytes."""
    if _fastshard.image_format(value) is not None:
        return _ImageColumn({"name": name, "type": "image"}, "an encoded image")
    if _fastshard.audio_format(value) is not None:
        return _FileColumn({"name": name, "type": "audio"}, "an audio file")
    return Column({"name": name, "type": "bytes"}, "bytes")


def _class_column(name: str, class_names: Sequence[str]) -> _ClassColumn:
    names = _checked_names(name, class_names)
    return _ClassColumn(class_field(name, names), f"a class name or a number from 0 to {len(names) - 1}")


def _checked_names(name: str, class_names: Sequence[str]) -> list[str]:
    names = list(class_names)
    if not names or len(set(names)) != len(names) or not all(isinstance(item, str) for item in names):
        raise ValueError(f"class_names[{name!r}]={class_names!r}: expected different names")
    return names


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
        raise ValueError(
            f'types[{name!r}]={kind!r}: expected "image", "audio", "bytes", "text", or such as "list[int32]", '
            '"list[float32, 4]"'
        )
    item = pa.bool_() if match[1] == "bool" else pa.from_numpy_dtype(match[1])
    for size in reversed(re.findall(r"\d+", match[2])):
        item = pa.list_(item, int(size))
    field = list_field(name, pa.list_(item), None, name)
    shape = f" of shape {field['shape']}" if "shape" in field else ""
    return _ListColumn(field, f"a list of {match[1]}{shape}")


def _typed_column(name: str, kind: str) -> _ListColumn:
    """For boxes, and for lists and points that run along with some."""
    boxes = box_type(name, kind)
    if boxes is not None:
        return _ListColumn(boxes | {"dtype": "float32", "shape": [4]}, f"boxes of four numbers ({kind})")
    match = re.fullmatch(r"(.*?)(?:\s+along\s+(\S+))?", kind)
    assert match is not None
    of, along = match[1], match[2]
    column = _list_column(name, re.sub(r"^points\[", "list[float32, ", of))
    if along is not None:
        column.field["along"] = along
    if of.startswith("points["):
        column.field["points"] = True
    return column


def _labels_column(name: str, kind: str, class_names: Sequence[str]) -> _ListColumn:
    """A list of class numbers."""
    names = _checked_names(name, class_names)
    column = _typed_column(name, kind)
    if column.dtype.kind not in "iu" or column.shape:
        raise ValueError(f"types[{name!r}]={kind!r}: expected integers for the numbers of class_names")
    column.field["class_names"], column.limit = names, len(names)
    column.expected += f" from 0 to {len(names) - 1}"
    return column


def _scalar_column(name: str, value: Any) -> _ScalarColumn:
    dtype = _dtype_name(value)
    if dtype not in _DTYPES:
        raise SourceError(
            f"row 0, field {name!r}: {_describe(value)}; "
            "expected bytes, text, a number, a bool, a list of numbers, a NumPy array or an image of PIL's"
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
