"""Loaders: which samples in which order, what is done to them, and how they become batches. The work is native."""

from __future__ import annotations

import json
import os
import warnings
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from fastshard import _fastshard
from fastshard._base import arrays, check
from fastshard._dataset import Dataset
from fastshard._transforms.audio import AudioTransform, audio_spec
from fastshard._transforms.batch import BatchTransform, Lambda, batch_transform_lists
from fastshard._transforms.image import ImageTransform, transform_list
from fastshard._transforms.lists import Buckets, ListStep, along_specs, are_masks, buckets_spec, list_spec, mask_spec
from fastshard._transforms.table import Standardize

from . import ranks
from .cache import Cache, native_cache
from .describe import describe
from .warm import warm

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["BatchField", "Batches", "Loader", "NoBatchError"]

TransformStep = ImageTransform | Standardize | ListStep | AudioTransform
TransformsOption = Mapping[str, TransformStep | Iterable[TransformStep]]
_SHUFFLES = {False: "none", True: "uniform", "block": "block"}
_STATE = 1  # version of what state_dict gives
_LEFT = 2  # passes left half way before a warning: the first may have been a look at a batch

BatchTransformsOption = BatchTransform | Lambda | Iterable[BatchTransform | Lambda]


@dataclass(frozen=True)
class BatchField:
    """A field of a batch: ``shape``, the batch first (None if it varies); NumPy ``dtype``, ``"str"`` or ``"bytes"``."""

    shape: tuple[int | None, ...]
    dtype: str


class _Begin(NamedTuple):
    """Where a pass begins: an epoch, and how many of its samples all ranks together have had."""

    epoch: int
    samples: int


@dataclass
class _Progress:
    """Where a pass began, among how many ranks, and how many batches it has gone through."""

    begin: _Begin
    world: int = 1
    batches: int = 0
    told: bool = False  # state_dict was asked for it


class Batches(Iterator[dict[str, Any]]):
    """One pass over a loader. Threads fill batches ahead; ``close()``, or dropping it, stops and joins them.

    ``position``: batches gone through, those included of which every sample was skipped.
    """

    def __init__(
        self, loader: Loader, native: _fastshard.BatchIterator, progress: _Progress, bits: Collection[str]
    ) -> None:
        self._native: _fastshard.BatchIterator | None = native
        self._loader = loader
        self._progress = progress
        self._bits = bits  # names of fields
        self._converted = [name for name in loader._converted if name not in bits]
        self._warns = loader._options["cache"] is not None

    @property
    def position(self) -> int:
        """Batches gone through."""
        return self._progress.batches

    def __next__(self) -> dict[str, NDArray[Any]]:
        # Another thread may come to the end and close this pass while this one is handed its batch.
        native = self._native
        if native is None:
            raise StopIteration
        try:
            batch = native.next()
        except _fastshard.CorruptionError as error:
            self.close()
            raise self._loader.dataset._opened.told_replaced(error) from error.__cause__
        except BaseException:
            self.close()
            raise
        if batch is None:
            self.close()
            self._loader._finished(self._progress.begin.epoch)
            raise StopIteration
        self._progress.batches = native.handed_over
        if self._warns:
            self._loader._warn()
        for name in self._converted:
            batch[name] = arrays.to_numpy(batch[name])
        if not self._loader._functions:
            return batch
        try:
            for function in self._loader._functions:
                batch = function(batch)
        except BaseException:
            self.close()
            raise
        return batch

    def close(self) -> None:
        """Stops and joins the threads; batches already handed out stay valid."""
        native, self._native = self._native, None
        if native is not None:
            native.close()

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Loader:
    """Iterates dicts of NumPy arrays, a batch at a time; decoding and transforms run on native threads.

    - ``dataset``: a ``Dataset``, a view of one, or the path of one.
    - ``batch_size``: samples a batch; the last one is smaller unless ``drop_last``.
    - ``shuffle``, ``seed``: True for a different order every epoch, the same for the same seed, whatever the threads or
      the machine. ``"block"`` for datasets larger than memory: blocks of the dataset change places, and rows are mixed
      within windows of 16 blocks (256 MiB), so that what is read lies together. Rows that are stored class by class
      stay with few classes a window: pack them in another order, or shuffle with True.
    - ``transforms``: per image field one transform or a list; random ones depend on (seed, epoch, sample) alone.
      Float32 fields of tables take ``Standardize``, lists ``Truncate`` and ``PadSequence``, segmentations
      ``InstanceMasks``, audio ``Mono``, ``Resample``, ``RandomWindow``, ``LogMel`` and the others of audio.
    - ``batch_transforms``: for whole batches: ``MixUp`` and ``CutMix``, and after them Python functions wrapped in
      ``Lambda``. Random ones depend on (seed, epoch, place of the batch), and so on the batch size.
    - ``buckets``: batches of samples of like lengths in a field, by name or as ``Buckets``.
    - ``matrices``: batches also say where each image's pixels come from: ``<field>_matrix``, float32
      ``[batch, 3, 3]``, takes a place (x, y, 1) in the batch's image to one in the source, whose height and width are
      ``<field>_size``, int64 ``[batch, 2]``. ``unmap_boxes`` takes boxes back with it.
    - ``layout``: ``"NHWC"`` or ``"NCHW"`` for images.
    - ``num_threads``: by default the cores that this process may use. ``prefetch``: batches filled ahead.
    - ``fields``: names of the fields to load; all by default.
    - ``on_error``: ``"raise"`` a DecodeError that names the sample, or ``"skip"`` it (see ``skipped``); its batch is
      smaller then. That holds for everything that is done to the sample, its boxes and masks included. To keep batches
      full, leave such samples out beforehand: ``ds = ds.without(ds.verify(decode=True))``.
    - ``rank``, ``world_size``: which part of each epoch this process gets: every ``world_size``-th sample of one common
      order. By default what torch.distributed, Ray Train or torchrun's environment say when a pass begins, so a
      loader may be older than the process group; ``world_size=1`` for all samples on every rank.
      All ranks make equally many steps: with ``drop_last`` what does not fill a batch on every rank is left out;
      without, the last ranks begin the epoch anew to fill up. To evaluate every sample exactly once, pass
      ``world_size=1`` on one rank, or on all of them.
    - ``verify``: compares each sample with its checksum before it is decoded.
    - ``cache``: a folder, or ``Cache(folder, max_bytes)``, in which decoded pixels are kept for later epochs and for
      other loaders of the same images: what an image field's transforms begin with, up to the first random one.
      ``"auto"`` keeps them in the default folder, if they take at most half of the free disk space and half of the
      memory; ``"off"`` nowhere. Pixels are the same with and without. A cache that can't be used, as in a folder that
      is read-only or full, gives a RuntimeWarning, and the loader goes on without. See ``plan`` and ``warm``.

    ``state_dict()`` and ``load_state_dict()`` stop and go on at any batch, on other numbers of ranks and threads too.

    Each ``iter()`` is an independent pass over epoch ``loader.epoch``, which goes up by one when a pass reaches its
    end; a pass left half way is repeated, and a RuntimeWarning says so if it happens again and again. ``set_epoch``
    sets it. Arrays of contiguous raw tensors are read-only views
    of the dataset. Lists come one after the other, ``[elements, ...]``, with where each starts and the last one ends
    as ``<field>_offsets`` ``[batch + 1]``, unless ``PadSequence`` fills them up. Boxes go where their image's
    transforms take them, cut to it, and those of which nothing is left are left out, with what runs along with them.
    Image fields are ``[batch, height, width, channels]`` (or channels first), so their transforms must end in one size.
    Audio fields are float32 ``[batch, channels, frames]``, with ``Mono`` ``[batch, frames]``, with ``LogMel``
    ``[..., n_mels, time]``; those of ``Mono`` whose lengths differ come as lists do.

    Raises TypeError and ValueError for impossible options, with the value received; ValueError, too, if ``drop_last``
    leaves no batch at all, here or when a pass begins on more ranks.
    """

    _warned = False  # of passes left half way
    _left: int  # passes in a row from the same place that were left half way
    _watched: tuple[_Progress, weakref.ref[Batches] | None]  # the newest pass

    def __init__(
        self,
        dataset: Dataset | str | os.PathLike[str],
        batch_size: int,
        *,
        shuffle: bool | str = False,
        seed: int = 0,
        drop_last: bool = False,
        transforms: TransformsOption | None = None,
        layout: str = "NHWC",
        num_threads: int | None = None,
        prefetch: int = 3,
        fields: Iterable[str] | None = None,
        on_error: str = "raise",
        verify: bool = True,
        batch_transforms: BatchTransformsOption = (),
        rank: int | None = None,
        world_size: int | None = None,
        cache: str | os.PathLike[str] | Cache = "off",
        buckets: Buckets | str | None = None,
        matrices: bool = False,
    ) -> None:
        self.dataset = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
        self.batch_size = check.integer("batch_size", batch_size, 1, 2**30)
        self._finds_rank = rank is None and world_size is None
        rank, world_size = ranks.rank_and_world_size(rank, world_size)
        names = _field_names(self.dataset, fields)
        loaded = [self.dataset.field(name) for name in names]
        native, self._functions = batch_transform_lists(batch_transforms, loaded)
        self._options: dict[str, Any] = {
            "batch_size": self.batch_size,
            "shuffle": _SHUFFLES["block" if shuffle == "block" else check.boolean("shuffle", shuffle)],
            "seed": check.integer("seed", seed, 0, 2**64 - 1),
            "drop_last": check.boolean("drop_last", drop_last),
            "rank": rank,
            "world_size": world_size,
            "fields": names,
            **_transforms(self.dataset, transforms or {}),
            "batch_transforms": native,
            "layout": check.one_of("layout", layout, ("NHWC", "NCHW")),
            "num_threads": 0 if num_threads is None else check.integer("num_threads", num_threads, 1, 1024),
            "prefetch": check.integer("prefetch", prefetch, 1, 1024),
            "on_error": check.one_of("on_error", on_error, ("raise", "skip")),
            "verify": check.boolean("verify", verify),
            "matrices": check.boolean("matrices", matrices),
            "cache": native_cache(cache),
            "buckets": buckets_spec(buckets, batch_size * world_size),
        }
        self._set_next(_Begin(0, 0))
        self._start()

    @classmethod
    def _of(
        cls, dataset: Dataset, spec: dict[str, Any], functions: tuple[Lambda, ...], finds_rank: bool = False
    ) -> Loader:
        loader: Loader = object.__new__(cls)
        loader.dataset, loader.batch_size, loader._options, loader._functions, loader._finds_rank = (
            dataset,
            spec["batch_size"],
            spec,
            functions,
            finds_rank,
        )
        loader._set_next(_Begin(0, 0))
        loader._start()
        return loader

    def _start(self) -> None:
        self._open: weakref.WeakSet[Batches] = weakref.WeakSet()
        self._earlier: dict[str, float] | None = None  # counts of loaders that _restart has replaced
        self._take(self.dataset, self._options)

    def _restart(self, dataset: Dataset, options: dict[str, Any]) -> None:
        """Takes another dataset or other options, and keeps what was counted."""
        earlier = self._counts()
        self._take(dataset, options)
        self._earlier = earlier

    def _take(self, dataset: Dataset, options: dict[str, Any]) -> None:
        self._core = _made(dataset, options)
        self.dataset, self._options = dataset, options
        self._twin: Loader | None = None
        self._warn()
        outputs = self._core.outputs()
        self._bfloat16 = tuple(name for name, dtype, *_ in outputs if dtype == "bfloat16")
        self._converted = tuple(name for name, dtype, *_ in outputs if dtype in ("bfloat16", "str", "bytes"))

    @property
    def _spec(self) -> dict[str, Any]:
        """The options, with the rank that this process has now."""
        self._follow_rank()
        return self._options

    @property
    def _native(self) -> _fastshard.Loader:
        """The native loader, with the rank that this process has now."""
        self._follow_rank()
        return self._core

    def _follow_rank(self) -> None:
        """Looks up the rank again unless it was given, since the process group may be younger than the loader.

        A rank that was found once stays where there is none to be found, as in worker processes.
        """
        if not self._finds_rank:
            return
        found = ranks.found()
        if found is not None and found != (self._options["rank"], self._options["world_size"]):
            self._restart(self.dataset, self._on_rank(*found))

    def _on_rank(self, rank: int, world_size: int) -> dict[str, Any]:
        options = self._options | {"rank": rank, "world_size": world_size}
        if options["buckets"] and options["buckets"]["unit"] == self.batch_size * self._options["world_size"]:
            options["buckets"] = options["buckets"] | {"unit": self.batch_size * world_size}
        return options

    def __len__(self) -> int:
        """Batches an epoch, on this rank."""
        return self._native.batches(0)

    def __iter__(self) -> Batches:
        return self.iterate()

    def __getitem__(self, index: Any) -> Any:
        raise TypeError(
            f"[{index!r}]: a Loader makes batches itself; iterate it, or give torch's DataLoader "
            "fastshard.torch.ShardDataset(loader) with batch_size=None. Samples are loader.dataset[index]"
        )

    def iterate(self, first: int = 0, step: int = 1, views: bool = True, epoch: int | None = None) -> Batches:
        """Batches ``first, first + step, ...`` of an epoch; made for adapters and for loading on several machines.

        Pass ``epoch`` when shares are read one after the other: the end of one moves the loader on to the next epoch.
        Without ``views`` every array is writable and shares no memory with the dataset or another batch.
        """
        check.integer("first", first)
        check.integer("step", step, 1)
        begin = self._next if epoch is None else _Begin(check.integer("epoch", epoch), 0)
        batches = self._iterate(first, step, views, begin, bits=False)
        if epoch is None and (first, step) == (0, 1):
            self._watch(batches._progress, batches)
        return batches

    def _iterate(self, first: int, step: int, views: bool, begin: _Begin, bits: bool) -> Batches:
        """With ``bits``, bfloat16 comes as the uint16 that it lies in, unless a Lambda is to see it."""
        names = self._bfloat16 if bits and not self._functions else ()
        for name in set(self._bfloat16).difference(names):
            arrays.bfloat16(f"field {name!r}")
        native = self._native.iterate(*begin, first, step, views and not self._functions)
        progress = _Progress(begin, self._options["world_size"])
        batches = Batches(self, native, progress, names)
        self._open.add(batches)
        if (first, step) == (0, 1):
            self._newest = progress
        return batches

    def _watch(self, progress: _Progress, batches: Batches) -> None:
        """Warns, once, where two passes were left half way and this one begins with their samples again."""
        before, watched = self._watched
        running = watched() if watched is not None else None
        left = before.batches and not before.told and (running is None or running._native is None)
        self._left = self._left + 1 if left and before.begin == progress.begin else 0
        self._watched = progress, weakref.ref(batches)
        if self._left < _LEFT or self._warned or not self._has_order():
            return
        self._warned = True
        warnings.warn(
            f"two passes over epoch {progress.begin.epoch} were left half way, and this one has the same batches in "
            "the same order: read passes to their end, or call set_epoch(epoch) before each",
            RuntimeWarning,
            stacklevel=4,
        )

    def _has_order(self) -> bool:
        """Whether each epoch has an order of its own."""
        return self._options["shuffle"] != "none" or self.dataset._native_weights() is not None

    @property
    def epoch(self) -> int:
        """The epoch of the next pass."""
        return self._next.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.set_epoch(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the passes that start from now on."""
        self._set_next(_Begin(check.integer("epoch", epoch), 0))

    def _set_next(self, begin: _Begin) -> None:
        """Sets where the next pass begins; the state says so until then."""
        self._next, self._newest = begin, _Progress(begin)
        self._left, self._watched = 0, (self._newest, None)

    def _finished(self, epoch: int) -> None:
        # Passes over the same epoch that run side by side move the loader on by one, not by one each.
        if self.epoch == epoch:
            self._set_next(_Begin(epoch + 1, 0))

    def _after(self, begin: _Begin, batches: int, world: int | None = None) -> _Begin:
        """Where the batches of a pass lead that began there, by default on as many ranks as there are now."""
        samples = begin.samples + batches * self.batch_size * (world or self._spec["world_size"])
        return _Begin(begin.epoch, min(samples, self._native.num_samples))

    def _ahead(self, begin: _Begin, batches: int) -> _Begin:
        """Where so many batches lead from there, over the ends of epochs."""
        rest = self._native.batches(begin.samples)
        if batches < rest:
            return self._after(begin, batches)
        epochs, batches = divmod(batches - rest, max(1, len(self)))
        return self._after(_Begin(begin.epoch + 1 + epochs, 0), batches)

    def state_dict(self) -> dict[str, Any]:
        """Where the newest pass stands, as plain values for JSON; the same on all ranks after as many batches.

        Counts the batches that were handed out; what was only prefetched comes again.
        """
        newest = self._newest
        newest.told = True
        return self._state_of(self._after(newest.begin, newest.batches, newest.world))

    def _state_of(self, begin: _Begin) -> dict[str, Any]:
        return {"version": _STATE, **begin._asdict(), **self._identity()}

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a state to mean the same samples."""
        shuffle = next(name for name, native in _SHUFFLES.items() if native == self._spec["shuffle"])
        identity = {"dataset": self.dataset.fingerprint, "shuffle": shuffle, "seed": self._spec["seed"]}
        buckets = self._spec["buckets"]
        return identity if buckets is None else {**identity, "buckets": buckets}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Lets passes go on where ``state`` was taken, until one reaches the end of that epoch.

        They have the same samples, bit for bit, in the same order.
        Threads, prefetch, ranks and batch size may be others (what is drawn for whole batches, as by ``MixUp``, follows
        the batches). Costs nothing, wherever it was. Raises ValueError if dataset, view, shuffle or seed are not those
        of the state.
        """
        self._set_next(self._read_state(state))

    def _read_state(self, state: Mapping[str, Any]) -> _Begin:
        if not hasattr(state, "get") or state.get("version") != _STATE:
            raise ValueError(f"state={state!r}: expected what state_dict() of this version gives")
        for name, own in self._identity().items():
            if state.get(name) != own:
                raise ValueError(f"state has {name}={state.get(name)!r}, expected {own!r}, this loader's")
        epoch = check.integer("epoch of state", state.get("epoch"))
        samples = check.integer("samples of state", state.get("samples"), 0, self._native.num_samples)
        # At the end of an epoch the next one begins; drop_last may leave too little for another batch.
        return _Begin(epoch, samples) if self._native.batches(samples) else _Begin(epoch + 1, 0)

    def for_rank(self, rank: int, world_size: int) -> Loader:
        """A loader like this one for one of several processes; see ``rank``."""
        return self._like(self._on_rank(*ranks.rank_and_world_size(rank, world_size)), finds_rank=False)

    def _like(self, spec: dict[str, Any], finds_rank: bool) -> Loader:
        return _rebuild(self.dataset, spec, self._next, self._functions, finds_rank)

    @property
    def batch_spec(self) -> dict[str, BatchField]:
        """Shape and dtype of every field of a batch, without loading one; what a ``Lambda`` changes is not in it."""
        share = -(-self._native.num_samples // self._spec["world_size"])
        partial = share % self.batch_size != 0 and not self._spec["drop_last"]
        size = None if partial or self.skips else self.batch_size
        first = {"samples": size, "elements": None, "bounds": None if size is None else size + 1}
        return {name: BatchField((first[rows], *shape), dtype) for name, dtype, rows, shape in self._native.outputs()}

    def stats(self) -> dict[str, float]:
        """What this loader did so far, in all passes, for logs.

        ``samples``, ``batches``, ``bytes`` (of batches), ``seconds`` (from the start of each pass to its last batch),
        ``samples_per_second``, ``stall_percent`` (of these seconds, those in which the consumer waited for a batch),
        ``first_batch_ms`` (of the newest pass), ``decode_seconds``, ``resample_seconds`` (with augmentation) and
        ``copy_seconds`` (the rest), each added up over threads, ``cache_hits`` and ``cache_misses`` (rows). Counting is
        always on. Worker processes of torch count for themselves.
        """
        counts = self._counts()
        hits, misses = self._native.cache_counts()
        seconds = counts["seconds"]
        waited, first = counts.pop("wait_seconds"), counts.pop("first_batch_seconds")
        return counts | {
            "samples_per_second": counts["samples"] / seconds if seconds else 0.0,
            "stall_percent": 100 * min(1.0, waited / seconds) if seconds else 0.0,
            "first_batch_ms": 1000 * first,
            "cache_hits": hits,
            "cache_misses": misses,
        }

    def _counts(self) -> dict[str, float]:
        """What ``stats`` is made of."""
        counts: dict[str, float] = json.loads(self._core.stats())
        if self._twin is not None:
            twin = json.loads(self._twin._core.stats())
            twin["batches"] = -(-twin["samples"] // self.batch_size)
            counts = {name: value + twin[name] for name, value in counts.items()}
        if self._earlier is None:
            return counts
        first = {"first_batch_seconds": counts["first_batch_seconds"] or self._earlier["first_batch_seconds"]}
        return {name: count + self._earlier[name] for name, count in counts.items()} | first

    def plan(self) -> str:
        """What is decoded, cached and computed each epoch, in words and numbers, for ``print``."""
        return describe(self)

    def warm(self, progress: bool | None = None) -> int:
        """Fills the cache with all rows of the dataset or view, ahead of training; how many rows are there then.

        Without it the first epoch does the same in passing. Images that cannot be decoded are left out. ``progress``
        shows a bar; by default if stderr is a terminal.
        """
        return warm(self, progress)

    def _plain_like(self, dataset: Dataset, spec: dict[str, Any]) -> Loader:
        """A loader of other rows or options, without functions."""
        return Loader._of(dataset, spec, ())

    def _warn(self) -> None:
        if self._options["cache"] is not None:
            for problem in self._core.take_cache_problems():
                warnings.warn(f"cache: {problem}", RuntimeWarning, stacklevel=4)

    @property
    def skips(self) -> bool:
        """Whether samples that cannot be decoded are left out (``on_error="skip"``)."""
        return bool(self._options["on_error"] == "skip")

    @property
    def skipped(self) -> list[str]:
        """What ``on_error="skip"`` left out so far: one message a sample, the first 1,000."""
        return self._native.skipped()

    @property
    def num_skipped(self) -> int:
        """How many samples ``on_error="skip"`` left out so far."""
        return self._native.num_skipped()

    def share_threads(self, processes: int) -> Loader:
        """A loader like this one with its share of the threads, for one of several processes on this machine."""
        check.integer("processes", processes, 1)
        threads = self._spec["num_threads"] or _fastshard.available_threads()
        share = self._spec | {"num_threads": max(1, threads // processes)}
        return self._like(share, self._finds_rank)

    def _with_batches_of(self, size: int) -> Loader:
        """A loader of the same samples in larger batches, the last of them smaller; ``stats`` counts its work, too."""
        if self._twin is None or self._twin.batch_size != size:
            spec = self._spec | {"batch_size": size, "drop_last": False}
            self._twin = _rebuild(self.dataset, spec, self._next, self._functions, finds_rank=False)
        return self._twin

    def close(self) -> None:
        """Closes the passes that are still open. The loader stays usable."""
        for batches in list(self._open):
            batches.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.dataset, self._spec, self._next, self._functions, self._finds_rank)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._spec.items() if "transforms" not in name)
        return f"<fastshard.Loader {self.dataset._opened.name!r}, {len(self):,} batches, {options}>"


class NoBatchError(ValueError):
    """``drop_last`` leaves nothing."""


def _made(dataset: Dataset, options: dict[str, Any]) -> _fastshard.Loader:
    core = _fastshard.Loader(
        dataset._opened.native, dataset._native_rows(), dataset._native_weights(), json.dumps(options)
    )
    if options["drop_last"] and not core.batches(0):
        size, world = options["batch_size"], options["world_size"]
        step = f"batch_size={size:,}" + ("" if world == 1 else f" on {world} ranks needs {size * world:,}")
        raise NoBatchError(
            f"drop_last=True leaves no batch of {core.num_samples:,} samples, since {step}; "
            "expected more samples, a smaller batch_size, or drop_last=False"
        )
    return core


def _rebuild(
    dataset: Dataset, spec: dict[str, Any], begin: _Begin, functions: tuple[Lambda, ...], finds_rank: bool
) -> Loader:
    loader = Loader._of(dataset, spec, functions, finds_rank)
    loader._set_next(begin)
    return loader


def _field_names(dataset: Dataset, fields: Iterable[str] | None) -> list[str]:
    known = [field.name for field in dataset.fields]
    if fields is None:
        return known
    if isinstance(fields, str):
        raise TypeError(f"fields={fields!r}: expected a list of names")
    names = [check.one_of("fields", name, known) for name in fields]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"fields={names!r}: expected at least one name, each once")
    return names


def _transforms(dataset: Dataset, transforms: TransformsOption) -> dict[str, Any]:
    if not isinstance(transforms, Mapping):
        raise TypeError(f"transforms={transforms!r}: expected a dict such as {{'image': [Resize(256)]}}")
    images = [field.name for field in dataset.fields if field.is_image]
    specs: dict[str, Any] = {}
    standardized, lists, audio = {}, {}, {}
    for name, steps in transforms.items():
        only = steps[0] if isinstance(steps, (list, tuple)) and len(steps) == 1 else steps
        if isinstance(only, Standardize):
            standardized[name] = only._spec(dataset, dataset.field(name).name)
            continue
        if name in dataset._opened.fields and are_masks(steps):
            lists[name] = mask_spec(dataset.field(name), steps)
            continue
        if name in dataset._opened.fields and dataset.field(name).is_list:
            lists[name] = list_spec(dataset.field(name), steps)
            continue
        if name in dataset._opened.fields and dataset.field(name).type == "audio":
            audio[name] = audio_spec(dataset.field(name), steps)
            continue
        if name not in images:
            listed = ", ".join(images) or "none"
            raise ValueError(f"transforms for {name!r}: expected an image field, {dataset._opened.name} has {listed}")
        specs[name] = [step._spec() for step in transform_list(f"transforms[{name!r}]", cast("Any", steps))]
    return {
        "transforms": specs,
        "standardize": standardized,
        "lists": along_specs(dataset, lists),
        "audio": audio,
    }
