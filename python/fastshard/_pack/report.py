"""What a pack reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastshard._base.escape import printable
from fastshard._base.names import counted
from fastshard._base.records import SkippedRow

__all__ = ["PackReport"]


@dataclass(frozen=True)
class PackReport:
    """What a pack did. ``bytes`` are those of all shards.

    ``missing_files`` are (row of the CSV file, from 1, or number of the image, annotation or frame; name).
    ``source`` says what the source was taken for, such as ``"photos.tar: WebDataset tar"``.
    """

    path: Path
    rows: int
    shards: int
    bytes: int
    resumed_shards: int
    seconds: float
    skipped: tuple[SkippedRow, ...] = ()
    unused_files: tuple[str, ...] = ()
    ignored_files: tuple[str, ...] = ()
    missing_files: tuple[tuple[int, str], ...] = ()
    source: str = ""

    def __str__(self) -> str:
        rate = self.rows / max(self.seconds, 1e-9)
        size = f"{counted(self.rows, 'row')} in {counted(self.shards, 'shard')}, {self.bytes / 2**20:,.1f} MiB"
        lines = [f"{printable(self.path)}: {size}, {self.seconds:.1f} s ({rate:,.0f} rows/s)"]
        if self.resumed_shards:
            lines.append(
                f"  shards that were there already, from a pack that had been stopped: {self.resumed_shards:,}"
            )
        lines += _listing("rows skipped", [f"row {row} {path}: {error}" for row, path, error in self.skipped])
        lines += _listing("rows without a file", [f"row {row}: {name}" for row, name in self.missing_files])
        lines += _listing("files without a row", self.unused_files)
        lines += _listing("files ignored", self.ignored_files)
        return "\n".join(lines)


def _listing(title: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    more = [f"    ... and {len(items) - 5:,} more"] if len(items) > 5 else []
    return [f"  {title}: {len(items):,}", *(f"    {printable(item)}" for item in items[:5]), *more]
