"""Pictures of PIL's as encoded images: the file they come from where nobody touched them yet, or else a PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from fastshard import _fastshard
from fastshard._fastshard import SourceError

from .base import Encoded

__all__ = ["encoded_picture", "png"]

# What PNG stores without loss.
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B")


def encoded_picture(picture: Any, where: str) -> Encoded:
    """An image of PIL's: its own file, byte for byte, as long as its pixels haven't been loaded, or PNG."""
    original = _file_of(picture)
    path = getattr(picture, "filename", "")
    name = Path(path).name if isinstance(path, str) else ""
    return Encoded(name, png(picture, where) if original is None else original)


def png(picture: Any, where: str) -> bytes:
    """An image of PIL's as PNG, without loss. Raises SourceError for modes that PNG doesn't have."""
    if picture.mode not in _MODES:
        raise SourceError(f"{where}: an image of mode {picture.mode}; expected one of {', '.join(_MODES)}: convert it")
    file = io.BytesIO()
    # Filters and zlib at their fastest: these are pixels on their way, and fastshard can encode them anew.
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _file_of(picture: Any) -> bytes | None:
    """The bytes of a file that was opened and not yet read: what was loaded may have been changed since."""
    file = getattr(picture, "fp", None)
    pixels = [vars(picture).get(name) for name in ("im", "_im")]
    if file is None or getattr(file, "closed", True) or any(one is not None for one in pixels) or picture.tell():
        return None
    try:
        at = file.tell()
        file.seek(0)
        data = bytes(file.read())
        file.seek(at)
    except (OSError, ValueError):
        return None
    return data if _fastshard.image_format(data[:64]) is not None else None
