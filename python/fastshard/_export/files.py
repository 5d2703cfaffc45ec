"""Where an export grows: a folder beside its destination, which becomes it by one rename or is removed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from fastshard._base import write as _write

__all__ = ["MARKER", "Shards", "Staging", "number_of_all"]

# Says that a folder is an export, and of what; hidden, so that nothing takes it for data.
MARKER = ".fastshard-export.json"


class Staging:
    """The folder ``OUT.exporting``, held by one process; gone at the end, under its new name or altogether.

    Raises FileExistsError if there is something at the destination already, and with ``overwrite`` ValueError if it is
    anything but an export or an empty folder.
    """

    def __init__(self, out: str, overwrite: bool, sources: Iterable[Path]) -> None:
        self._out = Path(os.path.abspath(out))
        if not self._out.name:
            raise ValueError(f"out={out!r}: expected the path of a folder to make")
        self._overwrite = overwrite
        self.folder = self._out.with_name(f"{self._out.name}.exporting")
        for source in sources:
            self._check_apart(source)
        self._check_free()

    def _check_apart(self, source: Path) -> None:
        inner, outer = os.path.realpath(self._out), os.path.realpath(source)
        if os.path.commonpath([inner, outer]) in (inner, outer):
            raise ValueError(
                f"out={str(self._out)!r}: lies in the dataset {source}, or around it; expected another place"
            )

    def _check_free(self) -> None:
        if not os.path.lexists(self._out):
            return
        if not self._overwrite:
            raise FileExistsError(f"{self._out}: is there already; export elsewhere, or replace it with overwrite=True")
        if self._out.is_symlink() or not self._out.is_dir() or not _is_replaceable(self._out):
            found = "neither an export nor an empty folder, or with other files in it"
            raise ValueError(f"{self._out}: {found}, so it will not be replaced")

    def __enter__(self) -> Staging:
        with ExitStack() as stack:
            try:
                self._opened = stack.enter_context(_write.claimed(self.folder))
            except BlockingIOError:
                raise RuntimeError(f"{self.folder}: another process is exporting to this destination") from None
            self._empty()
            self._check_free()
            self._claim = stack.pop_all()
        return self

    def _empty(self) -> None:
        """Clears away what a killed export has left: files of its own, or what it replaced."""
        _write.finish_replacing(self._out)
        left = _entries(self.folder)
        if left and MARKER not in left:
            raise ValueError(f"{self.folder}: needed for the export, but holds something else; please move it away")
        _write.empty_folder(self.folder, MARKER)
        if not left:
            _write.create_empty(self.folder / MARKER)

    def publish(self, about: Mapping[str, Any]) -> None:
        """Brings all to disk and gives the folder its name."""
        entries = sorted(_entries(self.folder) - {MARKER})
        text = json.dumps({"format": "fastshard export", **about, "entries": entries}, indent=1)
        _write.write_file(self.folder / MARKER, text + "\n")
        _write.sync_file_system(self.folder)
        self._check_free()
        _write.place_folder(self.folder, self._out, MARKER)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._claim:
            if kind is not None:
                _write.discard_folder(self.folder, self._opened, MARKER)


def _is_replaceable(folder: Path) -> bool:
    """Whether a folder holds an export and nothing else, or nothing at all."""
    there = _entries(folder)
    try:
        about = json.loads((folder / MARKER).read_bytes())
        ours = {MARKER, *about["entries"]} if about["format"] == "fastshard export" else set()
    except (OSError, ValueError, TypeError, KeyError):
        ours = set()
    return there <= ours


def _entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class Shards:
    """Files one after another, of ``most`` bytes where records are not larger: ``data-000000.tar`` and so on."""

    def __init__(self, folder: Path, name: str, suffix: str, most: int, end: Callable[[int], bytes] | None) -> None:
        self._folder, self._name, self._suffix, self._most, self._end = folder, name, suffix, most, end
        self._file: BinaryIO | None = None
        self._size = 0
        self.paths: list[Path] = []
        self.bytes = 0

    def write(self, record: list[bytes | memoryview]) -> None:
        """Writes the parts of a record behind each other, all into one file."""
        size = sum(map(len, record))
        if self._file is None or (self._size and self._size + size > self._most):
            self._open_next()
        assert self._file is not None
        self._file.writelines(record)
        self._size += size

    def _open_next(self) -> None:
        self._finish_file()
        path = self._folder / f"{self._name}-{len(self.paths):06d}{self._suffix}"
        self._file = _write.create(path)
        self.paths.append(path)
        self._size = 0

    def _finish_file(self) -> None:
        if self._file is not None:
            if self._end is not None:
                self._file.write(self._end(self._size))
            self.bytes += self._file.tell()
            self.close()

    def finish(self) -> None:
        """Writes what is left; one empty file at least."""
        if not self.paths:
            self._open_next()
        self._finish_file()

    def close(self) -> None:
        """Lets go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def number_of_all(paths: list[Path], name: str, suffix: str) -> None:
    """Renames files to ``data-00000-of-00003.parquet``, now that it is known how many they are."""
    for number, path in enumerate(paths):
        _write.rename(path, f"{name}-{number:05d}-of-{len(paths):05d}{suffix}")
