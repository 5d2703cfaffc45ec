"""A source at first sight: its paths, the names in a folder, the first bytes of a file. Nothing is read whole."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from fastshard._base.crc import masked_crc

from .table_names import table_kind

__all__ = ["MAX_INDEX", "Look", "file_kind", "is_tar_header"]

# Bytes of an index that lists the files of a folder.
MAX_INDEX = 256 << 20
_HEAD = 512
_MAX_PATHS = 100_000
_NAMES = {
    "webdataset": re.compile(r"\.(tar|tgz|tar\.(gz|zst|bz2))$", re.I),
    "tfrecord": re.compile(r"(\.tfrecords?(-\d+-of-\d+)?|-\d{5}-of-\d{5})(\.gz)?$", re.I),
    "arrays": re.compile(r"\.np[yz]$", re.I),
    "zip": re.compile(r"\.zip$", re.I),
}
_MAGIC = {b"PAR1": "table", b"ARROW1\0\0": "table", b"\x93NUMPY": "arrays"}
# What lies beside the files of a dataset and isn't one.
_BESIDE = re.compile(r"(\.(json|txt|md|ya?ml|idx|index|log|sh|crc)|README|LICENSE|_SUCCESS)$", re.I)


class Look:
    """What can be said of a source without reading it.

    ``paths`` are those that it names, patterns (``train-{00..09}.tar``, ``*.tar``) resolved; none if it is no path. A
    ``folder`` is one that the only path leads to; ``names`` and ``folders`` are what lies in it, but for hidden things.
    """

    def __init__(self, value: Any, has_csv: bool) -> None:
        self.value = value
        self.has_csv = has_csv
        self.paths = _paths(value)
        only = self.paths[0] if len(self.paths) == 1 else None
        self.folder = only if only is not None and Path(only).is_dir() else None

    @property
    def is_path(self) -> bool:
        """Whether it is a single path, and no pattern or list."""
        return isinstance(self.value, (str, os.PathLike))

    @cached_property
    def names(self) -> list[str]:
        """Regular files in the folder, sorted."""
        return self._entries[0]

    @cached_property
    def folders(self) -> list[str]:
        """Folders in the folder, sorted."""
        return self._entries[1]

    @cached_property
    def _entries(self) -> tuple[list[str], list[str]]:
        if self.folder is None:
            return [], []
        with os.scandir(self.folder) as found:
            entries = [entry for entry in found if not entry.name.startswith(".")]
        files = [entry.name for entry in entries if entry.is_file()]
        return sorted(files), sorted(entry.name for entry in entries if entry.is_dir())

    @cached_property
    def files(self) -> list[str]:
        """The files that it names or that lie in its folder, without what lies beside data."""
        if self.folder is None:
            return [path for path in self.paths if not Path(path).is_dir()]
        return [str(Path(self.folder, name)) for name in self.names if not _BESIDE.search(name)]

    @cached_property
    def kind(self) -> str | None:
        """What all of its files are, if they are one thing: table, arrays, webdataset, tfrecord or zip."""
        if self.folders or not self.files or (self.folder is None and len(self.files) != len(self.paths)):
            return None
        first, *others = self.files
        kind = file_kind(first)
        return kind if all((_kind_of_name(path) or file_kind(path)) == kind for path in others) else None

    def __str__(self) -> str:
        if not self.paths:
            return type(self.value).__name__
        return self.paths[0] if len(self.paths) == 1 else f"{self.paths[0]} and {len(self.paths) - 1:,} more"


def file_kind(path: str) -> str | None:
    """Table, arrays, webdataset, tfrecord or zip: by the first bytes or, where they don't say, by the name."""
    head = b""
    # To open a pipe or a device may never end.
    if Path(path).is_file():
        with contextlib.suppress(OSError), Path(path).open("rb") as file:
            head = file.read(_HEAD)
    found = _kind_of_content(head)
    if found is None and head[:2] in (b"\x1f\x8b", b"(\xb5", b"BZ"):
        found = _kind_of_content(_inflated(path, head))
    by_name = _kind_of_name(path)
    return by_name if found is None or (found == "zip" and by_name == "arrays") else found


def is_tar_header(block: bytes) -> bool:
    """Whether 512 bytes carry the checksum of a tar header."""
    if len(block) < _HEAD or not block.strip(b"\0"):
        return False
    try:
        declared = int(block[148:156].rstrip(b" \0") or b"0", 8)
    except ValueError:
        return False
    return declared == sum(block[:148]) + sum(block[156:]) + 256


def _kind_of_name(path: str) -> str | None:
    if table_kind(path):
        return "table"
    return next((kind for kind, pattern in _NAMES.items() if pattern.search(path)), None)


def _kind_of_content(head: bytes) -> str | None:
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return "zip"
    if is_tar_header(head):
        return "webdataset"
    if len(head) >= 12 and int.from_bytes(head[8:12], "little") == masked_crc(head, 0, 8):
        return "tfrecord"
    return None


def _inflated(path: str, head: bytes) -> bytes:
    """The first bytes of what a compressed file holds; empty if it is no such file."""
    if head.startswith(b"\x1f\x8b"):
        try:
            return zlib.decompressobj(31).decompress(head, _HEAD) or _by_pyarrow(path, "gzip")
        except zlib.error:
            return b""
    return _by_pyarrow(path, "bz2" if head.startswith(b"BZ") else "zstd")


def _by_pyarrow(path: str, codec: str) -> bytes:
    import pyarrow as pa

    try:
        with pa.CompressedInputStream(pa.OSFile(path), codec) as stream:
            return bytes(stream.read(_HEAD))
    except (OSError, pa.ArrowException):
        return b""


def _paths(value: Any) -> list[str]:
    if isinstance(value, (str, os.PathLike)):
        return _expanded(os.fspath(value))
    if not isinstance(value, (list, tuple)) or not value:
        return []
    if not all(isinstance(one, (str, os.PathLike)) for one in value):
        return []
    return [path for one in value for path in _expanded(os.fspath(one))]


def _expanded(path: str) -> list[str]:
    """The paths that a pattern stands for; a path that there is stands for itself."""
    if not re.search(r"[{*?\[]", path) or Path(path).exists():
        return [path]
    found = []
    for one in _braces(path):
        # pathlib takes no absolute patterns.
        found += sorted(glob.glob(one)) if re.search(r"[*?\[]", one) else [one]  # noqa: PTH207
        if len(found) > _MAX_PATHS:
            raise ValueError(f"{path}: more than {_MAX_PATHS:,} files")
    if not found:
        raise FileNotFoundError(f"{path}: no such files")
    return found


def _braces(path: str) -> Iterator[str]:
    """What ``{000..009}`` and ``{train,val}`` stand for, in order."""
    match = re.search(r"\{([^{}]*)\}", path)
    if match is None:
        yield path
        return
    for choice in _choices(match[1], path):
        yield from _braces(path[: match.start()] + choice + path[match.end() :])


def _choices(text: str, path: str) -> Sequence[str]:
    match = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if match is None:
        if "," not in text:
            raise ValueError(f"{path}: {{{text}}}: expected a range such as {{000..009}}, or names with commas between")
        return text.split(",")
    first, last = int(match[1]), int(match[2])
    if not 0 <= last - first < _MAX_PATHS:
        raise ValueError(f"{path}: {{{text}}}: expected at most {_MAX_PATHS:,} numbers, in rising order")
    width = len(match[1])
    return [f"{number:0{width}}" for number in range(first, last + 1)]
