"""What is a table, by its name or its type; imports nothing, since every source is asked."""

from __future__ import annotations

import re

__all__ = ["is_frame", "table_kind"]

_KINDS = {
    "csv": re.compile(r"\.(csv|tsv)(\.gz|\.bz2|\.zst|\.lz4)?$", re.I),
    "parquet": re.compile(r"\.(parquet|pq)$", re.I),
    "arrow": re.compile(r"\.(arrow|feather|ipc)$", re.I),
}
_FRAMES = {("pyarrow", "Table"), ("pyarrow", "RecordBatch"), ("pandas", "DataFrame"), ("polars", "DataFrame")}


def table_kind(path: str) -> str | None:
    """``"csv"``, ``"parquet"`` or ``"arrow"`` by the end of the name."""
    return next((kind for kind, pattern in _KINDS.items() if pattern.search(path)), None)


def is_frame(source: object) -> bool:
    """Whether something is a table of pyarrow's, pandas' or polars'."""
    return (type(source).__module__.partition(".")[0], type(source).__name__) in _FRAMES
