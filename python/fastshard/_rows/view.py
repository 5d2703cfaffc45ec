"""Views: rows of an opened folder in some order, with weights or without. Nothing is copied; the data stays mapped."""

from __future__ import annotations

import functools
import hashlib
import operator
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastshard._base.escape import printable

from .opened import Field, Opened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from typing_extensions import Self

    Rows = range | NDArray[np.int64]

__all__ = ["Problem", "View"]


class Problem(NamedTuple):
    """What ``Dataset.verify`` found: the shard's file, the row of the dataset if it is one, and what is wrong."""

    shard: str
    row: int | None
    error: str

    def __str__(self) -> str:
        place = self.shard if self.row is None else f"{self.shard}, row {self.row}"
        return printable(f"{place}: {self.error}")


class View:
    """What ``Dataset`` is made of: the rows that it has, and how they are indexed and read one by one.

    All rooms below the public face take a ``View``, and give back one of the same class.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._opened = Opened.folder(os.fspath(path))
        self._rows: Rows = range(self._opened.native.num_rows)
        self._weights: NDArray[np.float64] | None = None
        self._num_samples: int | None = None

    @classmethod
    def _of(
        cls,
        opened: Opened,
        rows: Rows | None = None,
        weights: NDArray[np.float64] | None = None,
        num_samples: int | None = None,
    ) -> Self:
        """Rows of what is open already, by default all."""
        view = object.__new__(cls)
        view._opened, view._weights, view._num_samples = opened, weights, num_samples
        view._rows = range(opened.native.num_rows) if rows is None else rows
        return view

    @property
    def path(self) -> Path:
        """The folder of the dataset. ValueError if it is several, concatenated: see ``paths``."""
        self._opened.need_files("path")
        if len(self.paths) > 1:
            raise ValueError(f"path of {self._opened.name}: several folders; use paths")
        return self.paths[0]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The folders that the rows lie in: one, or those that were concatenated."""
        return tuple(Path(path) for path in self._opened.paths)

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest of the whole dataset: fields, shards, fingerprint and where the data came from."""
        return self._opened.manifest

    @property
    def statistics(self) -> dict[str, Any]:
        """What packing found out about float fields: ``mean``, ``std``, ``min``, ``max`` of each element over all rows.

        Of fused columns also their names (``columns``) and the texts behind the numbers (``categories``).
        """
        return dict(self.manifest.get("statistics") or {})

    @property
    def num_samples(self) -> int:
        """Samples an epoch: the rows, unless ``weighted``, ``balanced`` or ``mix`` set another number."""
        return len(self) if self._num_samples is None else self._num_samples

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash that changes when any sample, the schema, or the rows of the view and their weights change."""
        if self._is_plain():
            return str(self.manifest["fingerprint"])
        digest = hashlib.blake2b(digest_size=16)
        for _, part in self._opened.sources:
            digest.update(part.encode())
        digest.update(self._row_numbers().astype("<i8").tobytes())
        weights = self._native_weights()
        if weights is not None:
            digest.update(b"weights")
            digest.update(weights[0])
            digest.update(str(weights[1]).encode())
        return digest.hexdigest()

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields in the order of the columns."""
        return tuple(self._opened.fields.values())

    def field(self, name: str) -> Field:
        """The field called ``name``; KeyError if there is none."""
        if name not in self._opened.fields:
            raise KeyError(f"field {name!r}: {self._opened.name} has {', '.join(self._opened.fields)}")
        return self._opened.fields[name]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the one field that has them.

        Raises ValueError if none or several do; then use ``field(name).class_names``.
        """
        named = [field for field in self.fields if field.class_names is not None]
        if len(named) != 1:
            listed = ", ".join(field.name for field in named) or "none"
            raise ValueError(
                f"class_names needs one field with classes, {self._opened.name} has {listed}; use field(name)"
            )
        return named[0].class_names or ()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> Any:
        """One sample as a dict for an integer; a view for a slice, a list of integers or a mask.

        Images are uint8 ``[height, width, channels]``, tensors arrays of their dtype and shape, numbers NumPy scalars.
        Audio is float32 ``[channels, frames]``, from -1 to 1 unless a file of floats holds more, with its frames a
        second beside it as ``<field>_sample_rate``, an int.
        """
        if isinstance(key, slice):
            weights = None if self._weights is None else self._weights[key]
            return self._view(self._rows[key], weights)
        if isinstance(key, Sequence) or getattr(key, "ndim", 0) == 1:
            return self._take(self._picks(key))
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

    def _picks(self, key: ArrayLike) -> NDArray[np.int64]:
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
        return np.where(picks < 0, picks + len(self), picks)

    def _take(self, picks: NDArray[np.int64]) -> Self:
        rows = self._rows
        taken = rows.start + rows.step * picks if isinstance(rows, range) else rows[picks]
        return self._view(taken, None if self._weights is None else self._weights[picks])

    def _row_numbers(self) -> NDArray[np.int64]:
        import numpy as np

        rows = self._rows
        if isinstance(rows, range):
            return np.arange(rows.start, rows.stop, rows.step, dtype=np.int64)
        return rows

    def _view(self, rows: Rows, weights: NDArray[np.float64] | None = None, num_samples: int | None = None) -> Self:
        return self._of(self._opened, rows, weights, num_samples)

    def _copied_on_write(self) -> Self:
        return self._of(self._opened.copied_on_write(), self._rows, self._weights, self._num_samples)

    def _whole(self) -> Self:
        return self._view(range(self._opened.native.num_rows))

    def _is_whole(self) -> bool:
        return isinstance(self._rows, range) and self._rows == range(self._opened.native.num_rows)

    def _is_plain(self) -> bool:
        return self._is_whole() and self._weights is None

    def _native_rows(self) -> tuple[int, int, int] | bytes | None:
        """The rows of this view in the form that the native loader takes."""
        if self._is_whole():
            return None
        if isinstance(self._rows, range) and self._rows.step > 0:
            return self._rows.start, self._rows.step, len(self._rows)
        return self._row_numbers().astype("<i8").tobytes()

    def _native_weights(self) -> tuple[bytes, int] | None:
        return None if self._weights is None else (self._weights.astype("<f8").tobytes(), self.num_samples)

    def _sample(self, row: int) -> dict[str, Any]:
        import numpy as np

        values = self._opened.native.row(row, list(self._opened.fields), {})
        sample: dict[str, Any] = {}
        for name, value in values.items():
            field = self._opened.fields.get(name)
            if field is None or isinstance(value, (str, bytes)):
                sample[name] = value
            elif field.type in ("class", "scalar"):
                sample[name] = np.dtype(field.dtype).type(value)
            else:
                sample[name] = np.asarray(value)
        return sample

    def encoded(self, index: int, field: str = "image") -> tuple[bytes, str]:
        """The stored bytes of an image or audio of one sample, as a file would hold them, and the path it came from."""
        if self.field(field).type not in ("image", "audio"):
            raise ValueError(f"field={field!r}: expected images or audio, this one is {self.field(field).type}")
        return self._opened.native.encoded(self._row(index), field)

    def select(self, indices: ArrayLike) -> Self:
        """The rows at these indices, in this order, as often as they are named; the same as ``ds[indices]``."""
        return self._take(self._picks(indices))
