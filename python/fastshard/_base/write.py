"""The one module that opens files for writing, renames and removes.

A file that may be read at any time is written under another name, brought to disk and renamed; a folder grows beside
its place and gets its name at the end. So a full disk, an error of the disk or a kill at any call leaves the old file
or folder, or the new one. What a killed process leaves has a name that the next one finds and clears away. Python
repeats calls that a signal interrupts; short writes are continued here. The Rust core has the same in ``disk.rs``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import shutil
import stat
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from fastshard import _fastshard

__all__ = [
    "append_lines",
    "claimed",
    "clear_unfinished",
    "create",
    "create_empty",
    "create_text",
    "discard_folder",
    "empty_folder",
    "finish_replacing",
    "new_file",
    "place_folder",
    "remove_file",
    "rename",
    "replacing_folder",
    "sync_file_system",
    "write_file",
]

_BUFFER = 1 << 20
_PATIENCE = 10.0  # seconds to wait for another process that writes to the same place
_UNFINISHED = ".unfinished"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def create(path: Path) -> BinaryIO:
    """A new, buffered file; ``close`` raises if not all could be written. FileExistsError if there is a file."""
    return path.open("xb", _BUFFER)


def create_text(path: Path, encoding: str) -> TextIO:
    """The same for text, in which line ends are written as they are."""
    return io.TextIOWrapper(create(path), encoding=encoding, newline="")


def create_empty(path: Path) -> None:
    """A new file of no bytes, made by one call. FileExistsError if there is one."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def new_file(path: Path, data: bytes | memoryview) -> int:
    """Writes a new file, in a folder that nobody reads yet; how many bytes."""
    with path.open("xb", 0) as file:
        _write_all(file.fileno(), data)
    return len(data)


def write_file(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Writes a file, or replaces one, as a whole or not at all, and brings it to disk.

    A link of the user's own is followed. Pipes and devices are written to as they are.
    """
    data = data.encode() if isinstance(data, str) else data
    path = Path(path)
    there = path.stat() if path.exists() else None
    if there is not None and not stat.S_ISREG(there.st_mode):
        with path.open("wb", 0) as pipe:
            _write_all(pipe.fileno(), data)
        return
    path = _followed(path)
    unfinished = path.with_name(f".{path.name}.tmp")
    with _held(unfinished) as file:
        try:
            os.ftruncate(file, 0)  # what a killed process left
            _write_all(file, data)
            if there is not None and there.st_mode != os.fstat(file).st_mode:
                os.fchmod(file, stat.S_IMODE(there.st_mode))
            os.fsync(file)
            unfinished.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
    _sync_folder(path.parent)


def append_lines(path: Path, lines: str) -> None:
    """Adds whole lines to a file with one write, and brings them to disk; all of them or none.

    A last line that a killed process has cut off is removed first.
    """
    with _held(path) as file:
        end = _cut_to_whole_lines(file)
        try:
            _write_all(file, lines.encode())
            os.fsync(file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(file, end)
            raise
    if end == 0:
        _sync_folder(path.parent)


def _write_all(file: int, data: bytes | memoryview) -> None:
    left = memoryview(data).cast("B")
    while left:
        written = os.write(file, left)
        if written == 0:
            raise OSError(errno.EIO, f"the system wrote none of the last {len(left):,} bytes")
        left = left[written:]


def _cut_to_whole_lines(file: int) -> int:
    """The length of a file whose last line ends with a line break; the file is cut to that."""
    length = end = os.fstat(file).st_size
    while end > 0:
        start = max(0, end - (1 << 16))
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < length:
        os.ftruncate(file, end)
    return end


def _followed(path: Path) -> Path:
    if not path.is_symlink():
        return path
    _check_owner(path)
    return Path(os.path.realpath(path))


def _check_owner(path: Path) -> None:
    """Refuses what another user prepared under a name that could be foreseen; whoever owns the folder may do that."""
    owner = path.lstat().st_uid
    if owner not in (os.geteuid(), 0, path.parent.stat().st_uid):
        raise PermissionError(errno.EPERM, f"belongs to another user (uid {owner}); move it away", str(path))


@contextlib.contextmanager
def _held(path: Path) -> Iterator[int]:
    """A regular file, made if it isn't there, that this process alone writes to."""
    until = time.monotonic() + _PATIENCE
    while True:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                raise OSError(errno.EINVAL, "needed for writing, but is no regular file of one name", str(path))
            if _locks(file) and _is_at(file, path):
                _check_owner(path)
                yield file
                return
        finally:
            os.close(file)
        if time.monotonic() > until:
            raise TimeoutError(errno.ETIMEDOUT, "another process is writing it", str(path))
        time.sleep(0.01)


def _locks(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # A file system without locks: two processes that write to the same place are the user's to avoid.
        return error.errno in _NO_LOCKS
    return True


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file or folder still has its name."""
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False


def rename(path: Path, name: str) -> None:
    """Gives a file another name in its folder."""
    path.rename(path.with_name(name))


def remove_file(path: Path) -> None:
    """Removes a file, or a link itself."""
    path.unlink()


@contextlib.contextmanager
def claimed(folder: Path, patience: float = 0.0) -> Iterator[int]:
    """Makes a folder for what is unfinished, or takes over the one that a killed process left; gives it, opened.

    Raises BlockingIOError after ``patience`` seconds while another process has it, and PermissionError if it is another
    user's.
    """
    until = time.monotonic() + patience
    folder.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
        try:
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue  # published by another process just now
        try:
            # It may have been published, and be another one, since it was opened.
            if _locks(opened) and _is_at(opened, folder):
                _check_owner(folder)
                yield opened
                return
        finally:
            os.close(opened)
        if time.monotonic() >= until:
            raise BlockingIOError(errno.EAGAIN, "another process is writing to it", str(folder))
        time.sleep(0.05)


def empty_folder(folder: Path, keep: str | None = None) -> None:
    """Removes all that is in a folder, but for the entry ``keep``."""
    for entry in sorted(folder.iterdir()):
        if entry.name == keep:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _remove_folder(folder: Path, last: str | None) -> None:
    """Removes a folder; the entry ``last``, by which the next process knows it, after all others."""
    empty_folder(folder, last)
    empty_folder(folder)
    folder.rmdir()


def finish_replacing(target: Path) -> None:
    """Undoes or finishes a replacement that was killed between two renames, where folders can't be exchanged."""
    _fastshard.finish_replacing(str(target))


def place_folder(folder: Path, target: Path, last: str | None = None) -> None:
    """Gives a folder the name ``target``, and removes the folder that had it, its entry ``last`` at the end.

    Warns if it can't be removed, since ``target`` is whole then.
    """
    replaced = None
    if os.path.lexists(target):
        replaced = Path(_fastshard.replace_folder(str(folder), str(target)))
    else:
        folder.rename(target)
    _sync_folder(target.parent)  # before what it replaces goes
    try:
        if replaced is not None:
            _remove_folder(replaced, last)
    except OSError as error:
        warnings.warn(
            f"{target}: written, but what it replaced could not be removed: {error}; the next one removes it",
            stacklevel=4,
        )


def discard_folder(folder: Path, opened: int, last: str | None = None) -> None:
    """Removes a claimed folder that has not got its place; what can't be removed is left to the next process."""
    with contextlib.suppress(OSError):
        if _is_at(opened, folder):
            _remove_folder(folder, last)


@contextlib.contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """A new, empty folder that is brought to disk and takes the place of ``target``, or is removed after an error."""
    folder = target.with_name(f".{target.name}{_UNFINISHED}")
    with claimed(folder, _PATIENCE) as opened:
        try:
            finish_replacing(target)
            empty_folder(folder)
            yield folder
            _sync_tree(folder)
            place_folder(folder, target)
        except BaseException:
            discard_folder(folder, opened)
            raise


def clear_unfinished(folder: Path) -> None:
    """Removes what killed processes left of ``replacing_folder`` for folders in ``folder``."""
    for left in folder.glob(f".*{_UNFINISHED}"):
        with contextlib.suppress(OSError), claimed(left) as opened:
            discard_folder(left, opened)


def sync_file_system(folder: Path) -> None:
    """Brings all that was written to the file system of a folder to disk: for many small files."""
    _fastshard.sync_file_system(str(folder))


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            _sync(path)
        elif path.is_dir():
            _sync_folder(path)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    try:
        _sync(folder)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system on which folders have nothing to sync
            raise


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
