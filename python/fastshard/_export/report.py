"""What an export reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastshard._base.escape import printable

__all__ = ["ExportReport"]


@dataclass(frozen=True)
class ExportReport:
    """What an export did. ``notes`` say what is not as one might think."""

    path: Path
    to: str
    rows: int
    files: int
    bytes: int
    seconds: float
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        rate = self.rows / max(self.seconds, 1e-9)
        files = f"{self.files:,} file{'s' * (self.files != 1)}"
        size = f"{self.rows:,} rows as {self.to}, {files}, {self.bytes / 2**20:,.1f} MiB"
        first = f"{printable(self.path)}: {size}, {self.seconds:.1f} s ({rate:,.0f} rows/s)"
        return "\n".join([first, *(f"  {printable(note)}" for note in self.notes)])
