"""ZIP files of images, or audio: as the folder that they were, read member by member, never unpacked."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NamedTuple

from fastshard._fastshard import SourceError, permutation
from fastshard._sources.base import Encoded
from fastshard._sources.folders.folder import classes, files_of
from fastshard._sources.options import SourceOptions
from fastshard._sources.rows import RowSource
from fastshard._sources.samples import rows_of
from fastshard._sources.walk import Found, kind_of_name

from .tar import check_name

__all__ = ["zip_source"]

# Of an image; of all of them, as declared; and how many times as large as its file a member may get. Deflate reaches
# 1032 on zeros; images, which are compressed already, stay near 1.
_MAX_ITEM = 1 << 30
_MAX_RATIO = 200
_SMALL = 1 << 20
_PIECE = 1 << 20
_SYSTEM_UNIX = 3
# Every folder above a member is kept by its whole path. No path of Linux is longer.
_MAX_NAME = 4096
_MAX_DEPTH = 100
_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)


class _Member(NamedTuple):
    archive: zipfile.ZipFile
    info: zipfile.ZipInfo
    name: str
    label: int | None

    @property
    def place(self) -> str:
        """For errors."""
        return f"{self.archive.filename}: member {self.info.filename!r}"

    @property
    def size(self) -> int:
        """Bytes, as declared."""
        return self.info.file_size


def zip_source(paths: Sequence[str], options: SourceOptions) -> RowSource:
    """Every image, or audio, of a ZIP file, as of a folder: with folders in it, the top ones are the classes (sorted).

    Raises SourceError that names the member for names that lead elsewhere, links, encrypted members, and bombs.
    """
    if len(paths) != 1:
        raise SourceError(f"{paths[0]} and {len(paths) - 1:,} more: expected one ZIP file")
    path = paths[0]
    try:
        # Closed with the last of its members.
        archive = zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise SourceError(f"{path}: {error}") from None
    found, infos = _found(archive, path)
    kind, files, ignored = files_of(path, found, options.on_error)
    names, codes = classes(path, found, files, options.on_error) if found.folders else ([], [])
    labels: Sequence[int | None] = codes or [None] * len(files)
    members = [_Member(archive, infos[name], name, code) for name, code in zip(files, labels, strict=True)]
    if options.shuffle_seed is not None:
        members = [members[row] for row in _order(len(members), options.shuffle_seed)]
    source = rows_of(
        members,
        lambda _: _Plan(Path(path).name, kind),
        replace(options, class_names={"label": names} if codes else {}),
        {"kind": "zip", "source": path},
    )
    source.ignored_files = ignored
    return source


def _order(count: int, seed: int) -> Sequence[int]:
    """The order in which the files of a folder would be stored."""
    rows = memoryview(permutation(count, seed, 0, 0, count)).cast("q")
    return rows.tolist()


def _found(archive: zipfile.ZipFile, path: str) -> tuple[Found, dict[str, zipfile.ZipInfo]]:
    """What a walk through the folder would find. The folder that a ZIP file of a folder begins with is no class."""
    infos: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    for info in archive.infolist():
        name = info.filename
        check_name(path, name)
        if any(part.startswith((".", "__MACOSX")) for part in name.split("/")):
            continue
        parents = name.rstrip("/").split("/") if info.is_dir() else name.split("/")[:-1]
        if len(parents) > _MAX_DEPTH or len(name) > _MAX_NAME:
            shown = f"{name[:40]!r}..., {len(name):,} characters in {len(parents):,} folders"
            wanted = f"expected at most {_MAX_NAME:,} characters in {_MAX_DEPTH} folders"
            raise SourceError(f"{path}: a member named {shown}; {wanted}")
        folders.update("/".join(parents[: end + 1]) for end in range(len(parents)))
        if info.is_dir():
            continue
        if name in infos:
            raise SourceError(f"{path}: member {name!r}: there are two of that name")
        _check(path, info)
        infos[name] = info
    size, declared = Path(path).stat().st_size, sum(info.compress_size for info in infos.values())
    if declared > size:
        raise SourceError(f"{path}: members of {declared:,} bytes in a file of {size:,}: they overlap")
    infos, folders = _without_top(infos, folders)
    found = Found(folders=sorted(folders))
    lists = {"image": found.images, "audio": found.audio, None: found.others}
    for name in sorted(infos):
        lists[kind_of_name(name)].append(name)
    return found, infos


def _without_top(infos: dict[str, zipfile.ZipInfo], folders: set[str]) -> tuple[dict[str, zipfile.ZipInfo], set[str]]:
    tops = {name.split("/")[0] for name in infos}
    (top,) = tops if len(tops) == 1 else ("",)
    below = {folder for folder in folders if folder.startswith(f"{top}/")}
    if not top or not below:
        return infos, folders
    cut = len(top) + 1
    return {name[cut:]: info for name, info in infos.items()}, {folder[cut:] for folder in below}


def _check(path: str, info: zipfile.ZipInfo) -> None:
    place = f"{path}: member {info.filename!r}"
    mode = info.external_attr >> 16 if info.create_system == _SYSTEM_UNIX else 0
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        what = "a link" if stat.S_ISLNK(mode) else f"of mode {mode:o}"
        raise SourceError(f"{place} is {what}; expected plain files")
    if info.flag_bits & 1:
        raise SourceError(f"{place} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise SourceError(f"{place} is compressed by method {info.compress_type}; expected stored or deflated members")
    if info.file_size > _MAX_ITEM:
        raise SourceError(f"{place}: {info.file_size:,} bytes; a file holds at most {_MAX_ITEM:,}")
    if info.file_size > max(_SMALL, _MAX_RATIO * info.compress_size):
        raise SourceError(f"{place}: {info.file_size:,} bytes in {info.compress_size:,}: no image compresses so well")


class _Plan:
    """An image, or audio, and with folders its class."""

    def __init__(self, archive: str, kind: str) -> None:
        self._archive = archive
        self._kind = kind
        self.types = {kind: kind}

    def decode(self, member: _Member) -> dict[str, Any]:
        """The values of a sample."""
        fields: dict[str, Any] = {self._kind: Encoded(f"{self._archive}/{member.info.filename}", _read(member))}
        return fields if member.label is None else {**fields, "label": member.label}


def _read(member: _Member) -> bytes:
    """The bytes of a member, whose checksum zipfile compares; never more than were declared."""
    info = member.info
    try:
        with member.archive.open(info) as stream:
            data = _at_most(stream, info.file_size)
    except _DAMAGE as error:
        raise SourceError(f"{type(error).__name__}: {error}") from None
    if len(data) != info.file_size:
        raise SourceError(f"{len(data):,} bytes; expected {info.file_size:,}, as declared")
    return data


def _at_most(stream: IO[bytes], size: int) -> bytes:
    pieces, left = [], size + 1
    while left > 0 and (piece := stream.read(min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)
