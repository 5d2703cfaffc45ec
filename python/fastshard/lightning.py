"""The Lightning adapter: callbacks. A Trainer takes ``fastshard.torch.ShardDataset`` as it is.

    trainer = lightning.Trainer(callbacks=[fs.lightning.LoaderStats(loader)])
    trainer.fit(module, fs.torch.ShardDataset(loader))

Every epoch has an order of its own, and a checkpoint from within an epoch goes on at the next batch. On several GPUs,
make the loader in ``train_dataloader``: ranks are known there.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._loader import Loader, _Begin
from ._logs import Logs
from .torch import ShardDataset

if TYPE_CHECKING or "pytorch_lightning" not in sys.modules or "lightning" in sys.modules:
    from lightning.pytorch import Callback
else:
    # The same code under its older name: the one that a program uses.
    from pytorch_lightning import Callback

__all__ = ["LoaderState", "LoaderStats"]


class LoaderStats(Callback):
    """Logs what the loader did in each epoch: ``loader_samples_per_second``, ``loader_stall_percent`` ...

    See ``Loader.stats``; here each epoch counts for itself, and on several GPUs it is the mean over them. A
    ``DataLoader`` with worker processes leaves nothing to count in this one.
    """

    def __init__(self, loader: Loader) -> None:
        self._logs = Logs(loader)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Called by Lightning."""
        pl_module.log_dict(self._logs.take(), sync_dist=True)


class LoaderState(Callback):
    """Keeps where training stands in Lightning's checkpoints, so that ``fit(ckpt_path=...)`` goes on at the next batch.

        dataset = fs.torch.ShardDataset(loader)
        trainer = lightning.Trainer(callbacks=[fs.lightning.LoaderState(dataset), ...])
        trainer.fit(module, DataLoader(dataset, batch_size=None))

    For a ``DataLoader``, with or without workers, and for ``limit_train_batches``: without this, an epoch that was cut
    short is the same the next time. A Trainer that is given whole epochs of ``dataset`` itself needs none. Counts the
    batches that were trained on, not those that were fetched ahead.
    """

    def __init__(self, dataset: ShardDataset) -> None:
        if not isinstance(dataset, ShardDataset):
            raise TypeError(f"dataset={dataset!r}: expected a fastshard.torch.ShardDataset")
        self._dataset = dataset
        self._begin = dataset._next()
        self._trained = 0

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002
        """Called by Lightning, before it restores a checkpoint."""
        self._begin, self._trained = self._dataset._next(), 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Called by Lightning, which may have told the dataset of a place that limit_train_batches passed over."""
        if self._dataset._next() != self._begin:
            self._dataset.load_state_dict(self.state_dict())

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Called by Lightning."""
        self._trained += 1
        if trainer.is_last_batch:
            self._begin, self._trained = _Begin(self._begin.epoch + 1, 0), 0
            self._dataset.set_epoch(self._begin.epoch)

    def state_dict(self) -> dict[str, Any]:
        """Called by Lightning: as ``Loader.state_dict``."""
        loader = self._dataset.loader
        return loader._state_of(loader._ahead(self._begin, self._trained))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Called by Lightning; raises ValueError if the loader is not that of the checkpoint."""
        self._dataset.load_state_dict(state_dict)
        self._begin, self._trained = self._dataset._next(), 0
