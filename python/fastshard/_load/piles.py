"""Several batches in one array, for frameworks that take long over each hand-over, whatever its size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .loader import Loader, _Progress

__all__ = ["piles", "together"]

_PILE_BYTES = 4 << 20
_VARIABLE = ("audio", "list", "boxes", "text", "bytes")


def together(loader: Loader) -> int:
    """How many batches of a table make a pile of a few megabytes; 1 for what isn't a table."""
    spec = loader.batch_spec
    alone = loader._functions or loader._spec["batch_transforms"] or loader.skips
    fields = [loader.dataset.field(name) for name in loader._spec["fields"]]
    if alone or any(field.is_image or field.type in _VARIABLE for field in fields):
        return 1
    row_bytes = sum(
        math.prod(size or 1 for size in field.shape[1:]) * np.dtype(field.dtype).itemsize for field in spec.values()
    )
    return max(1, min(_PILE_BYTES // max(1, loader.batch_size * row_bytes), len(loader)))


def piles(loader: Loader, count: int) -> Iterator[dict[str, Any]]:
    """The batches of the loader's next pass, ``count`` at a time: arrays ``[batches, batch, ...]``.

    A last batch that is smaller comes by itself.
    """
    begin, size = loader._next, loader.batch_size
    # The order doesn't depend on the batch size.
    twin = loader._with_batches_of(size * count)
    progress = loader._newest = _Progress(begin, loader._spec["world_size"])
    left = loader._native.batches(begin.samples)
    with twin._iterate(0, 1, views=False, begin=begin, bits=False) as source:
        loader._watch(progress, source)
        for batch in source:
            rows = len(next(iter(batch.values())))
            whole = min(rows // size, left)
            if whole:
                yield {
                    name: values[: whole * size].reshape(whole, size, *values.shape[1:])
                    for name, values in batch.items()
                }
            rest = whole < left and whole * size < rows
            if rest:
                yield {name: values[None, whole * size :] for name, values in batch.items()}
            left -= whole + rest
            progress.batches += whole + rest
    loader._finished(begin.epoch)
