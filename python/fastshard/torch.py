"""The torch adapter: a loader as an ``IterableDataset`` of whole batches.

``num_workers=0`` is the fast way: the loader's threads decode outside of Python's lock, straight into the batch that
torch then uses, whereas worker processes send every batch through shared memory and start anew each epoch. Use workers
only for Python code of your own that is slow; each then takes its own share of the batches and of the threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ._loader import Batches, Loader

__all__ = ["ShardDataset"]

_MAX_WORKERS = 1024


class ShardDataset(IterableDataset[dict[str, Any]]):
    """Yields the batches of ``loader`` as dicts of tensors; text and bytes are lists.

    The tensors are writable and share the memory of the batch: nothing is copied. Iterate it directly, or through
    ``DataLoader(dataset, batch_size=None)`` for pinned memory or workers. With ``n`` workers, worker ``k`` loads
    batches ``k, k + n, ...``: every sample comes exactly once, in the loader's order.

    Each full pass moves on to the next epoch, in workers too; ``set_epoch`` (of this object, not of the loader) before
    a pass chooses it.
    """

    def __init__(self, loader: Loader) -> None:
        super().__init__()
        if not isinstance(loader, Loader):
            raise TypeError(f"loader={loader!r}: expected a fastshard.Loader")
        self.loader = loader
        # The next epoch of every worker, in memory that workers share with their parent. Worker k of n writes places k,
        # k + n, ... when it is through, and the lowest place counts: so a fast worker cannot move on a slow one that
        # has yet to start.
        self._epochs = torch.full((_MAX_WORKERS,), loader.epoch, dtype=torch.int64)
        self._epochs.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the passes that start from now on, in workers too."""
        self.loader.set_epoch(epoch)
        self._epochs.fill_(epoch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        loader = self.loader if step == 1 else self.loader.share_threads(step)
        epoch = max(loader.epoch, int(self._epochs.min()))
        with loader._iterate(first, step, views=False, epoch=epoch, bits=True) as batches:
            yield from _tensors(batches)
        self._epochs[first::step] = epoch + 1


def _tensors(batches: Batches) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield {name: _tensor(values, name in batches._bits) for name, values in batch.items()}


def _tensor(values: Any, bits: bool) -> Any:
    if not isinstance(values, np.ndarray):
        return values  # as a Lambda made it
    if values.dtype == object:
        return values.tolist()
    if bits or values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(values)
