"""Filling the cache of decoded pixels ahead of training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fastshard._base.progress import progress_bar
from fastshard._transforms.image import RandomCrop

if TYPE_CHECKING:
    from .loader import Loader

__all__ = ["warm"]


def warm(loader: Loader, progress: bool | None) -> int:
    """See ``Loader.warm``."""
    kept = [entry for entry in json.loads(loader._native.keeping()) if entry["path"] is not None]
    if not kept:
        return 0
    spec = loader._spec
    # What comes after the beginning is left out, but for one pixel, so that images of all sizes fit in a batch.
    transforms = {
        entry["field"]: [*spec["transforms"].get(entry["field"], [])[: entry["prefix"]], RandomCrop(1)._spec()]
        for entry in kept
    }
    plain = {
        "fields": list(transforms),
        "transforms": transforms,
        "batch_transforms": [],
        "shuffle": "none",
        "drop_last": False,
        "on_error": "skip",
        "layout": "NHWC",
        "cache": spec["cache"] | {"fill": True},
    }
    dataset = loader.dataset._view(loader.dataset._rows)
    filler = loader._plain_like(dataset, spec | plain)
    with progress_bar("decoding", progress) as update, filler.iterate(views=False) as batches:
        for batch in batches:
            update(min(batches.position * filler.batch_size, len(dataset)), len(dataset), filler.num_skipped)
            del batch
    return sum(filler._native.cache_filled())
