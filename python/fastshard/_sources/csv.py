"""Reading a CSV file of labels with pyarrow, and naming the row, column and value of what it can't read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from fastshard._fastshard import SourceError

from .base import repeated
from .number_text import first_outside

__all__ = ["column_names", "expected_integers", "integer_type", "may_be_integers", "read_csv"]

_INTEGER = r"^(?:[+-]?[0-9]+)?$"
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
    if twice := repeated(names):
        raise SourceError(f"{path}: several columns are named {twice[0]!r}")
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
    numbers = {name: kind for name in table.column_names if (kind := _exact(path, name, table, types)) is not None}
    return _read(path, {**types, **dates, **numbers}) if dates or numbers else table


def _exact(path: str, name: str, table: pa.Table, types: Mapping[str, pa.DataType]) -> pa.DataType | None:
    """The type of whole numbers that are taken for float64, and so rounded, because one is outside of int64."""
    if name in types or not any(map(may_be_integers, table.column(name).chunks)):
        return None
    kind = integer_type(_read(path, {name: pa.string()}).column(name).chunks)
    if isinstance(kind, tuple):
        raise SourceError(f"{path}: row {kind[0]}, column {name!r}: {kind[1]!r}; {expected_integers(name)}")
    return kind


def may_be_integers(values: pa.Array) -> bool:
    """Whether a column of floats has one that int64 can't hold."""
    if not pa.types.is_floating(values.type):
        return False
    return bool(pc.any(pc.greater_equal(pc.abs(values), 2.0**63)).as_py())


def integer_type(pieces: Iterable[pa.Array]) -> pa.DataType | tuple[int, str] | None:
    """For the texts of a column: uint64 if it holds them all; None if not all are whole numbers.

    Else the row, from 1, and the text of the first that is outside of int64.
    """
    row, fits = 1, True
    first: tuple[int, str] | None = None
    for texts in pieces:
        if pc.all(pc.match_substring_regex(texts, _INTEGER)).as_py() is False:
            return None
        texts = pc.replace_substring_regex(pc.if_else(pc.equal(texts, ""), None, texts), r"^\+", "")
        at = first_outside(texts)
        first = first or (None if at is None else (row + at, texts[at].as_py()))
        fits = fits and _fits(texts)
        row += len(texts)
    return pa.uint64() if fits else first


def _fits(texts: pa.Array) -> bool:
    try:
        texts.cast(pa.uint64())
    except pa.ArrowInvalid:
        return False
    return True


def expected_integers(name: str) -> str:
    """What an error says of whole numbers that no type holds."""
    return (
        f'expected whole numbers that all fit in int64, or in uint64; types={{{name!r}: "text"}} keeps their digits, '
        '"float64" rounds them'
    )


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
