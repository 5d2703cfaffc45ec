"""Finding the files of a source folder, fast enough for hundreds of thousands: one ``scandir`` a folder.

Only symbolic links are resolved. A link that leads out of the source is noted and not followed unless that is asked
for, so that a folder from a stranger can't pull in files from elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fastshard._fastshard import SourceError

__all__ = ["Found", "kind_of_name", "walk"]

AUDIO_SUFFIXES = (".wav", ".wave", ".flac", ".mp3", ".ogg", ".oga")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass
class Found:
    """Sorted paths relative to the source, with ``/``; ``outside`` maps links that leave it to where they lead.

    ``special`` are those of ``others`` that are no regular files: to read a pipe or a device may never end.
    """

    images: list[str] = field(default_factory=list)
    audio: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    outside: dict[str, str] = field(default_factory=dict)
    special: set[str] = field(default_factory=set)

    @property
    def no_images(self) -> list[str]:
        """Audio, and all others."""
        return sorted([*self.audio, *self.others])

    def leaves(self, path: str) -> str | None:
        """Where ``path`` leads if it, or a folder that it goes through, is a link out of the source."""
        parts = path.split("/")
        prefixes = ("/".join(parts[: end + 1]) for end in range(len(parts)))
        return next((self.outside[prefix] for prefix in prefixes if prefix in self.outside), None)

    def check_links(self, root: str) -> None:
        """SourceError if a link leads out of the source, which is ``root``."""
        for path, target in self.outside.items():
            raise SourceError(
                f"{root}/{path}: leads out of the source, to {target}; copy it, or allow it with follow_symlinks=True"
            )


def kind_of_name(name: str) -> str | None:
    """Image or audio, by how a name ends; None for all else."""
    lower = name.lower()
    return "image" if lower.endswith(IMAGE_SUFFIXES) else "audio" if lower.endswith(AUDIO_SUFFIXES) else None


def walk(root: str, follow_symlinks: bool = False) -> Found:
    """All files below ``root`` but the hidden ones. Raises FileNotFoundError, NotADirectoryError or PermissionError."""
    found = Found()
    walker = _Walker(root, follow_symlinks, found)
    walker.folder(root, "", frozenset([walker.root]))
    for paths in (found.images, found.audio, found.others, found.folders):
        paths.sort()
    return found


class _Walker:
    def __init__(self, root: str, follow_symlinks: bool, found: Found) -> None:
        self.root = os.path.realpath(root)
        self.follow_symlinks = follow_symlinks
        self.found = found

    def folder(self, path: str, prefix: str, followed: frozenset[str]) -> None:
        """Takes in a folder and those below it; ``followed`` are the targets of links on the way, to notice loops."""
        for entry in _entries(path):
            relative = prefix + entry.name
            if entry.is_symlink():
                self.link(entry, relative, followed)
            elif entry.is_dir(follow_symlinks=False):
                self.enter(entry.path, relative, followed)
            else:
                self.file(relative, entry.is_file(follow_symlinks=False))

    def enter(self, path: str, relative: str, followed: frozenset[str]) -> None:
        self.found.folders.append(relative)
        self.folder(path, relative + "/", followed)

    def file(self, relative: str, is_regular: bool) -> None:
        kinds = {"image": self.found.images, "audio": self.found.audio, None: self.found.others}
        kinds[kind_of_name(relative) if is_regular else None].append(relative)
        if not is_regular:
            self.found.special.add(relative)

    def link(self, entry: os.DirEntry[str], relative: str, followed: frozenset[str]) -> None:
        target = os.path.realpath(entry.path)
        if not self.follow_symlinks and not _is_below(target, self.root):
            self.found.outside[relative] = target
        elif not entry.is_dir():
            # A broken link counts as the file that it should be: packing then names it as missing.
            self.file(relative, entry.is_file() or not Path(target).exists())
        elif target in followed or _is_below(os.path.realpath(Path(entry.path).parent), target):
            raise SourceError(f"{entry.path}: a link to {target}, which contains it; remove the link")
        else:
            self.enter(entry.path, relative, followed | {target})


def _entries(path: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                _check_name(entry)
                yield entry


def _check_name(entry: os.DirEntry[str]) -> None:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise SourceError(f"{os.fsencode(entry.path)!r}: the name is not UTF-8; rename it") from None


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
