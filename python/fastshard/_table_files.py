"""Files and frames of rows as record batches, read piece by piece by pyarrow."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from ._fastshard import SourceError
from ._table_blobs import is_blob
from ._table_names import table_kind
from ._table_source import Part, is_number

__all__ = ["file_parts", "frame_part", "hugging_face_part"]

_BLOCK_BYTES = 8 << 20
_ROWS = 1 << 16
_BATCH_BYTES = 32 << 20
_BUFFER_BYTES = 4 << 20
_STREAMED_ROWS = 64
_CONVERSION = re.compile(
    r"In CSV column #(\d+): (?:Row #(\d+): )?CSV conversion error to ([^:]+): invalid value '(.*)'", re.S
)
_RAGGED = re.compile(r"CSV parse error: (?:Row #(\d+): )?Expected (\d+) columns, got (\d+): (.*)", re.S)


def file_parts(paths: Sequence[str], header: bool) -> list[Part]:
    """A part for each file. Raises SourceError for one that is empty or isn't what its name says."""
    parts: list[Part] = []
    for path in paths:
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file")
        kind = _kind(path)
        try:
            parts.append(_csv_part(path, header, parts) if kind == "csv" else _binary_part(path, kind))
        except (pa.ArrowInvalid, OSError) as error:
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
    columns = next(_ipc_batches(path, schema_only=True))
    return Part(path, columns, lambda _: _guarded(path, _ipc_batches(path)))


def _parquet_batches(path: str) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    # A row group of images can be larger than memory; of numbers, it is read at once.
    has_blobs = any(is_blob(one.type) for one in pq.read_schema(path))
    file = pq.ParquetFile(path, buffer_size=_BUFFER_BYTES if has_blobs else 0)
    groups = [file.metadata.row_group(at) for at in range(file.metadata.num_row_groups)]
    row_bytes = max((group.total_byte_size // max(1, group.num_rows) for group in groups), default=1)
    yield from file.iter_batches(_rows_a_batch(row_bytes))


def _rows_a_batch(row_bytes: int) -> int:
    return max(1, min(_ROWS, _BATCH_BYTES // max(1, row_bytes)))


def _ipc_batches(path: str, schema_only: bool = False) -> Iterator[Any]:
    """The batches of a file in the format of files or, as Hugging Face writes it, of streams."""
    source = pa.memory_map(path)
    if source.read(6) != b"ARROW1":
        source.seek(0)
        with pa.ipc.open_stream(source) as reader:
            yield from [reader.schema] if schema_only else reader
        return
    with pa.ipc.open_file(source) as reader:
        if schema_only:
            yield reader.schema
            return
        for at in range(reader.num_record_batches):
            yield reader.get_batch(at)


def _guarded(path: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{path}: {error}") from None


def _csv_part(path: str, header: bool, parts: Sequence[Part]) -> Part:
    try:
        with _open_csv(path, header, {}) as reader:
            columns = reader.schema
    except pa.ArrowInvalid as error:
        raise SourceError(_explain(path, _counted(path, header, {}) or str(error), [], header)) from None
    repeated = sorted({name for name in columns.names if columns.names.count(name) > 1})
    if repeated:
        raise SourceError(f"{path}: several columns are named {repeated[0]!r}")
    if header and columns.names and all(map(is_number, columns.names)):
        listed = ", ".join(columns.names[:3])
        raise SourceError(f"{path}: the header is {listed}, ...: rows without a header need header=False")
    # Numbers that are whole in the first piece of a file may have fractions later on, and dates stay text.
    types = {one.name: _settled(one.type) for one in columns}
    if parts:
        # Later files follow the first one, even where they would pass as something else.
        types |= {one.name: one.type for one in parts[0].columns if one.name in types}
    columns = pa.schema(list(types.items()))
    return Part(path, columns, functools.partial(_csv_batches, path, header, types))


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
    path: str, header: bool, types: Mapping[str, pa.DataType], use_threads: bool = True
) -> csv.CSVStreamingReader:
    tabs = re.search(r"\.tsv(\.|$)", path, re.I)
    return csv.open_csv(
        path,
        read_options=csv.ReadOptions(
            use_threads=use_threads, block_size=_BLOCK_BYTES, autogenerate_column_names=not header
        ),
        parse_options=csv.ParseOptions(delimiter="\t" if tabs else ",", newlines_in_values=False),
        convert_options=csv.ConvertOptions(column_types=dict(types), strings_can_be_null=True),
    )


def _explain(path: str, message: str, names: Sequence[str], header: bool) -> str:
    """What pyarrow says, with rows counted from 1 and without the header."""
    if match := _RAGGED.search(message):
        row = f"row {int(match[1]) - header}, " if match[1] else ""
        return f"{path}: {row}{match[3]} columns, expected {match[2]}: {match[4][:60]!r}"
    if match := _CONVERSION.search(message):
        row = f"row {int(match[2]) - header}, " if match[2] else ""
        return f"{path}: {row}column {names[int(match[1])]!r}: {match[4]!r}; expected {match[3]}"
    return f"{path}: {message}"
