"""The cache of decoded pixels: where it is and what is in it."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastshard import _fastshard
from fastshard._base import check

__all__ = ["Cache", "CacheEntry", "native_cache"]


def default_folder() -> Path:
    """``$FASTSHARD_CACHE``, or ``fastshard`` in the user's cache folder."""
    if named := os.environ.get("FASTSHARD_CACHE"):
        return Path(named)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "fastshard"
    try:
        return Path.home() / ".cache" / "fastshard"
    except RuntimeError:
        raise RuntimeError(
            "this user has no home folder to cache decoded images in: set FASTSHARD_CACHE, or name a folder"
        ) from None


@dataclass(frozen=True)
class CacheEntry:
    """The decoded images of one field: which, where, how large now and when full, when last used, and whether now."""

    path: Path
    datasets: tuple[str, ...]
    field: str
    transforms: str
    bytes: int
    full_bytes: int
    used: datetime
    in_use: bool


class Cache:
    """A folder in which loaders keep decoded pixels for each other, in this process and in others, now and later.

    ``max_bytes``, such as ``"50GB"``: entries that no process has open are removed to stay below it, the least
    recently used first; what then still does not fit is decoded each time. Loaders that run at once share in it in the
    order in which they were made: the first gets all that its entry needs. The folder is by default
    ``$FASTSHARD_CACHE``, or ``~/.cache/fastshard``. Processes that share a folder should agree on the limit.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, max_bytes: int | str | None = None) -> None:
        self.folder = os.path.abspath(default_folder() if folder is None else folder)
        self.max_bytes = None if max_bytes is None else check.byte_size("max_bytes", max_bytes)

    def entries(self) -> list[CacheEntry]:
        """What is in the folder, the most recently used first; nothing if there is no folder."""
        if not Path(self.folder).is_dir():
            return []
        entries = [_entry(*listed) for listed in _fastshard.list_cache(self.folder)]
        return sorted(entries, key=lambda entry: entry.used, reverse=True)

    def clear(self) -> tuple[int, int]:
        """Removes what no process has open: how many entries, and how many bytes they took."""
        return _fastshard.clear_cache(self.folder) if Path(self.folder).is_dir() else (0, 0)

    def __repr__(self) -> str:
        return f"Cache({self.folder!r}, max_bytes={self.max_bytes})"


def _entry(path: str, description: str, size: int, full: int, used: float, in_use: bool) -> CacheEntry:
    try:
        said = json.loads(description)
        datasets, field = tuple(map(str, said["datasets"])), str(said["field"])
        steps = ", ".join(str(step["op"]) for step in said["transforms"])
    except (ValueError, KeyError, TypeError):
        datasets, field, steps = (), "", ""  # written by another version
    return CacheEntry(
        Path(path), datasets, field, steps, size, full, datetime.fromtimestamp(used, timezone.utc).astimezone(), in_use
    )


def native_cache(cache: Any) -> dict[str, Any] | None:
    """The option of a loader as the core takes it."""
    if isinstance(cache, Cache):
        return {"folder": cache.folder, "max_bytes": cache.max_bytes}
    if not isinstance(cache, (str, os.PathLike)):
        raise TypeError(f"cache={cache!r}: expected 'auto', 'off', a folder or fastshard.Cache")
    if cache == "off":
        return None
    if cache == "auto":
        try:
            return {"folder": Cache().folder, "auto": True}
        except RuntimeError as error:
            warnings.warn(f"cache: {error}; going on without", RuntimeWarning, stacklevel=3)
            return None
    return {"folder": Cache(cache).folder}
