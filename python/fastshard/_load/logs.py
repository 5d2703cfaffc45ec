"""What callbacks write to the logs of training frameworks."""

from __future__ import annotations

import json

from .loader import Loader

__all__ = ["Logs"]


class Logs:
    """What a loader did since it was last asked, or since this was made.

    ``loader_samples_per_second``, ``loader_stall_percent``, ``loader_first_batch_ms`` (of the newest pass),
    ``loader_cache_hits`` and ``loader_cache_misses``: see ``Loader.stats``, which adds up all passes.
    """

    def __init__(self, loader: Loader) -> None:
        if not isinstance(loader, Loader):
            raise TypeError(f"loader={loader!r}: expected a fastshard.Loader")
        self._loader = loader
        self._before = self._counts()

    def _counts(self) -> dict[str, float]:
        counts: dict[str, float] = json.loads(self._loader._native.stats())
        hits, misses = self._loader._native.cache_counts()
        return counts | {"cache_hits": hits, "cache_misses": misses}

    def take(self) -> dict[str, float]:
        """The figures, which then begin anew."""
        before, self._before = self._before, self._counts()
        since = {name: count - before[name] for name, count in self._before.items()}
        seconds = since["seconds"]
        return {
            "loader_samples_per_second": since["samples"] / seconds if seconds else 0.0,
            "loader_stall_percent": 100 * min(1.0, since["wait_seconds"] / seconds) if seconds else 0.0,
            "loader_first_batch_ms": 1000 * self._before["first_batch_seconds"],
            "loader_cache_hits": since["cache_hits"],
            "loader_cache_misses": since["cache_misses"],
        }
