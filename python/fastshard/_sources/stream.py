"""Files that are read from front to back: as they lie, or decompressed on the way; never whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fastshard._fastshard import SourceError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FileInput", "Input", "StreamInput", "check_inflated", "is_compressed", "open_input"]

_WINDOW = 4096
_AHEAD = 16 << 20
_PIECE = 4 << 20
# One item may decompress to 256 MiB, or to two hundred times the size of the compressed data that holds it. Deflate
# reaches 1,032 on zeros, and zstd far more.
_MAX_INFLATED = 256 << 20
_MAX_RATIO = 200
_CODECS = {b"\x1f\x8b": "gzip", b"(\xb5": "zstd", b"BZ": "bz2"}


class Input(Protocol):
    """Bytes from front to back. ``places``: whether they lie in the file as they are, so that others can read them."""

    path: str
    position: int
    places: bool

    def take(self, size: int) -> bytes:
        """The next bytes, fewer at the end."""

    def skip(self, size: int) -> int:
        """Passes over bytes and says how many there were."""

    def close(self) -> None:
        """Closes the file."""


def check_inflated(place: str, size: int, compressed: int) -> None:
    """Refuses an item of ``size`` bytes in ``compressed`` ones that only exists to fill memory."""
    if size > max(_MAX_INFLATED, _MAX_RATIO * compressed):
        raise SourceError(
            f"{place}: an item of {size:,} bytes in {compressed:,} compressed bytes; expected at most {_MAX_RATIO} "
            "times as many. If you trust the file, decompress it first"
        )


def is_compressed(path: str) -> bool:
    """Whether a file begins as gzip, zstd and bzip2 data do."""
    return _codec(path) is not None


def _codec(path: str) -> str | None:
    with Path(path).open("rb") as file:
        return _CODECS.get(file.read(2))


def open_input(path: str) -> Input:
    """A file, or what it holds if it is compressed with gzip, zstd or bzip2."""
    codec = _codec(path)
    return FileInput(path) if codec is None else StreamInput(path, codec)


class FileInput:
    """A file as it is. Small reads come from a window of a page; the kernel is told what comes next."""

    places = True

    def __init__(self, path: str) -> None:
        self.path = path
        self.position = 0
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._file).st_size
        self._window, self._start, self._asked = b"", 0, 0

    def take(self, size: int) -> bytes:
        """The next bytes, fewer at the end."""
        at = self.position - self._start
        if not 0 <= at <= len(self._window) - size:
            if self.position >= self._asked:
                self._announce()
            if size > _WINDOW:
                data = self._read(self.position, size)
                self.position += len(data)
                return data
            self._window, self._start, at = self._read(self.position, _WINDOW), self.position, 0
        data = self._window[at : at + size]
        self.position += len(data)
        return data

    def peek(self, size: int) -> bytes:
        """The next bytes, fewer at the end, which stay the next ones."""
        start = self.position
        data = self.take(size)
        self.position = start
        return data

    def skip(self, size: int) -> int:
        """Passes over bytes and says how many there were."""
        passed = max(0, min(size, self.size - self.position))
        self.position += passed
        return passed

    def close(self) -> None:
        """Closes the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read(self, start: int, size: int) -> bytes:
        # No more than there is, whatever a header says.
        size = min(size, max(0, self.size - start))
        data = os.pread(self._file, size, start)
        while len(data) < size:
            more = os.pread(self._file, size - len(data), start + len(data))
            if not more:
                break
            data += more
        return data

    def _announce(self) -> None:
        self._asked = self.position + _AHEAD
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file, self.position, 2 * _AHEAD, os.POSIX_FADV_WILLNEED)


class StreamInput:
    """What a compressed file holds. Raises SourceError where it is damaged."""

    places = False

    def __init__(self, path: str, codec: str) -> None:
        import pyarrow as pa

        self.path = path
        self.position = 0
        self._codec = codec
        self._compressed = Path(path).stat().st_size
        self._errors = (OSError, pa.ArrowException)
        self._stream: pa.CompressedInputStream = pa.CompressedInputStream(pa.OSFile(path), codec)

    def take(self, size: int) -> bytes:
        """The next bytes, fewer at the end."""
        pieces, left = [], size
        while left > 0:
            piece = self._read(min(left, _PIECE))
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
            if size - left > _MAX_INFLATED:
                check_inflated(f"{self.path}: at byte {self.position:,} of what it holds", size, self._compressed)
        self.position += size - left
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def skip(self, size: int) -> int:
        """Passes over bytes and says how many there were."""
        left = size
        while left > 0:
            piece = self._read(min(left, _PIECE))
            if not piece:
                break
            left -= len(piece)
        self.position += size - left
        return size - left

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()

    def _read(self, size: int) -> bytes:
        try:
            return bytes(self._stream.read(size))
        except self._errors as error:
            place = f"{self.path}: at byte {self.position:,} of what it holds"
            raise SourceError(f"{place}: damaged or truncated {self._codec} data: {error}") from None
