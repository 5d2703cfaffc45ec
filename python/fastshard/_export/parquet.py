"""Parquet files as Hugging Face's ``datasets`` writes them: files as bytes and path, classes with their names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fastshard._base import write as _write
from fastshard._rows.opened import Field

from .files import number_of_all
from .plan import Plan, check_codes
from .rows import Block

__all__ = ["ParquetWriter"]

_FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_SUFFIX = ".parquet"


class ParquetWriter:
    """Writes the format ``parquet``; each block is a row group."""

    columns: Sequence[str] = ()

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._schema = pa.schema([pa.field(one.name, _type(one)) for one in plan.fields]).with_metadata(_metadata(plan))
        self._file: BinaryIO | None = None
        self._writer: Any = None
        self._paths: list[Path] = []
        self._filled = 0
        self.bytes = 0
        many = [one.name for one in plan.fields if one.type != "class" and one.class_names is not None]
        self.notes = [f"field {name!r}: the names of its classes are in the files' metadata only" for name in many]

    @property
    def files(self) -> int:
        """The Parquet files."""
        return len(self._paths)

    def write(self, block: Block) -> None:
        """Writes some rows as a row group."""
        columns = [self._column(block, one) for one in self._plan.fields]
        table = pa.Table.from_arrays(columns, schema=self._schema)
        if self._writer is None or self._filled + table.nbytes > self._plan.shard_size:
            self._open_next()
        self._writer.write_table(table, row_group_size=len(block))
        self._filled += table.nbytes

    def _column(self, block: Block, of: Field) -> pa.Array:
        if of.type == "class":
            check_codes(block, of)
        column = block.batch.column(of.name)
        return column if of.is_file else _shaped(column, of)

    def _open_next(self) -> None:
        self._finish_file()
        path = self._folder / f"{self._plan.name}-{len(self._paths):06d}{_SUFFIX}"
        files = [f"{one.name}.bytes" for one in self._plan.fields if one.is_file]
        others = [leaf for one in self._plan.fields for leaf in _leaves(one) if leaf not in files]
        self._file = _write.create(path)
        self._writer = pq.ParquetWriter(
            self._file,
            self._schema,
            # Files are compressed already, and no two are the same.
            compression=dict.fromkeys(others, "zstd") | dict.fromkeys(files, "none"),
            use_dictionary=others,
            write_statistics=others,
        )
        self._paths.append(path)
        self._filled = 0

    def _finish_file(self) -> None:
        self.close()
        if self._paths:
            self.bytes += self._paths[-1].stat().st_size

    def finish(self) -> None:
        """Ends the last file, an empty one if there are no rows, and numbers all."""
        if not self._paths:
            self._open_next()
        self._finish_file()
        number_of_all(self._paths, self._plan.name, _SUFFIX)

    def close(self) -> None:
        """Lets go of the file."""
        writer, file = self._writer, self._file
        self._writer = self._file = None
        if file is not None:
            with file:
                if writer is not None:
                    writer.close()


def _leaves(of: Field) -> list[str]:
    """The columns of Parquet that a field becomes."""
    if of.is_file:
        return [f"{of.name}.bytes", f"{of.name}.path"]
    return [of.name + ".list.element" * (len(of.shape or ()) + of.is_list)]


def _type(of: Field) -> pa.DataType:
    if of.is_file:
        return _FILE
    if of.type in ("text", "bytes"):
        return pa.string() if of.type == "text" else pa.binary()
    kind = pa.bool_() if of.dtype == "bool" else pa.from_numpy_dtype(np.dtype(of.dtype))
    for size in reversed(of.shape or ()):
        kind = pa.list_(kind, size)
    return pa.list_(kind) if of.is_list else kind


def _shaped(column: pa.Array, of: Field) -> pa.Array:
    """A column as lists of fixed sizes, which more readers know than Arrow's tensors; with real bools."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    values = column
    while isinstance(values, (pa.ListArray, pa.FixedSizeListArray)):
        values = values.flatten()
    if of.dtype == "bool":
        values = values.cast(pa.bool_())
    for size in reversed(of.shape or ()):
        values = pa.FixedSizeListArray.from_arrays(values, size)
    if not of.is_list:
        return values
    offsets = column.offsets.to_numpy()
    return pa.ListArray.from_arrays(pa.array(offsets - offsets[0]), values)


def _metadata(plan: Plan) -> dict[str, str]:
    """What ``datasets`` can't see in the Arrow types, and our own description of the fields."""
    features: dict[str, Any] = {}
    for one in plan.fields:
        if one.is_file:
            features[one.name] = {"_type": one.type.title()}
        elif one.type == "class":
            features[one.name] = {"names": list(one.class_names or ()), "_type": "ClassLabel"}
    names = {one.name for one in plan.fields}
    own = [entry for entry in plan.dataset.manifest["fields"] if entry["name"] in names]
    return {"huggingface": json.dumps({"info": {"features": features}}), "fastshard": json.dumps({"fields": own})}
