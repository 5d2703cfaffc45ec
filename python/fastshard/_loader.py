"""Loaders: which samples in which order, what is done to them, and how they become batches. The work is native."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _arrays, _check, _fastshard
from ._batch_transforms import BatchTransform, Lambda, batch_transform_lists
from ._dataset import Dataset
from ._transforms import Transform, transform_list

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["BatchField", "Batches", "Loader"]

TransformsOption = Mapping[str, Transform | Iterable[Transform]]
BatchTransformsOption = BatchTransform | Lambda | Iterable[BatchTransform | Lambda]


@dataclass(frozen=True)
class BatchField:
    """A field of a batch: ``shape``, the batch first (None if it varies); NumPy ``dtype``, ``"str"`` or ``"bytes"``."""

    shape: tuple[int | None, ...]
    dtype: str


class Batches(Iterator[dict[str, Any]]):
    """One pass over a loader. Threads fill batches ahead; ``close()``, or dropping it, stops and joins them."""

    def __init__(self, loader: Loader, native: _fastshard.BatchIterator, epoch: int, bits: Collection[str]) -> None:
        self._native: _fastshard.BatchIterator | None = native
        self._loader = loader
        self._epoch = epoch
        self._bits = bits  # names of fields

    def __next__(self) -> dict[str, NDArray[Any]]:
        if self._native is None:
            raise StopIteration
        try:
            batch = self._native.next()
        except BaseException:
            self.close()
            raise
        if batch is None:
            self.close()
            self._loader._finished(self._epoch)
            raise StopIteration
        arrays = {name: _arrays.to_numpy(values, name in self._bits) for name, values in batch.items()}
        try:
            for function in self._loader._functions:
                arrays = function(arrays)
        except BaseException:
            self.close()
            raise
        return arrays

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
    - ``shuffle``, ``seed``: a different order every epoch, the same for the same seed, whatever the
      threads or the machine.
    - ``transforms``: per image field one transform or a list; random ones depend on (seed, epoch, sample) alone.
    - ``batch_transforms``: for whole batches: ``MixUp`` and ``CutMix``, and after them Python functions wrapped in
      ``Lambda``. Random ones depend on (seed, epoch, place of the batch), and so on the batch size.
    - ``layout``: ``"NHWC"`` or ``"NCHW"`` for images.
    - ``num_threads``: by default the cores that this process may use. ``prefetch``: batches filled ahead.
    - ``fields``: names of the fields to load; all by default.
    - ``on_error``: ``"raise"`` a DecodeError that names the sample, or ``"skip"`` it (see ``skipped``); its batch is
      smaller then.
    - ``verify``: compares each sample with its checksum before it is decoded.

    Each ``iter()`` is an independent pass over epoch ``loader.epoch``, which goes up by one when a pass reaches its
    end; a pass left half way is repeated. ``set_epoch`` sets it. Arrays of contiguous raw tensors are read-only views
    of the dataset. Image fields are ``[batch, height, width, channels]`` (or channels first), so their transforms must
    end in one size. Raises TypeError and ValueError for impossible options, with the value received.
    """

    def __init__(
        self,
        dataset: Dataset | str | os.PathLike[str],
        batch_size: int,
        shuffle: bool = False,
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
    ) -> None:
        self.dataset = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
        self.batch_size = _check.integer("batch_size", batch_size, 1)
        self.epoch = 0
        names = _field_names(self.dataset, fields)
        loaded = [self.dataset.field(name) for name in names]
        native, self._functions = batch_transform_lists(batch_transforms, loaded)
        self._spec: dict[str, Any] = {
            "batch_size": self.batch_size,
            "shuffle": _check.boolean("shuffle", shuffle),
            "seed": _check.integer("seed", seed, 0, 2**64 - 1),
            "drop_last": _check.boolean("drop_last", drop_last),
            "fields": names,
            "transforms": _transforms(self.dataset, transforms or {}),
            "batch_transforms": native,
            "layout": _check.one_of("layout", layout, ("NHWC", "NCHW")),
            "num_threads": 0 if num_threads is None else _check.integer("num_threads", num_threads, 1),
            "prefetch": _check.integer("prefetch", prefetch, 1),
            "on_error": _check.one_of("on_error", on_error, ("raise", "skip")),
            "verify": _check.boolean("verify", verify),
        }
        self._start()

    def _start(self) -> None:
        self._native = _fastshard.Loader(
            self.dataset._opened.native, self.dataset._native_rows(), json.dumps(self._spec)
        )
        self._open: weakref.WeakSet[Batches] = weakref.WeakSet()
        self._bfloat16 = tuple(name for name, dtype, _ in self._native.outputs() if dtype == "bfloat16")

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self._native)

    def __iter__(self) -> Batches:
        return self.iterate()

    def iterate(self, first: int = 0, step: int = 1, views: bool = True, epoch: int | None = None) -> Batches:
        """Batches ``first, first + step, ...`` of an epoch; made for adapters and for loading on several machines.

        Pass ``epoch`` when shares are read one after the other: the end of one moves the loader on to the next epoch.
        Without ``views`` every array is writable and shares no memory with the dataset or another batch.
        """
        _check.integer("first", first)
        _check.integer("step", step, 1)
        epoch = self.epoch if epoch is None else _check.integer("epoch", epoch)
        return self._iterate(first, step, views, epoch, bits=False)

    def _iterate(self, first: int, step: int, views: bool, epoch: int, bits: bool) -> Batches:
        """With ``bits``, bfloat16 comes as the uint16 that it lies in, unless a Lambda is to see it."""
        names = self._bfloat16 if bits and not self._functions else ()
        for name in set(self._bfloat16).difference(names):
            _arrays.bfloat16(f"field {name!r}")
        native = self._native.iterate(epoch, first, step, views and not self._functions)
        batches = Batches(self, native, epoch, names)
        self._open.add(batches)
        return batches

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the passes that start from now on."""
        self.epoch = _check.integer("epoch", epoch)

    def _finished(self, epoch: int) -> None:
        # Passes over the same epoch that run side by side move the loader on by one, not by one each.
        if self.epoch == epoch:
            self.epoch += 1

    @property
    def batch_spec(self) -> dict[str, BatchField]:
        """Shape and dtype of every field of a batch, without loading one; what a ``Lambda`` changes is not in it."""
        partial = len(self.dataset) % self.batch_size != 0 and not self._spec["drop_last"]
        size = None if partial or self.skips else self.batch_size
        return {name: BatchField((size, *shape), dtype) for name, dtype, shape in self._native.outputs()}

    @property
    def skips(self) -> bool:
        """Whether samples that cannot be decoded are left out (``on_error="skip"``)."""
        return bool(self._spec["on_error"] == "skip")

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
        threads = self._spec["num_threads"] or _fastshard.available_threads()
        share = self._spec | {"num_threads": max(1, threads // processes)}
        return _rebuild(self.dataset, share, self.epoch, self._functions)

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
        return _rebuild, (self.dataset, self._spec, self.epoch, self._functions)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._spec.items() if "transforms" not in name)
        return f"<fastshard.Loader {str(self.dataset.path)!r}, {len(self):,} batches, {options}>"


def _rebuild(dataset: Dataset, spec: dict[str, Any], epoch: int, functions: tuple[Lambda, ...]) -> Loader:
    loader: Loader = object.__new__(Loader)
    loader.dataset, loader.batch_size, loader.epoch, loader._spec = dataset, spec["batch_size"], epoch, spec
    loader._functions = functions
    loader._start()
    return loader


def _field_names(dataset: Dataset, fields: Iterable[str] | None) -> list[str]:
    known = [field.name for field in dataset.fields]
    if fields is None:
        return known
    if isinstance(fields, str):
        raise TypeError(f"fields={fields!r}: expected a list of names")
    names = [_check.one_of("fields", name, known) for name in fields]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"fields={names!r}: expected at least one name, each once")
    return names


def _transforms(dataset: Dataset, transforms: TransformsOption) -> dict[str, Any]:
    if not isinstance(transforms, Mapping):
        raise TypeError(f"transforms={transforms!r}: expected a dict such as {{'image': [Resize(256)]}}")
    images = [field.name for field in dataset.fields if field.is_image]
    specs = {}
    for name, steps in transforms.items():
        if name not in images:
            listed = ", ".join(images) or "none"
            raise ValueError(f"transforms for {name!r}: expected an image field, {dataset.path} has {listed}")
        specs[name] = [step._spec() for step in transform_list(f"transforms[{name!r}]", steps)]
    return specs
