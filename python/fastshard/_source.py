"""What every kind of source becomes before it is packed: fields, and a table whose image column holds paths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FileSource", "class_field", "first_five"]


@dataclass(frozen=True)
class FileSource:
    """Images below the folder ``root`` and the columns beside them."""

    root: str
    fields: list[dict[str, Any]]
    table: pa.Table
    provenance: dict[str, Any]
    unused_files: tuple[str, ...] = ()
    ignored_files: tuple[str, ...] = ()
    missing_files: tuple[tuple[int, str], ...] = field(default=())
    # The number that each row of the table has for the user; empty if it is the row's own.
    row_numbers: tuple[int, ...] = ()


def class_field(name: str, class_names: Iterable[str]) -> dict[str, Any]:
    """The description of a class field."""
    return {"name": name, "type": "class", "class_names": list(class_names)}


def first_five(items: Iterable[object]) -> str:
    """The first five of ``items`` for an error message, and how many more there are."""
    listed = [str(item) for item in items]
    more = f" and {len(listed) - 5:,} more" if len(listed) > 5 else ""
    return ", ".join(listed[:5]) + more
