"""The Lightning adapter: callbacks. A Trainer takes ``fastshard.torch.ShardDataset`` as it is.

    trainer = lightning.Trainer(callbacks=[fs.lightning.LoaderStats(loader)])
    trainer.fit(module, fs.torch.ShardDataset(loader))

Every epoch has an order of its own, and a checkpoint goes on at the next batch. Add ``LoaderState`` where a
``DataLoader`` is around the dataset. On several GPUs each process reads its part, wherever the loader was made.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._load.loader import Loader, _Begin
from ._load.logs import Logs
from .torch import ShardDataset, take_left_state

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

    For a ``DataLoader``, with or without workers: Lightning keeps its state only where a Trainer is given ``dataset``
    itself. Counts the batches that were trained on, not those that were fetched ahead, and with ``limit_train_batches``
    goes on with the next epoch.
    """

    def __init__(self, dataset: ShardDataset) -> None:
        if not isinstance(dataset, ShardDataset):
            raise TypeError(f"dataset={dataset!r}: expected a fastshard.torch.ShardDataset")
        self._dataset = dataset
        self._loop: Any = None
        self._begin = dataset._next()
        self._before = 0  # batches that Lightning had trained on in all when the loader stood at _begin
        self._stale = False

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002
        """Called by Lightning, before it restores a checkpoint."""
        self._loop = trainer.fit_loop
        self._begin, self._before = self._dataset._next(), self._progress().total.processed
        self._dataset._callback = self._stale = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Called by Lightning, which may have told the dataset of a place that limit_train_batches passed over."""
        if not self._dataset._callback:
            # A new run, or a checkpoint without this callback.
            take_left_state(self._dataset, self._loop)
            self._begin = self._dataset._next()
        elif self._dataset._next() != self._begin:
            self._dataset.load_state_dict(self._dataset.loader._state_of(self._begin))
        self._before = self._progress().total.processed
        if self._stale:
            iter(self._loop._data_fetcher)

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:  # noqa: ARG002
        """Called by Lightning."""
        self._end_epoch()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Called by Lightning, also for an epoch that a hook cut short."""
        self._end_epoch()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002
        """Called by Lightning."""
        self._dataset._callback = False

    def state_dict(self) -> dict[str, Any]:
        """Called by Lightning, for other callbacks before this one is told of a batch: as ``Loader.state_dict``."""
        loader = self._dataset.loader
        ended = self._loop is not None and self._has_ended()
        return loader._state_of(_Begin(self._begin.epoch + 1, 0) if ended else self._place())

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Called by Lightning; raises ValueError if the loader is not that of the checkpoint."""
        self._dataset.load_state_dict(state_dict)
        self._begin = self._dataset._next()
        self._dataset._callback = True
        # Workers of an iterator that configure_optimizers had made read from another place.
        self._stale = getattr(self._loop, "_data_fetcher", None) is not None

    def _progress(self) -> Any:
        return self._loop.epoch_loop.batch_progress

    def _place(self) -> _Begin:
        trained = 0 if self._loop is None else self._progress().total.processed - self._before
        return self._dataset.loader._ahead(self._begin, trained)

    def _has_ended(self) -> bool:
        """Whether the last batch of an epoch was trained on, which began at ``_begin``."""
        progress = self._progress()
        done = progress.is_last_batch and progress.current.processed == progress.current.ready
        return bool(done and progress.total.processed > self._before)

    def _end_epoch(self) -> None:
        if self._has_ended():
            self._begin, self._before = _Begin(self._begin.epoch + 1, 0), self._progress().total.processed
            self._dataset.set_epoch(self._begin.epoch)
