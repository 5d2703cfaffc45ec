"""MosaicML's MDS: a folder of shards with an index, read without the package that writes it.

A shard is the number of samples, the place of each and of the end (all ``uint32``), a JSON text, and the samples. A
sample is the size of each column that has no fixed one, then the values, columns by name. The index holds the columns,
their encodings and fixed sizes, and the shards; a shard may be compressed whole. A list of images is their number, the
size of each, and they; before that ``list[...]`` has four bytes without a meaning.
"""

from __future__ import annotations

import itertools
import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastshard._fastshard import SourceError
from fastshard._sources.base import MAX_ITEM, Encoded
from fastshard._sources.options import SourceOptions, check_inside
from fastshard._sources.pictures import png
from fastshard._sources.rows import RowSource
from fastshard._sources.samples import chained, file_kind, rows_of, text_of
from fastshard._sources.sniff import MAX_INDEX
from fastshard._sources.stream import Input, open_input

__all__ = ["mds_source"]

_MAX_COLUMNS = 10_000
_AT_ONCE = 1 << 16
_NUMBERS = ("float16", "float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
# How an array's header writes its type, and those of its shape.
_DTYPES = {
    8: "uint8",
    9: "int8",
    16: "uint16",
    17: "int16",
    18: "float16",
    32: "uint32",
    33: "int32",
    34: "float32",
    64: "uint64",
    65: "int64",
    66: "float64",
}
_MODES = {"1": 0, "L": 1, "P": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 2}
_IMAGES = ("jpeg", "png")
# Lists of images: where their number stands, and what each of them is.
_LISTS = {
    "jpeg_array": (0, "jpeg"),
    "jpegarray": (0, "jpeg"),
    "list[jpeg]": (4, "jpeg"),
    "list[png]": (4, "png"),
    "list[pil]": (4, "pil"),
}


@dataclass(frozen=True)
class _Column:
    name: str
    encoding: str
    # Bytes of a value, where all have as many.
    size: int | None


@dataclass(frozen=True)
class _Shard:
    path: str
    samples: int
    columns: tuple[_Column, ...]


class _Sample(NamedTuple):
    """A sample: the shard, its number there, its place and its values."""

    shard: _Shard
    number: int
    # Where it lies in the file, or -1 if that is compressed.
    offset: int
    data: bytes

    @property
    def place(self) -> str:
        """For errors."""
        return f"{self.shard.path}: sample {self.number:,}"

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)


def mds_source(root: str, options: SourceOptions) -> RowSource:
    """The samples of a folder in the order of its index. Raises SourceError that names shard, sample and column."""
    shards = _read_index(root)
    columns = shards[0].columns
    for column in columns:
        _check(f"{root}/index.json", column, options.pickles)
    by_path = {shard.path: shard for shard in shards}
    samples = chained(list(by_path), lambda path: _samples(by_path[path]))
    provenance = {"kind": "mds", "source": root}
    return rows_of(samples, lambda first: _Plan(columns, first, options.types), options, provenance)


def _read_index(root: str) -> list[_Shard]:
    path = Path(root, "index.json")
    if not path.is_file():
        raise SourceError(f"{path}: no such file; expected the index of an MDS folder")
    if path.stat().st_size > MAX_INDEX:
        raise SourceError(f"{path}: {path.stat().st_size:,} bytes; expected at most {MAX_INDEX:,}")
    try:
        listed = json.loads(path.read_bytes())["shards"]
        shards = [_shard(root, one) for one in listed]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{path}: not the index of an MDS folder: {type(error).__name__} {error}") from None
    if not shards:
        raise SourceError(f"{path}: lists no shards")
    for shard in shards[1:]:
        if shard.columns != shards[0].columns:
            raise SourceError(f"{shard.path}: other columns than those of {shards[0].path}")
    return shards


def _shard(root: str, listed: dict[str, Any]) -> _Shard:
    raw, packed = listed["raw_data"]["basename"], (listed.get("zip_data") or {}).get("basename")
    for name in filter(None, (raw, packed)):
        if not isinstance(name, str) or name in (".", "..") or Path(name).name != name:
            raise SourceError(f"{root}/index.json: shard {name!r}: expected the plain name of a file")
    if listed["format"] != "mds" or listed["version"] != 2:
        said = f"format {listed['format']!r}, version {listed['version']!r}"
        raise SourceError(f"{root}/index.json: shard {raw!r}: {said}; expected 'mds', version 2")
    paths = [Path(root, name) for name in filter(None, (raw, packed))]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{paths[0]}: no such file, though the index lists it")
    check_inside(str(path), root)
    names, encodings, sizes = listed["column_names"], listed["column_encodings"], listed["column_sizes"]
    samples = listed["samples"]
    if not isinstance(samples, int) or not 0 <= samples < 2**32 or not 0 < len(names) <= _MAX_COLUMNS:
        raise SourceError(f"{root}/index.json: shard {raw!r}: {samples!r} samples of {len(names):,} columns")
    columns = tuple(itertools.starmap(_column, zip(names, encodings, sizes, strict=True)))
    return _Shard(str(path), samples, columns)


def _column(name: str, encoding: str, size: int | None) -> _Column:
    if not all(isinstance(one, str) for one in (name, encoding)) or not 0 <= (size or 0) <= MAX_ITEM:
        raise ValueError(f"column {name!r} of {encoding!r} and size {size!r}")
    # How well it was compressed, which reading doesn't need.
    plain = "jpeg" if re.fullmatch(r"jpeg:\d{1,3}", encoding) else encoding
    return _Column(name, plain, size or None)


def _check(where: str, column: _Column, pickles: str) -> None:
    """Refuses encodings that can't be packed, and sizes that aren't those of the type."""
    base, _, rest = column.encoding.partition(":")
    if base == "pkl" and pickles != "bytes":
        wanted = 'a pickle, which could do anything; pickles="bytes" keeps it as bytes, unread'
        raise SourceError(f"{where}: column {column.name!r} is {wanted}")
    texts = ("str", "str_int", "str_float", "str_decimal", "json")
    known = ("bytes", *texts, "int", "pil", "pkl", *_IMAGES, *_LISTS, *_NUMBERS)
    if (base not in known or rest) and base != "ndarray":
        raise SourceError(f"{where}: column {column.name!r}: encoding {column.encoding!r}; expected one of {known}")
    width = 8 if base == "int" else np.dtype(base).itemsize if base in _NUMBERS else None
    if width is not None and column.size != width:
        raise SourceError(f"{where}: column {column.name!r}: {column.size} bytes of {base}; expected {width}")


def _samples(shard: _Shard) -> Iterator[_Sample]:
    source = open_input(shard.path)
    try:
        offsets = _offsets(source, shard)
        header = int(offsets[0]) - source.position
        _expect(f"{shard.path}: its header", source.skip(header), header)
        for number, (start, end) in enumerate(itertools.pairwise(_numbers(offsets))):
            data = source.take(end - start)
            _expect(f"{shard.path}: sample {number:,}", len(data), end - start)
            yield _Sample(shard, number, start if source.places else -1, data)
        if source.take(1):
            raise SourceError(f"{shard.path}: more data behind its last sample")
    finally:
        source.close()


def _offsets(source: Input, shard: _Shard) -> NDArray[np.uint32]:
    """Where each sample starts, and the end."""
    head = source.take(4)
    samples = int.from_bytes(head, "little")
    if len(head) < 4 or samples != shard.samples:
        raise SourceError(f"{shard.path}: {samples:,} samples; expected {shard.samples:,}, as in the index")
    table = source.take(4 * (samples + 1))
    _expect(f"{shard.path}: the table of its samples", len(table), 4 * (samples + 1))
    offsets = np.frombuffer(table, "<u4")
    if offsets[0] < source.position or (offsets[1:] < offsets[:-1]).any():
        raise SourceError(f"{shard.path}: the samples don't lie one behind the other")
    return offsets


def _numbers(values: NDArray[np.uint32]) -> Iterator[int]:
    """As integers of Python's, which take eight times the memory, so not all at once."""
    for start in range(0, len(values), _AT_ONCE):
        yield from values[start : start + _AT_ONCE].tolist()


def _expect(place: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise SourceError(f"{place}: truncated: {found:,} of {wanted:,} bytes")


class _Plan:
    """What each column becomes."""

    def __init__(self, columns: Sequence[_Column], first: Sequence[_Sample], types: Mapping[Any, str]) -> None:
        self._columns = columns
        self._decoders = [_decoder(column.encoding) for column in columns]
        # The fields of columns of lists.
        self._lists: dict[str, list[str]] = {}
        for at, column in enumerate(columns):
            if column.encoding in _LISTS and types.get(column.name) != "bytes":
                self._lists[column.name] = self._names(at, first)
        self.types = {column.name: "bytes" for column in columns if column.encoding == "pkl"}
        for at, column in enumerate(columns):
            if column.encoding == "bytes":
                seen = [
                    sample.data[slice(*spans[at])] for sample in first if (spans := self._spans(sample, lenient=True))
                ]
                self.types[column.name] = file_kind(seen) or "bytes"

    def _names(self, at: int, first: Sequence[_Sample]) -> list[str]:
        """The fields of a list's images: as many as it has in the first sample that can be read."""
        column = self._columns[at]
        count = 0
        for sample in first:
            try:
                start, end = self._spans(sample)[at]
                count = len(_elements(f"column {column.name!r}", column.encoding, sample.data[start:end]))
                break
            except SourceError:
                continue  # decoding it will say so
        if count > _MAX_COLUMNS:
            raise SourceError(f"column {column.name!r}: lists of {count:,} images; expected at most {_MAX_COLUMNS:,}")
        names = [f"{column.name}_{number}" for number in range(count)] if count > 1 else [column.name]
        taken = set(names).intersection(one.name for one in self._columns if one is not column)
        if taken:
            raise SourceError(
                f"column {column.name!r}: its images need the name {min(taken)!r}, which is another column's"
            )
        return names

    def decode(self, sample: _Sample) -> dict[str, Any]:
        """The values of a sample."""
        fields: dict[str, Any] = {}
        for column, decode, (start, end) in zip(self._columns, self._decoders, self._spans(sample), strict=True):
            if column.name in self._lists:
                fields |= _images(sample, column, self._lists[column.name], start, end)
            elif column.encoding in _IMAGES or self.types.get(column.name) in ("image", "audio"):
                fields[column.name] = _file(sample, start, end)
            else:
                fields[column.name] = decode(f"column {column.name!r}", sample.data[start:end])
        return fields

    def _spans(self, sample: _Sample, lenient: bool = False) -> list[tuple[int, int]]:
        """Where the value of each column starts and ends."""
        varying = sum(column.size is None for column in self._columns)
        data, at = sample.data, 4 * varying
        lengths = iter(struct.unpack_from(f"<{varying}I", data) if len(data) >= at else ())
        spans = []
        for column in self._columns:
            length = column.size if column.size is not None else next(lengths, None)
            if length is None or at + length > len(data):
                break
            spans.append((at, at + length))
            at += length
        if len(spans) < len(self._columns) or at != len(data):
            if lenient:
                return []
            raise SourceError(f"{len(data):,} bytes, of which its columns take another number")
        return spans


def _file(sample: _Sample, start: int, end: int) -> Encoded:
    path = f"{Path(sample.shard.path).name}/{sample.number}"
    if sample.offset < 0:
        return Encoded(path, sample.data[start:end])
    return Encoded(path, b"", sample.shard.path, sample.offset + start, end - start)


def _images(sample: _Sample, column: _Column, names: Sequence[str], start: int, end: int) -> dict[str, Encoded]:
    """The images of a list, a field each."""
    what = f"column {column.name!r}"
    spans = _elements(what, column.encoding, sample.data[start:end])
    if len(spans) != len(names):
        kept = f'types={{{column.name!r}: "bytes"}} keeps such lists as bytes'
        raise SourceError(f"{what}: {len(spans):,} images; expected {len(names):,}, as in the first sample; {kept}")
    if _LISTS[column.encoding][1] != "pil":
        each = (_file(sample, start + first, start + last) for first, last in spans)
    else:
        each = (_picture(what, sample.data[start + first : start + last]) for first, last in spans)
    return dict(zip(names, each, strict=True))


def _elements(what: str, encoding: str, data: bytes) -> list[tuple[int, int]]:
    """Where each image of a list starts and ends."""
    at, _ = _LISTS[encoding]
    count = int.from_bytes(data[at : at + 4], "little")
    first = at + 4 * (1 + count)
    if first > len(data):
        raise SourceError(f"{what}: a list of {count:,} images in {len(data):,} bytes")
    ends = first + np.cumsum(np.frombuffer(data, "<u4", count, at + 4), dtype=np.int64)
    last = int(ends[-1]) if count else first
    if last != len(data):
        raise SourceError(f"{what}: a list of images that take {last:,} bytes; it has {len(data):,}")
    return list(itertools.pairwise([first, *ends.tolist()]))


def _decoder(encoding: str) -> Callable[[str, bytes], Any]:
    base, _, rest = encoding.partition(":")
    if base == "ndarray":
        return _array_decoder(rest)
    if base == "int" or base in _NUMBERS:
        dtype = np.dtype("int64" if base == "int" else base).newbyteorder("<")
        return lambda _, data: np.frombuffer(data, dtype)[0].astype(dtype.newbyteorder("="))
    if base in ("str", "json", "str_decimal"):
        return text_of
    if base in ("str_int", "str_float"):
        return lambda what, data: _parsed(what, data, int if base == "str_int" else float)
    return _picture if base == "pil" else lambda _, data: data


def _parsed(what: str, data: bytes, kind: type[int | float]) -> int | float:
    text = text_of(what, data)
    try:
        return kind(text)
    except ValueError:
        raise SourceError(f"{what}: {text[:60]!r}; expected a number") from None


def _array_decoder(config: str) -> Callable[[str, bytes], Any]:
    """For ``dtype:shape``, ``dtype`` or nothing: what isn't fixed stands before the values."""
    name, _, dimensions = config.partition(":")
    if name and name not in _NUMBERS:
        raise SourceError(f"encoding 'ndarray:{config}': expected one of {', '.join(_NUMBERS)}")
    try:
        fixed = tuple(map(int, dimensions.split(","))) if dimensions else None
    except ValueError:
        raise SourceError(f"encoding 'ndarray:{config}': expected a shape such as 3,4") from None

    def decode(what: str, data: bytes) -> Any:
        dtype, shape, at = name or None, fixed, 0
        if dtype is None:
            dtype, at = _DTYPES.get(data[0] if data else -1), 1
        if shape is None:
            shape, at = _shape(data, at)
        count = 1
        for length in shape or ():
            count *= length
        width = np.dtype(dtype).itemsize if dtype else 0
        if not dtype or not shape or min(shape) < 1 or count * width != len(data) - at:
            raise SourceError(f"{what}: {len(data):,} bytes of an array of shape {shape} and type {dtype}")
        array = np.frombuffer(data, np.dtype(dtype).newbyteorder("<"), count, at).reshape(shape)
        return array.astype(dtype, copy=False)

    return decode


def _shape(data: bytes, at: int) -> tuple[tuple[int, ...] | None, int]:
    """A byte of six bits of dimensions and two of the width of a length, then the lengths."""
    if at >= len(data):
        return None, at
    width, dimensions = 1 << (data[at] & 3), data[at] >> 2
    end = at + 1 + width * dimensions
    if end > len(data):
        return None, at
    lengths = range(at + 1, end, width)
    return tuple(int.from_bytes(data[start : start + width], "little") for start in lengths), end


def _picture(what: str, data: bytes) -> Encoded:
    """Raw pixels with width, height and PIL's mode before them, as PNG."""
    from PIL import Image

    if len(data) < 12:
        raise SourceError(f"{what}: {len(data)} bytes; expected width, height and mode of an image")
    width, height, length = struct.unpack_from("<3I", data)
    mode = data[12 : 12 + length].decode("latin-1") if length <= 8 else ""
    pixels = data[12 + length :]
    row = (width + 7) // 8 if mode == "1" else width * _MODES.get(mode, 0)
    if mode not in _MODES or not width or not height or row * height != len(pixels):
        said = f"{width:,} x {height:,} pixels of mode {mode!r}"
        raise SourceError(f"{what}: {said} in {len(pixels):,} bytes; expected one of {', '.join(_MODES)}")
    return Encoded("", png(Image.frombytes(mode, (width, height), pixels), what))
