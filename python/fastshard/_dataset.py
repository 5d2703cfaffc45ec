"""Opened datasets: the whole folder, or a view on some of its rows, which shares the mapping and costs nothing."""

from __future__ import annotations

import functools
import json
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _check, _fastshard
from ._progress import progress_bar

if TYPE_CHECKING:
    import datasets
    import numpy as np
    import pyarrow as pa
    from numpy.typing import ArrayLike, NDArray

    Rows = range | NDArray[np.int64]

__all__ = ["Dataset", "Field", "Problem", "open"]


@dataclass(frozen=True)
class Field:
    """One named, typed column of a dataset.

    ``type`` is image, class, tensor, scalar, text or bytes; ``dtype`` a NumPy name, or ``"str"`` and ``"bytes"``;
    ``shape`` that of one sample, None where it differs between samples; ``class_names`` in the order of their numbers.
    """

    name: str
    type: str
    dtype: str
    shape: tuple[int, ...] | None
    class_names: tuple[str, ...] | None = None

    @classmethod
    def _from_manifest(cls, entry: Mapping[str, Any]) -> Field:
        kind = entry["type"]
        dtype = {"image": "uint8", "class": "int64", "text": "str", "bytes": "bytes"}.get(kind) or entry["dtype"]
        shape = None if kind == "image" else tuple(entry.get("shape") or ())
        names = entry.get("class_names")
        return cls(entry["name"], kind, dtype, shape, None if names is None else tuple(names))

    @property
    def is_image(self) -> bool:
        """Whether transforms apply: encoded images, and raw ones, which are tensors ``[height, width, 1 or 3]``."""
        raw = self.type == "tensor" and self.dtype in ("uint8", "uint16") and self.class_names is None
        return self.type == "image" or (
            raw and self.shape is not None and len(self.shape) == 3 and self.shape[2] in (1, 3)
        )

    def __str__(self) -> str:
        shape = "" if not self.shape else str(list(self.shape))
        classes = "" if self.class_names is None else f" ({len(self.class_names):,} classes)"
        return f"{self.name}: {self.type}{shape} {self.dtype}{classes}"


class Problem(NamedTuple):
    """What ``Dataset.verify`` found: the shard file, the row of the dataset if it is one, and what is wrong."""

    shard: str
    row: int | None
    error: str

    def __str__(self) -> str:
        place = self.shard if self.row is None else f"{self.shard}, row {self.row}"
        return f"{place}: {self.error}"


class _Opened:
    """What a dataset and all its views share."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self.native = _fastshard.Dataset(path)

    @functools.cached_property
    def manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads(self.native.manifest())
        return manifest

    @functools.cached_property
    def fields(self) -> dict[str, Field]:
        return {entry["name"]: Field._from_manifest(entry) for entry in self.manifest["fields"]}


class Dataset:
    """A packed dataset, memory-mapped; made by ``fastshard.open``.

    ``ds[i]`` is one sample, ``ds[a:b]`` and ``ds[[1, 5, 7]]`` are views on the same data, without copies.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._opened = _Opened(os.fspath(path))
        self._rows: Rows = range(self._opened.native.num_rows)

    @property
    def path(self) -> Path:
        """The folder of the dataset."""
        return Path(self._opened.path)

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest: fields, shards, fingerprint and where the data came from."""
        return self._opened.manifest

    @property
    def fingerprint(self) -> str:
        """A hash that changes when any sample or the schema changes."""
        return str(self.manifest["fingerprint"])

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields in the order of the columns."""
        return tuple(self._opened.fields.values())

    def field(self, name: str) -> Field:
        """The field called ``name``; KeyError if there is none."""
        if name not in self._opened.fields:
            raise KeyError(f"field {name!r}: {self.path} has {', '.join(self._opened.fields)}")
        return self._opened.fields[name]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the one field that has them.

        Raises ValueError if none or several do; then use ``field(name).class_names``.
        """
        named = [field for field in self.fields if field.class_names is not None]
        if len(named) != 1:
            listed = ", ".join(field.name for field in named) or "none"
            raise ValueError(f"class_names needs one field with classes, {self.path} has {listed}; use field(name)")
        return named[0].class_names or ()

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the shards, fastshard's own columns (with a leading underscore) included."""
        from . import _arrow

        return _arrow.read_schema(self)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> Any:
        """One sample as a dict for an integer; a view for a slice, a list of integers or a mask.

        Images are uint8 ``[height, width, channels]``, tensors arrays of their dtype and shape, numbers NumPy scalars.
        """
        if isinstance(key, slice):
            return self._view(self._rows[key])
        if isinstance(key, Sequence) or getattr(key, "ndim", 0) == 1:
            return self._view(self._select(key))
        return self._sample(self._row(key))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def _row(self, index: Any) -> int:
        try:
            position = operator.index(index)
        except TypeError:
            raise TypeError(f"index {index!r}: expected an integer, a slice or a list of integers") from None
        if not -len(self) <= position < len(self):
            raise IndexError(f"index {position}: the dataset has {len(self)} rows")
        return int(self._rows[position])

    def _select(self, key: ArrayLike) -> NDArray[np.int64]:
        import numpy as np

        picks = np.asarray(key)
        if picks.dtype == np.bool_ and picks.shape == (len(self),):
            picks = np.flatnonzero(picks)
        if picks.size == 0:
            picks = picks.astype(np.int64)
        if picks.ndim != 1 or picks.dtype.kind not in "iu":
            raise TypeError(f"index of shape {picks.shape} and type {picks.dtype}: expected integers or a mask")
        outside = (picks < -len(self)) | (picks >= len(self))
        if outside.any():
            raise IndexError(f"index {picks[outside][0]}: the dataset has {len(self)} rows")
        picks = picks.astype(np.int64)
        return self._row_numbers()[np.where(picks < 0, picks + len(self), picks)]

    def _row_numbers(self) -> NDArray[np.int64]:
        import numpy as np

        rows = self._rows
        if isinstance(rows, range):
            return np.arange(rows.start, rows.stop, rows.step, dtype=np.int64)
        return rows

    def _view(self, rows: Rows) -> Dataset:
        view: Dataset = object.__new__(Dataset)
        view._opened, view._rows = self._opened, rows
        return view

    def _is_whole(self) -> bool:
        return isinstance(self._rows, range) and self._rows == range(self._opened.native.num_rows)

    def _native_rows(self) -> tuple[int, int, int] | bytes | None:
        """The rows of this view in the form that the native loader takes."""
        if self._is_whole():
            return None
        if isinstance(self._rows, range) and self._rows.step > 0:
            return self._rows.start, self._rows.step, len(self._rows)
        return self._row_numbers().astype("<i8").tobytes()

    def _sample(self, row: int) -> dict[str, Any]:
        import numpy as np

        values = self._opened.native.row(row, list(self._opened.fields), {})
        sample: dict[str, Any] = {}
        for name, value in values.items():
            field = self._opened.fields[name]
            if isinstance(value, (str, bytes)):
                sample[name] = value
            elif field.type in ("class", "scalar"):
                sample[name] = np.dtype(field.dtype).type(value)
            else:
                sample[name] = np.asarray(value)
        return sample

    def encoded(self, index: int, field: str = "image") -> tuple[bytes, str]:
        """The stored bytes of an image of one sample, as a file would hold them, and the path it came from."""
        if self.field(field).type != "image":
            raise ValueError(f"field={field!r}: expected an image field, this one is {self.field(field).type}")
        return self._opened.native.encoded(self._row(index), field)

    def column(self, name: str) -> NDArray[Any]:
        """All values of a column that holds no images, as an array of shape ``[rows, ...]``: to count classes, say."""
        from . import _arrow

        return _arrow.read_column(self, name)

    def to_arrow(self) -> pa.Table:
        """A table over the memory-mapped shards. Nothing is copied for whole datasets and plain slices."""
        from . import _arrow

        return _arrow.read_table(self)

    def to_hf(self) -> datasets.Dataset:
        """A ``datasets.Dataset`` over the same memory.

        Images become Image, classes ClassLabel, tensors List or ArrayND. Leaves out fastshard's own columns.
        Needs the package ``datasets``.
        """
        from . import _hf

        return _hf.to_hf(self)

    def verify(self, num_threads: int | None = None, progress: bool | None = None) -> list[Problem]:
        """Reads every byte of every shard and compares it with its checksums; an empty list means that all is well.

        Checks the whole dataset, also when called on a view. ``progress`` shows a bar; by default if stderr is a
        terminal.
        """
        threads = 0 if num_threads is None else _check.integer("num_threads", num_threads, 1)
        job = _fastshard.VerifyJob(self._opened.native, threads)
        try:
            with progress_bar("verifying", progress, in_bytes=True) as update:
                while not job.wait(0.05):
                    update(*job.progress())
                update(*job.progress())
        except BaseException:
            job.cancel()
            raise
        return [Problem(*problem) for problem in job.problems()]

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._opened.path, self.fingerprint, None if self._is_whole() else self._rows)

    def __repr__(self) -> str:
        fields = "".join(f"\n  {field}" for field in self.fields)
        whole = "" if self._is_whole() else f" of {self._opened.native.num_rows:,}"
        return f"<fastshard.Dataset {str(self.path)!r}, {len(self):,}{whole} rows{fields}>"


def _reopen(path: str, fingerprint: str, rows: Rows | None) -> Dataset:
    dataset = Dataset(path)
    if dataset.fingerprint != fingerprint:
        message = f"{path}: changed since it was opened: fingerprint {dataset.fingerprint}, expected {fingerprint}"
        raise _fastshard.FormatError(message)
    return dataset if rows is None else dataset._view(rows)


def open(path: str | os.PathLike[str]) -> Dataset:
    """Opens a packed dataset in milliseconds, whatever its size.

    Raises FileNotFoundError if there is none, FormatError if the folder is something else or was written by a newer
    version, and CorruptionError if a shard is missing or has another size than its manifest says.
    """
    return Dataset(path)
