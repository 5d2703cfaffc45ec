"""Files and frames of rows as record batches, read piece by piece by pyarrow."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from fastshard._fastshard import SourceError
from fastshard._sources.base import repeated
from fastshard._sources.csv import expected_integers, integer_type, may_be_integers
from fastshard._sources.number_text import is_number, is_unsigned
from fastshard._sources.table_names import table_kind

from .arrow_file import arrow_batches, arrow_schema
from .table import Part
from .table_blobs import is_blob

__all__ = ["file_parts", "frame_part", "hugging_face_part"]

_BLOCK_BYTES = 8 << 20
_ROWS = 1 << 16
_BATCH_BYTES = 32 << 20
_BUFFER_BYTES = 4 << 20
_STREAMED_ROWS = 64
# Of values without a fixed size: in Parquet, a dictionary holds a long one once for all its rows.
_VARYING_ROWS = 1024
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}
# Names of columns that are not UTF-8, and metadata that can't be read, among them.
_DAMAGE = (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError, OverflowError)
_CONVERSION = re.compile(
    r"In CSV column #(\d+): (?:Row #(\d+): )?CSV conversion error to ([^:]+): invalid value '(.*)'", re.S
)
_RAGGED = re.compile(r"CSV parse error: (?:Row #(\d+): )?Expected (\d+) columns, got (\d+): (.*)", re.S)


def file_parts(paths: Sequence[str], header: bool, types: Mapping[Any, str] | None = None) -> list[Part]:
    """A part for each file. Raises SourceError for one that is empty or isn't what its name says.

    Also for whole numbers of a CSV file that need more than 64 bits, unless ``types`` say what becomes of the column.
    """
    parts: list[Part] = []
    for path in paths:
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file")
        kind = _kind(path)
        try:
            parts.append(_csv_part(path, header, parts, types or {}) if kind == "csv" else _binary_part(path, kind))
        except _DAMAGE as error:
            raise SourceError(f"{path}: {error}") from None
    return parts


def _kind(path: str) -> str:
    """By the first bytes or, for text, the name."""
    with Path(path).open("rb") as file:
        head = file.read(6)
    kind = {b"PAR1": "parquet", b"ARRO": "arrow"}.get(head[:4]) or table_kind(path)
    if kind is None:
        raise SourceError(f"{path}: expected a name that ends in .csv, .tsv (also .gz), .parquet, .arrow or .feather")
    return kind


def frame_part(frame: Any) -> Part:
    """A frame in memory; its index, if it has one, is left out."""
    module = type(frame).__module__.partition(".")[0]
    if module == "pandas":
        frame = pa.Table.from_pandas(frame, preserve_index=False)
    elif module == "polars":
        frame = frame.to_arrow()
    elif isinstance(frame, pa.RecordBatch):
        frame = pa.Table.from_batches([frame])
    name = f"the {module} table"
    return Part(name, frame.schema, lambda _: iter(frame.to_batches(max_chunksize=_ROWS)))


def hugging_face_part(dataset: Any) -> Part:
    """A dataset of Hugging Face's, also one that streams, in its order; its images stay encoded."""
    stored = getattr(dataset, "data", None)
    rows = _STREAMED_ROWS if stored is None else _rows_a_batch(stored.nbytes // max(1, stored.num_rows))

    def batches(_: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        for table in dataset.with_format("arrow").iter(rows):
            yield from table.to_batches()

    return Part("the dataset", dataset.features.arrow_schema, batches)


def _binary_part(path: str, kind: str) -> Part:
    if kind == "parquet":
        import pyarrow.parquet as pq

        columns = pq.read_schema(path)
        return Part(path, columns, lambda _: _guarded(path, _parquet_batches(path)))
    return Part(path, arrow_schema(path), lambda _: _guarded(path, arrow_batches(path)))


def _parquet_batches(path: str) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    # A row group of images can be larger than memory; of numbers, it is read at once.
    has_blobs = any(is_blob(one.type) for one in pq.read_schema(path))
    footer = pq.read_metadata(path)
    file = pq.ParquetFile(path, buffer_size=_BUFFER_BYTES if has_blobs else 0, read_dictionary=_repeating(footer))
    rows = _rows_a_batch(max(map(_row_bytes, _groups(footer)), default=1))
    varies = any(footer.schema.column(at).physical_type == "BYTE_ARRAY" for at in range(footer.num_columns))
    yield from file.iter_batches(min(rows, _VARYING_ROWS) if varies else rows)


def _groups(footer: Any) -> list[Any]:
    return [footer.row_group(at) for at in range(footer.num_row_groups)]


def _row_bytes(group: Any) -> int:
    """Decoded bytes of a row, as far as the footer says: of numbers by their width, of others as they are stored."""
    chunks = [group.column(at) for at in range(group.num_columns)]
    sizes = [max(one.num_values * _WIDTHS.get(one.physical_type, 0), one.total_uncompressed_size) for one in chunks]
    return int(sum(sizes) // max(1, group.num_rows))


def _repeating(footer: Any) -> list[str]:
    """Columns to be read as dictionaries: those that are stored as such and small, whatever they decode to.

    None below a struct, of which pyarrow reads no dictionaries in several chunks.
    """
    found = []
    top = set(footer.schema.to_arrow_schema().names)
    for at in range(footer.num_columns):
        chunks = [group.column(at) for group in _groups(footer)]
        small = all(one.has_dictionary_page and one.total_uncompressed_size <= _BLOCK_BYTES for one in chunks)
        column = footer.schema.column(at)
        if column.physical_type == "BYTE_ARRAY" and column.path in top and column.max_repetition_level == 0 and small:
            found.append(column.path)
    return found


def _rows_a_batch(row_bytes: int) -> int:
    return max(1, min(_ROWS, _BATCH_BYTES // max(1, row_bytes)))


def _guarded(path: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except _DAMAGE as error:
        raise SourceError(f"{path}: {error}") from None


def _csv_part(path: str, header: bool, parts: Sequence[Part], asked: Mapping[Any, str]) -> Part:
    try:
        with _open_csv(path, header, {}) as reader:
            columns = reader.schema
            first = None if parts else next(reader, None)
    except pa.ArrowInvalid as error:
        raise SourceError(_explain(path, _counted(path, header, {}) or str(error), [], header)) from None
    if twice := repeated(columns.names):
        raise SourceError(f"{path}: several columns are named {twice[0]!r}")
    if header and columns.names and all(map(is_number, columns.names)):
        listed = ", ".join(columns.names[:3])
        raise SourceError(f"{path}: the header is {listed}, ...: rows without a header need header=False")
    # Numbers that are whole in the first piece of a file may have fractions later on, and dates stay text.
    types = {one.name: _settled(one.type) for one in columns}
    if first is not None:
        types |= _big_integers(path, header, first, asked)
    if parts:
        # Later files follow the first one, even where they would pass as something else.
        types |= {one.name: one.type for one in parts[0].columns if one.name in types}
    columns = pa.schema(list(types.items()))
    return Part(path, columns, functools.partial(_csv_batches, path, header, types), typed=False)


def _big_integers(path: str, header: bool, first: pa.RecordBatch, asked: Mapping[Any, str]) -> dict[str, pa.DataType]:
    """Columns that pyarrow takes for float64 because of whole numbers outside of int64, and what holds them exactly."""
    types = {}
    for at, name in enumerate(first.schema.names):
        if may_be_integers(first.column(at)):
            with _open_csv(path, header, {name: pa.string()}, columns=[name]) as reader:
                kind = integer_type(batch.column(0) for batch in reader)
            if isinstance(kind, pa.DataType):
                types[name] = kind
            elif kind is not None and name not in asked and at not in asked:
                raise SourceError(f"{path}: row {kind[0]}, column {name!r}: {kind[1]!r}; {expected_integers(name)}")
    return types


def _settled(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_null(kind):
        return pa.float64()
    return pa.string() if pa.types.is_temporal(kind) else kind


def _csv_batches(
    path: str, header: bool, types: Mapping[str, pa.DataType], asked: Mapping[str, pa.DataType]
) -> Iterator[pa.RecordBatch]:
    types = {**types, **{name: kind for name, kind in asked.items() if name in types}}
    try:
        with _open_csv(path, header, types) as reader:
            yield from reader
    except pa.ArrowInvalid as error:
        raise SourceError(_explain(path, _counted(path, header, types) or str(error), list(types), header)) from None


def _counted(path: str, header: bool, types: Mapping[str, pa.DataType]) -> str | None:
    """What is wrong, from a reader that counts rows, as the one with threads doesn't."""
    try:
        with _open_csv(path, header, types, use_threads=False) as reader:
            for _ in reader:
                pass
    except pa.ArrowInvalid as error:
        return str(error)
    return None


def _open_csv(
    path: str,
    header: bool,
    types: Mapping[str, pa.DataType],
    use_threads: bool = True,
    columns: Sequence[str] | None = None,
) -> csv.CSVStreamingReader:
    tabs = re.search(r"\.tsv(\.|$)", path, re.I)
    return csv.open_csv(
        path,
        read_options=csv.ReadOptions(
            use_threads=use_threads, block_size=_BLOCK_BYTES, autogenerate_column_names=not header
        ),
        parse_options=csv.ParseOptions(delimiter="\t" if tabs else ",", newlines_in_values=False),
        convert_options=csv.ConvertOptions(
            column_types=dict(types), strings_can_be_null=True, include_columns=columns or []
        ),
    )


def _explain(path: str, message: str, names: Sequence[str], header: bool) -> str:
    """What pyarrow says, with rows counted from 1 and without the header."""
    if match := _RAGGED.search(message):
        row = f"row {int(match[1]) - header}, " if match[1] else ""
        return f"{path}: {row}{match[3]} columns, expected {match[2]}: {match[4][:60]!r}"
    if match := _CONVERSION.search(message):
        row = f"row {int(match[2]) - header}, " if match[2] else ""
        name = names[int(match[1])]
        hint = f'; types={{{name!r}: "uint64"}} holds it' if match[3] == "int64" and is_unsigned(match[4]) else ""
        return f"{path}: {row}column {name!r}: {match[4]!r}; expected {match[3]}{hint}"
    return f"{path}: {message}"
