"""Which file below a folder a list of names means: found by path or, where only one file has it, by name."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from fastshard._fastshard import SourceError

from .base import first_five
from .walk import Found

__all__ = ["find_file", "match_files"]


def find_file(path: str, root: str, what: str) -> str:
    """``path`` as it is or, if there is no such file, below ``root``."""
    for candidate in (Path(path), Path(root, path)):
        if candidate.is_file():
            return str(candidate)
    raise FileNotFoundError(f"{path}: no such {what}, neither here nor in {root}")


def match_files(
    path: str, what: str, names: Sequence[str], root: str, found: Found
) -> tuple[dict[int, str], list[tuple[int, str]]]:
    """Row to file, and the rows (with their names) that have none. Rows count from 1; messages call them ``what``.

    Raises SourceError for a file of two rows, names that several files have, and paths that leave ``root``.
    """
    files = _Files(found)
    matches: dict[int, str] = {}
    row_of: dict[str, int] = {}
    missing = []
    for row, name in enumerate(names, start=1):
        place = f"{path}: {what} {row}"
        _check_inside(place, name, root, found)
        match = files.find(name, place) if name else None
        if match is None:
            missing.append((row, name))
        elif match in row_of:
            raise SourceError(f"{path}: {what}s {row_of[match]} and {row} both name the file {match!r}")
        else:
            matches[row] = match
            row_of[match] = row
    return matches, missing


class _Files:
    """Looks up files by relative path or, where only one file has it, by name."""

    def __init__(self, found: Found) -> None:
        self.known = set(found.images).union(found.audio, found.others) - found.special
        self.by_name: dict[str, list[str]] = defaultdict(list)
        for path in self.known:
            self.by_name[posixpath.basename(path)].append(path)

    def find(self, name: str, place: str) -> str | None:
        path = posixpath.normpath(name)
        if path in self.known:
            return path
        candidates = self.by_name.get(path, [])
        if len(candidates) > 1:
            raise SourceError(f"{place}: {name!r} is the name of several files: {first_five(sorted(candidates))}")
        return candidates[0] if candidates else None


def _check_inside(place: str, name: str, root: str, found: Found) -> None:
    if posixpath.isabs(name) or ".." in name.split("/"):
        raise SourceError(f"{place}: {name!r} may leave the source folder; expected a path below {root}, without '..'")
    target = found.leaves(posixpath.normpath(name)) if found.outside else None
    if target is not None:
        raise SourceError(
            f"{place}: {name!r} leads out of the source, to {target}; copy it, or allow it with follow_symlinks=True"
        )
