"""Names for files and folders, made of texts that anybody may have written."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Names", "safe_name"]

# Beside the separators, what other systems refuse, so that an export can be copied there.
_REFUSED = frozenset('/\\<>:"|?*')
_MOST_BYTES = 120


def safe_name(text: str, otherwise: str = "_") -> str:
    """``text`` as the name of one file or folder: never empty, hidden, above the folder that it lies in, or too long.

    What can't stand in a name becomes ``_``; names that are fine already stay as they are.
    """
    clean = "".join("_" if char in _REFUSED or not char.isprintable() else char for char in text)
    clean = clean.encode(errors="replace")[:_MOST_BYTES].decode(errors="ignore").rstrip(". ")
    stripped = clean.lstrip(". ")
    if not stripped:
        return otherwise
    return clean if stripped == clean else f"_{stripped}"


class Names:
    """Names that differ: one that is taken gets a number, ``cat``, ``cat_2``, ``cat_3``."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._next = dict.fromkeys(taken, 2)

    def unique(self, stem: str, suffix: str = "") -> str:
        """``stem + suffix``, or with a number between them."""
        name = stem + suffix
        number = self._next.get(name)
        if number is None:
            self._next[name] = 2
            return name
        while (numbered := f"{stem}_{number}{suffix}") in self._next:
            number += 1
        self._next[name] = number + 1
        self._next[numbered] = 2
        return numbered


def counted(number: int, what: str) -> str:
    """How many there are: ``1 row``, ``2,000 rows``."""
    return f"{number:,} {what}{'s' * (number != 1)}"
