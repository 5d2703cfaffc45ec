"""The torch adapter: a loader as an ``IterableDataset`` of whole batches.

``num_workers=0`` is the fast way: the loader's threads decode outside of Python's lock, straight into the batch that
torch then uses, whereas worker processes send every batch through shared memory and start anew each epoch. Use workers
only for Python code of your own that is slow; each then takes its own share of the batches and of the threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ._loader import Loader, _Begin

__all__ = ["ShardDataset", "to_device"]

_MAX_WORKERS = 1024


class ShardDataset(IterableDataset[dict[str, Any]]):
    """Yields the batches of ``loader`` as dicts of tensors; text and bytes are lists.

    The tensors are writable and share the memory of the batch: nothing is copied. Iterate it directly, or through
    ``DataLoader(dataset, batch_size=None)`` for pinned memory or workers. With ``n`` workers, worker ``k`` loads
    batches ``k, k + n, ...``: every sample comes exactly once, in the loader's order.

    Each full pass moves on to the next epoch, in workers too, and is one as soon as its last batch is handed out;
    ``set_epoch`` (of this object, not of the loader) before a pass chooses it.

    ``state_dict()`` and ``load_state_dict()`` go on at any batch: directly without workers, and with workers through
    torchdata's ``StatefulDataLoader(dataset, batch_size=None, num_workers=n)``, which keeps one state a worker.
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
        self._place = _Place(loader._next, 0, 1)
        self._resumed: _Place | None = None

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the passes that start from now on, in workers too."""
        self.loader.set_epoch(epoch)
        self._epochs.fill_(epoch)
        self._resumed = None

    def state_dict(self) -> dict[str, Any]:
        """Where the newest pass stands in this process, as ``Loader.state_dict`` says it; in a worker for its share."""
        begin, batches, workers = self._place
        if workers == 1:
            begin, batches = self.loader._after(begin, batches), 0
        return self.loader._state_of(begin) | {"batches": batches, "workers": workers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Lets the next pass go on there: see ``Loader.load_state_dict``. In a worker, among as many workers."""
        begin = self.loader._read_state(state)
        first, step = _share()
        batches, workers = state.get("batches", 0), state.get("workers", 1)
        if batches and workers != step:
            raise ValueError(f"state was taken in one of {workers} workers, expected as many as now: {step}")
        self.loader._next = begin
        self._epochs[first::step] = begin.epoch
        self._place = _Place(begin, batches, step)
        # Workers that start from here for every epoch must not take it up again each time.
        self._resumed = self._place if batches else None

    def _begin(self, step: int) -> _Place:
        resumed, self._resumed = self._resumed, None
        return _Place(self._next(), 0, step) if resumed is None else resumed

    def _next(self) -> _Begin:
        """Where the next pass begins, unless a worker was told otherwise."""
        epoch = int(self._epochs.min())
        return self.loader._next if self.loader.epoch >= epoch else _Begin(epoch, 0)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        first, step = _share()
        loader = self.loader if step == 1 else self.loader.share_threads(step)
        self._place = begin, done, _ = self._begin(step)
        share = -(-(loader._native.batches(begin.samples) - first) // step)
        with loader._iterate(first + done * step, step, views=False, begin=begin, bits=True) as batches:
            for batch in batches:
                self._place = _Place(begin, done + batches.position, step)
                if done + batches.position == share:
                    # Whoever knows how many there are, as Lightning does, never asks for one more.
                    self._epochs[first::step] = begin.epoch + 1
                yield {name: _tensor(values, name in batches._bits) for name, values in batch.items()}
        self._epochs[first::step] = begin.epoch + 1
        self._place = _Place(_Begin(begin.epoch + 1, 0), 0, step)


def to_device(batches: Iterable[Any], device: torch.device | str | int) -> Iterator[Any]:
    """Moves the tensors of batches to a device.

        for batch in fs.torch.to_device(fs.torch.ShardDataset(loader), "cuda"):
            ...

    For a GPU, each batch is pinned and copied on a stream of its own while the one before is worked on; what computes
    with a batch waits for its copy. So ``state_dict()`` in this loop counts one batch more than was worked on. An error
    comes after the batches before it. Tensors in dicts, lists and tuples inside a batch, as a ``Lambda`` may make them,
    go along; text and bytes stay lists. Tensors on the CPU are handed on as they are.
    """
    target = torch.device(device)
    if target.type == "cuda":
        return _copied_ahead(batches, target)
    return (_mapped(batch, lambda tensor: tensor.to(target)) for batch in batches)


def _mapped(value: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """``function`` of every tensor in nested containers; all else as it is."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {name: _mapped(item, function) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(item, function) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(item, function) for item in value)
    return value


def _copied_ahead(batches: Iterable[Any], device: torch.device) -> Iterator[Any]:
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    copies = (_copy(batch, stream, device) for batch in batches)
    copied = next(copies, None)
    while copied is not None:
        following = failed = None
        try:
            following = next(copies, None)
        except Exception as error:  # noqa: BLE001
            failed = error  # whatever it is, it comes after the batch that was there before it
        yield _arrived(*copied, device)
        copied = following
        if failed is not None:
            try:
                raise failed
            finally:
                del failed  # its traceback holds this frame, and so what the frame holds


def _copy(batch: Any, stream: torch.cuda.Stream, device: torch.device) -> tuple[Any, torch.cuda.Event]:
    with torch.cuda.stream(stream):
        # The pinned memory stays until its copy is done: torch's allocator sees to it.
        copying = _mapped(batch, lambda tensor: _pinned(tensor).to(device, non_blocking=True))
    return copying, stream.record_event()


def _pinned(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.pin_memory() if tensor.device.type == "cpu" else tensor


def _arrived(batch: Any, done: torch.cuda.Event, device: torch.device) -> Any:
    stream = torch.cuda.current_stream(device)
    stream.wait_event(done)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        # The memory came from another stream's pool and must not go back to it while this one still reads.
        tensor.record_stream(stream)
        return tensor

    return _mapped(batch, keep)


class _Place(NamedTuple):
    """Where a pass stands: where it began, and how many batches this one of so many workers has had since."""

    begin: _Begin
    batches: int
    workers: int


def _share() -> tuple[int, int]:
    """The number of this worker, and how many there are."""
    worker = get_worker_info()
    return (0, 1) if worker is None else (worker.id, worker.num_workers)


def _tensor(values: Any, bits: bool) -> Any:
    if not isinstance(values, np.ndarray):
        return values  # as a Lambda made it
    if values.dtype == object:
        return values.tolist()
    if bits or values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(values)
