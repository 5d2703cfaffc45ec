"""What is said of single rows."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["SkippedRow"]


class SkippedRow(NamedTuple):
    """A row that ``on_error="skip"`` left out: its number in the source (from 0), its path, and why."""

    row: int
    path: str
    error: str
