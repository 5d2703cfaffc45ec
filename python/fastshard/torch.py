"""The torch adapter: a loader as an ``IterableDataset`` of whole batches.

``num_workers=0`` is the fast way: the loader's threads decode outside of Python's lock, straight into the batch that
torch then uses, whereas worker processes send every batch through shared memory and start anew each epoch. Use workers
only for Python code of your own that is slow; each then takes its own share of the batches and of the threads.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ._dataset import Dataset, from_arrays
from ._load.loader import Batches, Loader, TransformsOption, _Begin

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["ShardDataset", "TensorLoader", "detection_targets", "to_device", "yolo_targets"]

_MAX_WORKERS = 1024


class ShardDataset(IterableDataset[Any]):
    """Yields the batches of ``loader`` as dicts of tensors; text and bytes are lists.

    The tensors are writable and share the memory of the batch: nothing is copied. Iterate it directly, or through
    ``DataLoader(dataset, batch_size=None)`` for pinned memory or workers. With ``n`` workers, worker ``k`` loads
    batches ``k, k + n, ...``: every sample comes exactly once, in the loader's order.

    ``as_tuple=("image", "label")`` gives tuples of these fields instead, for ``for x, y in dataset``.

    Each full pass moves on to the next epoch, in workers too, and is one as soon as its last batch is handed out;
    ``set_epoch`` (of this object, not of the loader) before a pass chooses it.

    ``state_dict()`` and ``load_state_dict()`` go on at any batch: directly without workers, and with workers through
    torchdata's ``StatefulDataLoader(dataset, batch_size=None, num_workers=n)``, which keeps one state a worker.

    With Accelerate, don't ``prepare`` a ``DataLoader`` of it: each process reads its part of the epoch already. Passes
    raise ValueError where a library would batch the batches, or share them out, a second time.
    """

    def __init__(self, loader: Loader, as_tuple: Sequence[str] | None = None) -> None:
        super().__init__()
        if not isinstance(loader, Loader):
            raise TypeError(f"loader={loader!r}: expected a fastshard.Loader")
        self.loader = loader
        self._names = None if as_tuple is None else _names(loader, as_tuple)
        self._process = os.getpid()
        self._shared = _shared(loader.epoch)
        self._place: _Place | None = None  # of the newest pass, once it has begun
        self._resumed: _Place | None = None
        self._half = False  # the pass before the newest iterator was left half way
        self._callback = False  # a LoaderState says where to go on

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self.loader)

    batch_sampler = None  # Lightning looks at both

    @property
    def sampler(self) -> _Epochs:
        """What Lightning tells the epoch."""
        return _Epochs(self)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the passes that start from now on, in workers too."""
        _refuse_dispatch(_caller(), self.loader)
        self._set_epoch(epoch)

    def _set_epoch(self, epoch: int) -> None:
        self.loader.set_epoch(epoch)
        self._epochs.fill_(epoch)
        self._place, self._resumed, self._half = None, None, False

    def state_dict(self) -> dict[str, Any]:
        """Where the newest pass stands in this process, as ``Loader.state_dict`` says it; in a worker for its share."""
        self.loader._newest.told = True
        begin, batches, workers, world = self._place or self._resumed or _Place(self._next(), 0, 1, 1)
        if workers == 1:
            begin, batches = self.loader._after(begin, batches, world), 0
        shares = {"batches": batches, "workers": workers, "ranks": world}
        return self.loader._state_of(begin) | shares

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Lets the next pass go on there: see ``Loader.load_state_dict``. In a worker, among as many workers."""
        begin = self.loader._read_state(state)
        first, step = _share()
        world = self.loader._spec["world_size"]
        batches, workers = state.get("batches", 0), state.get("workers", 1)
        if batches and (workers, state.get("ranks", world)) != (step, world):
            taken = f"one of {workers} workers on {state.get('ranks', world)} ranks"
            raise ValueError(f"state was taken in {taken}, expected as many as now: {step} on {world}")
        self.loader._set_next(begin)
        self._epochs[first::step] = begin.epoch
        self._place, self._half = None, False
        # Workers that start from here for every epoch must not take it up again each time.
        self._resumed = _Place(begin, batches, step, world) if batches else None

    def _begin(self, step: int) -> _Place:
        resumed, self._resumed = self._resumed, None
        return resumed or _Place(self._next(), 0, step, self.loader._spec["world_size"])

    @property
    def _epochs(self) -> torch.Tensor:
        """The next epoch of every worker, in memory that workers share with their parent, but ranks don't.

        Worker k of n writes places k, k + n, ... when it is through, and the lowest place counts: so a fast worker
        cannot move on a slow one that has yet to start. A process that isn't a worker, such as a rank that was forked
        with the dataset, takes memory of its own.
        """
        if self._process != os.getpid() and get_worker_info() is None:
            self._process, self._shared = os.getpid(), _shared(self.loader.epoch)
        return self._shared

    def _next(self) -> _Begin:
        """Where the next pass begins, unless a worker was told otherwise."""
        epoch = int(self._epochs.min())
        return self.loader._next if self.loader.epoch >= epoch else _Begin(epoch, 0)

    def _began(self) -> bool:
        """Whether a pass from where the next one begins was left half way."""
        place = self._place
        return self._half if place is None else place.batches > 0 and place.begin == self._next()

    def __iter__(self) -> Iterator[Any]:
        _refuse_collation(_caller())
        self._half, self._place = self._began(), None
        return self._pass()

    def _pass(self) -> Iterator[Any]:
        first, step = _share()
        loader = self.loader if step == 1 else self.loader.share_threads(step)
        self._place = begin, done, _, world = self._begin(step)
        self._half = False
        share = -(-(loader._native.batches(begin.samples) - first) // step)
        # Of tables a thousand batches come in 50 ms: mostly there is nothing to look at in an array.
        plain = not loader._converted and not loader._functions and self._names is None
        from_numpy = torch.from_numpy
        with loader._iterate(first + done * step, step, views=False, begin=begin, bits=True) as batches:
            if step == 1:
                loader._watch(batches._progress, batches)
            for batch in batches:
                position = done + batches.position
                self._place = _Place(begin, position, step, world)
                if position == share:
                    # Whoever knows how many there are, as Lightning does, never asks for one more.
                    self._epochs[first::step] = begin.epoch + 1
                    if step == 1:
                        loader._finished(begin.epoch)
                if plain:
                    yield {name: from_numpy(values) for name, values in batch.items()}
                elif self._names is None:
                    yield {name: _tensor(values, name in batches._bits) for name, values in batch.items()}
                else:
                    yield tuple([_tensor(batch[name], name in batches._bits) for name in self._names])
        self._epochs[first::step] = begin.epoch + 1
        self._place = None


class TensorLoader:
    """Iterates tuples of tensors, a batch at a time, over tensors in memory or a packed dataset.

        loader = fs.torch.TensorLoader(features, labels, batch_size=1024, shuffle=True)
        loader = fs.torch.TensorLoader(fs.open("higgs"), batch_size=1024, shuffle=True)
        for features, labels in loader:
            ...

    ``tensors``: tensors on the CPU, or arrays, with a row for each sample; or a ``Dataset``, a view of one, or the path
    of one, whose fields then come in order (``fields`` names some). The other options are those of a ``Loader``. For
    images and texts use a ``ShardDataset``.

    Shuffled batches are gathered ahead by native threads, each into memory of its own. Without ``shuffle`` batches are
    slices of the data, as those of a tensor: what is written to one is seen in the next epoch, but never in the files.

    Each pass is another epoch; ``set_epoch``, ``state_dict`` and ``load_state_dict`` as with a ``Loader``, which
    ``loader`` is.
    """

    def __init__(
        self,
        *tensors: torch.Tensor | ArrayLike | Dataset | str | os.PathLike[str],
        batch_size: int,
        shuffle: bool | str = False,
        seed: int = 0,
        drop_last: bool = False,
        fields: Iterable[str] | None = None,
        transforms: TransformsOption | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        num_threads: int | None = None,
        prefetch: int = 3,
    ) -> None:
        dataset = _dataset(tensors)
        self._bits = [isinstance(values, torch.Tensor) and values.dtype == torch.bfloat16 for values in tensors]
        self.loader = Loader(
            dataset if shuffle else dataset._copied_on_write(),
            batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            fields=fields,
            transforms=transforms,
            rank=rank,
            world_size=world_size,
            num_threads=num_threads,
            prefetch=prefetch,
        )
        spec = self.loader.batch_spec
        fields = self.loader._spec["fields"]
        varying = [name for name in fields if spec[name].dtype in ("str", "bytes") or f"{name}_offsets" in spec]
        if varying:
            ways = "name others as fields, fill lists up with PadSequence, or use a ShardDataset"
            raise ValueError(f"field {varying[0]!r} is no tensor: {ways}")

        self._callback = False

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self.loader)

    def __getitem__(self, index: Any) -> Any:
        raise TypeError(f"[{index!r}]: a TensorLoader makes batches itself; iterate it without a DataLoader")

    batch_sampler = None  # Lightning looks at both

    @property
    def sampler(self) -> _Epochs:
        """What Lightning tells the epoch."""
        return _Epochs(self)

    def _next(self) -> _Begin:
        return self.loader._next

    def _began(self) -> bool:
        return self.loader._newest.batches > 0

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        with self.loader.iterate() as batches:
            try:
                yield from self._tuples(batches)
            finally:
                # Whoever knows how many there are, as Lightning does, never asks for one more.
                begin = batches._progress.begin
                if batches.position == self.loader._native.batches(begin.samples):
                    self.loader._finished(begin.epoch)

    def _tuples(self, batches: Batches) -> Iterator[tuple[torch.Tensor, ...]]:
        from_numpy = torch.from_numpy
        if not any(self._bits):
            for batch in batches:
                yield tuple(map(from_numpy, batch.values()))
            return
        for batch in batches:
            pairs = zip(batch.values(), self._bits, strict=True)
            yield tuple([_tensor(values, bits) for values, bits in pairs])

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the passes that start from now on."""
        self.loader.set_epoch(epoch)

    _set_epoch = set_epoch

    def state_dict(self) -> dict[str, Any]:
        """Where the newest pass stands: see ``Loader.state_dict``. Of tensors in memory it knows types and shapes."""
        return self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Lets the next pass go on there: see ``Loader.load_state_dict``."""
        self.loader.load_state_dict(state)

    def __repr__(self) -> str:
        return f"<fastshard.torch.TensorLoader of {self.loader!r}>"


def _dataset(tensors: Sequence[Any]) -> Dataset:
    if not tensors:
        raise TypeError("TensorLoader() without tensors: expected at least one, or a packed dataset")
    if not isinstance(tensors[0], (Dataset, str, os.PathLike)):
        return from_arrays({f"tensor_{number}": _array(number, values) for number, values in enumerate(tensors)})
    if len(tensors) > 1:
        raise TypeError(f"{len(tensors)} datasets: expected one, or tensors; see fastshard.concat")
    return tensors[0] if isinstance(tensors[0], Dataset) else Dataset(tensors[0])


def _array(number: int, values: Any) -> ArrayLike:
    if not isinstance(values, torch.Tensor):
        return values  # type: ignore[no-any-return]
    if values.device.type != "cpu":
        raise ValueError(f"tensor {number} is on {values.device}, expected the CPU; move batches with to_device")
    # NumPy has no bfloat16; it travels as its bits.
    plain = values.detach().contiguous()
    array: ArrayLike = (plain.view(torch.uint16) if plain.dtype == torch.bfloat16 else plain).numpy()
    return array


def detection_targets(
    batch: Mapping[str, Any],
    boxes: str = "boxes",
    labels: str = "labels",
    first_label: int = 1,
    masks: str = "segmentation",
) -> list[dict[str, torch.Tensor]]:
    """The boxes of a batch as torchvision's detectors take them: a dict of ``boxes`` and ``labels`` for each image.

    The batch is one of a ``ShardDataset`` whose lists aren't filled up, its boxes ``"xyxy"`` in pixels. Labels begin
    at ``first_label``, since torchvision's 0 is the background. Where ``InstanceMasks`` makes ``masks``, these are
    there too, uint8 ``[boxes, height, width]``, as Mask R-CNN takes them. Nothing is copied but the labels.
    """
    lengths = batch[_offsets(batch, boxes)].diff().tolist()
    parts = {"boxes": batch[boxes], "labels": batch[labels] + first_label}
    if isinstance(batch.get(masks), torch.Tensor):
        parts["masks"] = batch[masks]
    split = [values.split(lengths) for values in parts.values()]
    return [dict(zip(parts, own, strict=True)) for own in zip(*split, strict=True)]


def yolo_targets(batch: Mapping[str, Any], boxes: str = "boxes", labels: str = "labels") -> torch.Tensor:
    """The boxes of a batch as YOLO's losses take them: float32 ``[boxes, 6]``, number of the image, class, box.

    The batch is one of a ``ShardDataset`` whose lists aren't filled up, with
    ``ConvertBoundingBoxFormat("cxcywh", normalized=True)`` among the boxes' transforms.
    """
    lengths = batch[_offsets(batch, boxes)].diff()
    images = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    return torch.cat([torch.stack([images, batch[labels]], dim=1).float(), batch[boxes]], dim=1)


def _offsets(batch: Mapping[str, Any], field: str) -> str:
    name = f"{field}_offsets"
    if name not in batch:
        raise ValueError(f"batch has {', '.join(batch)}: expected {name!r}; load {field!r} without PadSequence")
    return name


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
    """Where a pass stands: where it began, and how many batches this worker has had since, of how many on each rank."""

    begin: _Begin
    batches: int
    workers: int
    ranks: int


def _shared(epoch: int) -> torch.Tensor:
    epochs = torch.full((_MAX_WORKERS,), epoch, dtype=torch.int64)
    epochs.share_memory_()  # type: ignore[no-untyped-call]
    return epochs


class _Epochs:
    """A sampler for Lightning, which tells samplers the epoch before it begins."""

    def __init__(self, owner: ShardDataset | TensorLoader) -> None:
        self._owner = owner

    def set_epoch(self, epoch: int) -> None:
        """Takes up a state that Lightning left out, and never gives an epoch the order of an earlier one."""
        owner = self._owner
        if owner._callback:
            return
        # This was called by a function that a loop called.
        take_left_state(owner, _caller(3))
        if epoch > owner._next().epoch:
            owner._set_epoch(epoch)
        elif owner._began():  # limit_train_batches, or a sanity check
            owner._set_epoch(owner._next().epoch + 1)


def take_left_state(owner: ShardDataset | TensorLoader, loop: Any) -> None:
    """Loads the state of ``owner`` that Lightning's ``fit_loop`` read from a checkpoint and didn't load.

    It leaves out states of an epoch's end, and all where ``estimated_stepping_batches`` made the loaders before the
    checkpoint was read (Lightning issue 20550).
    """
    states, loaders = (getattr(loop, f"_combined_loader{name}", None) for name in ("_states_to_load", ""))
    if not states or loaders is None:
        return
    stateful = [one for one in loaders.flattened if hasattr(one, "state_dict") and hasattr(one, "load_state_dict")]
    for number, (one, state) in enumerate(zip(stateful, states, strict=False)):
        if one is owner and state is not None:
            states[number] = None
            try:
                owner.load_state_dict(state)
            except ValueError:
                # At an epoch's end other data may follow.
                if loop.restarting:
                    raise


def _caller(depth: int = 2) -> Any:
    """The object whose method called the method that asks: torch's and Accelerate's loaders don't say who they are."""
    return sys._getframe(depth).f_locals.get("self")


def _refuse_collation(reader: Any) -> None:
    """Raises for a ``DataLoader`` with a batch size, and for Accelerate's second sharding."""
    if getattr(reader, "auto_collation", False):
        raise ValueError(
            "a DataLoader with a batch_size would batch the batches of ShardDataset; write DataLoader(dataset, "
            f"batch_size=None){_IN_TRAINER}"
        )
    if type(reader).__name__ == "IterableDatasetShard":
        raise ValueError(_PREPARED)


def _refuse_dispatch(reader: Any, loader: Loader) -> None:
    """Raises where process 0, with its part of the epoch, would read for all."""
    if type(reader).__name__ == "DataLoaderDispatcher" and loader._spec["world_size"] > 1:
        raise ValueError(_PREPARED)


_IN_TRAINER = "; in transformers.Trainer, return that from get_train_dataloader and get_eval_dataloader"
_PREPARED = (
    "Accelerate would share out the batches of a ShardDataset that has only this process's part of the epoch: leave "
    "the DataLoader out of prepare(), and move batches with fastshard.torch.to_device(dataset, accelerator.device), "
    "or make the Loader with world_size=1 so that process 0 reads for all"
    + _IN_TRAINER.replace("return that", "return DataLoader(dataset, batch_size=None)")
)


def _names(loader: Loader, as_tuple: Sequence[str]) -> tuple[str, ...]:
    names, known = tuple(as_tuple), tuple(loader.batch_spec)
    if isinstance(as_tuple, str) or not names or not set(names) <= set(known):
        raise ValueError(f"as_tuple={as_tuple!r}: expected names out of {', '.join(known)}")
    return names


def _share() -> tuple[int, int]:
    """The number of this worker, and how many there are."""
    worker = get_worker_info()
    return (0, 1) if worker is None else (worker.id, worker.num_workers)


def _tensor(values: Any, bits: bool) -> Any:
    if not isinstance(values, np.ndarray):
        return values  # as a Lambda made it
    kind = values.dtype.kind
    if kind == "O":
        return values.tolist()
    if bits or kind == "V":  # bfloat16, as a Lambda made it
        return torch.from_numpy(values.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(values)
