"""Arrays in memory as a dataset, so that whatever loads packed data loads them, too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastshard import _fastshard

from .opened import Opened

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import ArrayLike, NDArray

__all__ = ["open_arrays"]

_DTYPES = ("bool", *(f"{sign}int{bits}" for sign in ("u", "") for bits in (8, 16, 32, 64)))
_STORABLE = (*_DTYPES, "float16", "float32", "float64")


class InMemory(Opened):
    """What the views of arrays in memory share."""

    def __init__(self, arrays: dict[str, NDArray[Any]]) -> None:
        fields = [_field(name, array) for name, array in arrays.items()]
        rows = len(next(iter(arrays.values())))
        super().__init__(_fastshard.Dataset.in_memory(json.dumps(fields), rows, list(arrays.values())), ())
        self._arrays = arrays

    @property
    def sources(self) -> list[tuple[str, str]]:
        """The types and shapes, which is all that is known of arrays without reading them."""
        return [(self.name, self.manifest["fingerprint"])]

    @property
    def key(self) -> tuple[str, str]:
        """These arrays and no others."""
        return self.name, str(id(self))

    @property
    def name(self) -> str:
        return "(arrays in memory)"

    def tables(self, columns: Sequence[str] | None = None, rows: range | None = None) -> Iterator[pa.Table]:
        """The arrays as one table, not copied."""
        import pyarrow as pa

        picked = self._arrays if columns is None else columns
        table = pa.table({name: _arrow_array(self._arrays[name]) for name in picked})
        yield table if rows is None else table.slice(rows.start, len(rows))

    def schema(self) -> pa.Schema:
        """The columns of the table."""
        return next(self.tables()).schema

    def copied_on_write(self) -> Opened:
        """These arrays are this process's own."""
        return self

    def need_files(self, what: str) -> None:
        raise ValueError(f"{what}: the dataset is arrays in memory; fastshard.pack them first")


def open_arrays(arrays: Mapping[str, ArrayLike]) -> Opened:
    """See ``fastshard.from_arrays``."""
    if not len(arrays):
        raise ValueError("arrays={}: expected at least one array by name")
    taken = {name: _array(name, values) for name, values in arrays.items()}
    lengths = {name: len(array) for name, array in taken.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name}: {length:,}" for name, length in lengths.items())
        raise ValueError(f"arrays of different lengths ({listed}): expected a row for each sample in all of them")
    return InMemory(taken)


def _array(name: str, values: ArrayLike) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim == 0:
        raise ValueError(f"array {name!r}: a single value, expected a row for each sample")
    if array.dtype.name not in _STORABLE:
        raise ValueError(f"array {name!r} is {array.dtype}, expected one of {', '.join(_STORABLE)}")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def _field(name: str, array: NDArray[Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"name": name, "dtype": array.dtype.name}
    if array.ndim == 1:
        return described | {"type": "scalar"}
    return described | {"type": "tensor", "shape": array.shape[1:]}


def _arrow_array(array: NDArray[Any]) -> pa.Array:
    import pyarrow as pa

    values = pa.array(array.reshape(-1))
    return values if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(values, int(np.prod(array.shape[1:])))
