"""Arrow arrays of plain values. ``pyarrow.array`` imports pandas where it is installed, which takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["blobs", "numbers", "texts"]

_MAX_BYTES = 2**31 - 1  # of an array with 32-bit offsets


def numbers(values: NDArray[Any]) -> pa.Array:
    """One-dimensional numbers, without a copy where they lie in one piece."""
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def texts(values: Sequence[str]) -> pa.Array:
    """Strings; raises UnicodeEncodeError for one that isn't Unicode."""
    return _array([value.encode() for value in values], pa.string())


def blobs(values: Sequence[bytes]) -> pa.Array:
    """Bytes."""
    return _array(values, pa.binary())


def _array(values: Sequence[bytes], kind: pa.DataType) -> pa.Array:
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(value) for value in values], out=offsets[1:])
    if offsets[-1] > _MAX_BYTES:
        return pa.array(values, kind)
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(kind, len(values), buffers)
