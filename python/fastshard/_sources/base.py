"""What every kind of source becomes before it is packed: files and a table beside them, or a stream of batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fastshard._base.records import SkippedRow
from fastshard._fastshard import SourceError

__all__ = [
    "MAX_ITEM",
    "Encoded",
    "FileSource",
    "Sample",
    "StreamSource",
    "class_field",
    "first_five",
    "ipc_stream",
    "is_list",
    "list_field",
    "repeated",
]

# Of one value: offsets within a block are 32 bits wide.
MAX_ITEM = 2**31 - 1


class Encoded(NamedTuple):
    """An encoded image, or audio: its bytes, or the place in a file where they lie, and what ``path`` it came from."""

    path: str
    data: bytes = b""
    file: str = ""
    offset: int = 0
    length: int = 0

    @property
    def size(self) -> int:
        """Its bytes, counted."""
        return self.length if self.file else len(self.data)


class Sample(dict[str, Any]):
    """A sample that knows where it comes from, for errors: a ``place`` in words, its ``row`` in the source."""

    def __init__(self, place: str, row: int, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.place = place
        self.row = row


@dataclass(frozen=True)
class FileSource:
    """Images, or audio, below the folder ``root`` and the columns beside them."""

    root: str
    fields: list[dict[str, Any]]
    table: pa.Table
    provenance: dict[str, Any]
    unused_files: tuple[str, ...] = ()
    ignored_files: tuple[str, ...] = ()
    missing_files: tuple[tuple[int, str], ...] = field(default=())
    # The number that each row of the table has for the user; empty if it is the row's own.
    row_numbers: tuple[int, ...] = ()


class StreamSource:
    """Record batches, a few at a time, and what is known of them. ``skipped`` grows while ``chunks`` are taken."""

    fields: list[dict[str, Any]]
    provenance: dict[str, Any]
    skipped: Sequence[SkippedRow] = ()
    ignored_files: Sequence[str] = ()

    def __len__(self) -> int:
        """Rows, as far as is known; else 0."""
        return 0

    def chunks(self) -> Iterator[bytes]:
        """One Arrow IPC stream with one record batch for every chunk of rows."""
        raise NotImplementedError

    def described(self) -> dict[str, Any]:
        """What the manifest keeps of the fields beside their types; complete after the last chunk."""
        return {}


def ipc_stream(batch: pa.RecordBatch) -> bytes:
    """A batch as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def class_field(name: str, class_names: Iterable[str]) -> dict[str, Any]:
    """The description of a class field."""
    return {"name": name, "type": "class", "class_names": list(class_names)}


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists, or arrays of one shape."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def list_field(name: str, kind: pa.DataType, dtype: str | None, where: str) -> dict[str, Any]:
    """The description of a field of lists, or of arrays of one shape; SourceError for what doesn't hold numbers."""
    shape = list(getattr(kind, "shape", ()))  # of Arrow's extension type for tensors
    moved = getattr(kind, "permutation", None)
    if moved is not None and list(moved) != sorted(moved):
        raise SourceError(f"{where} is {kind}; expected tensors with their dimensions in order")
    number = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    varies = not pa.types.is_fixed_size_list(number)
    if varies:
        number = number.value_type
    while pa.types.is_fixed_size_list(number):
        shape += [] if isinstance(kind, pa.BaseExtensionType) else [number.list_size]
        number = number.value_type
    if not (pa.types.is_integer(number) or pa.types.is_floating(number) or pa.types.is_boolean(number)):
        raise SourceError(f"{where} is {kind}; expected lists of numbers")
    own = "bool" if pa.types.is_boolean(number) else str(np.dtype(number.to_pandas_dtype()).name)
    described = {"name": name, "type": "list" if varies else "tensor", "dtype": dtype or own}
    return described | ({"shape": shape} if shape else {})


def first_five(items: Iterable[object]) -> str:
    """The first five of ``items`` for an error message, and how many more there are."""
    listed = [str(item) for item in items]
    more = f" and {len(listed) - 5:,} more" if len(listed) > 5 else ""
    return ", ".join(listed[:5]) + more


def repeated(names: Iterable[str]) -> list[str]:
    """The names that come more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)
