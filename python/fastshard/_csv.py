"""Reading a CSV file of labels with pyarrow, and naming the row, column and value of what it can't read."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow as pa
from pyarrow import csv

from ._fastshard import SourceError

__all__ = ["column_names", "read_csv"]

_CONVERSION = re.compile(
    r"In CSV column #(\d+): (?:Row #(\d+): )?CSV conversion error to ([^:]+): invalid value '(.*)'", re.S
)


def column_names(path: str) -> list[str]:
    """The names in the first line. Raises SourceError for a file without rows or with a name twice."""
    try:
        with csv.open_csv(path, parse_options=_parse_options(path)) as reader:
            names: list[str] = reader.schema.names
    except pa.ArrowInvalid as error:
        raise SourceError(f"{path}: {error}") from None
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise SourceError(f"{path}: several columns are named {repeated[0]!r}")
    return names


def read_csv(path: str, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The rows, with ``types`` forced and all other columns int64, float64, bool or text (dates stay text)."""
    table = _read(path, types)
    if table.num_rows == 0:
        raise SourceError(f"{path}: no rows below the header")
    dates = {
        field.name: pa.string()
        for field in table.schema
        if pa.types.is_temporal(field.type) and field.name not in types
    }
    return _read(path, {**types, **dates}) if dates else table


def _parse_options(path: str) -> csv.ParseOptions:
    delimiter = "\t" if path.lower().endswith(".tsv") else ","
    return csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)


def _read(path: str, types: Mapping[str, pa.DataType], use_threads: bool = True) -> pa.Table:
    try:
        return csv.read_csv(
            path,
            read_options=csv.ReadOptions(use_threads=use_threads),
            parse_options=_parse_options(path),
            convert_options=csv.ConvertOptions(column_types=dict(types)),
        )
    except pa.ArrowInvalid as error:
        if use_threads:  # only the reader with one thread counts rows
            return _read(path, types, use_threads=False)
        raise SourceError(_explain(path, str(error))) from None
    except pa.ArrowNotImplementedError as error:
        raise ValueError(f"types={dict(types)!r}: {error}") from None


def _explain(path: str, message: str) -> str:
    match = _CONVERSION.search(message)
    if match is None:
        return f"{path}: {message}"
    column = column_names(path)[int(match[1])]
    # pyarrow counts the header as row 1; rows are counted without it here.
    row = f"row {int(match[2]) - 1}, " if match[2] else ""
    return f"{path}: {row}column {column!r}: value {match[4]!r} is not {match[3]}"
