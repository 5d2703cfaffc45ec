"""Pixels as PNG files: 8 and 16 bits, in gray and in colour, which Pillow doesn't write in 16."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["png"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPES = {1: 0, 3: 2}
_UP = 2


def png(pixels: NDArray[Any], level: int = 6) -> bytes:
    """A PNG file of ``uint8`` or ``uint16`` pixels ``[height, width, 1 or 3]``, without loss."""
    height, width, channels = pixels.shape
    size = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, _COLOR_TYPES[channels], 0, 0, 0)
    parts = [_chunk(b"IHDR", size), _chunk(b"IDAT", zlib.compress(_filtered(pixels), level)), _chunk(b"IEND", b"")]
    return _SIGNATURE + b"".join(parts)


def _filtered(pixels: NDArray[Any]) -> bytes:
    """Each row as what it differs by from the one above it, behind the number of that filter."""
    rows = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(">")).view(np.uint8).reshape(len(pixels), -1)
    filtered = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return filtered.tobytes()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
