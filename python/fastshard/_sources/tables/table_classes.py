"""Which number each class of a table has: the same in all of its parts, and in the order that the table gives."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fastshard._fastshard import SourceError
from fastshard._sources.base import first_five
from fastshard._sources.number_text import numeric_order

from .table_blobs import labels_of
from .table_rows import text_of

__all__ = ["Categories", "united_labels"]

_MAX_CATEGORIES = 1 << 16


class Categories:
    """The categories of a column of dictionaries, in their own order: those of the first, then what others add.

    That is what ``pandas.api.types.union_categoricals`` does. Ordered ones must agree, or one end where the other goes
    on.
    """

    def __init__(self, column: str) -> None:
        self._column = column
        self._names: dict[str, None] = {}
        self._first = ""
        self._last: pa.Array | None = None
        self.ordered = False

    @property
    def known(self) -> bool:
        """Whether there were any."""
        return self._last is not None

    def add(self, where: str, kind: pa.DataType, column: pa.Array) -> None:
        """Takes in the dictionary of a column of type ``kind``, if it has one; ``where`` is for errors."""
        # Text that is only read as a dictionary has no order, and what is read has lost whether it is ordered.
        if not pa.types.is_dictionary(kind) or not pa.types.is_dictionary(column.type):
            return
        if self._last is not None and column.dictionary.equals(self._last):
            return
        names = [name for name in text_of(column.dictionary).to_pylist() if name is not None]
        if len(names) > _MAX_CATEGORIES:
            raise SourceError(f"{where}: column {self._column!r} holds more than {_MAX_CATEGORIES:,} texts")
        self.ordered |= kind.ordered
        if self._last is None:
            self._first = where
        elif self.ordered and any(one != other for one, other in zip(names, self._names, strict=False)):
            raise SourceError(
                f"{where}: column {self._column!r} is ordered {first_five(names)}; "
                f"expected the order in {self._first}: {first_five(self._names)}"
            )
        self._last = column.dictionary
        self._names.update(dict.fromkeys(names))

    def names(self, texts: Iterable[str]) -> list[str]:
        """The categories in their order; of plain texts, the texts in theirs."""
        return [*self._names, *numeric_order(set(texts).difference(self._names))]


def united_labels(
    parts: Sequence[tuple[str, pa.Schema]], wanted: Collection[str], given: Mapping[str, list[str]]
) -> tuple[dict[str, list[str]], dict[str, dict[str, NDArray[np.int64]]]]:
    """The class names of columns, and the new numbers of the classes by column and part, where parts differ.

    ``given`` names win. Names that not all parts hold, or not in one order, are matched by name. Raises
    SourceError, which names two parts, where only some parts name their classes, or given names lack a part's.
    """
    by_part = {name: labels_of(schema) for name, schema in parts}
    known = {name: names for name, names in given.items() if name in wanted}
    numbers = {}
    for column in dict.fromkeys(name for labels in by_part.values() for name in labels if name in wanted):
        own = {name: labels.get(column) for name, labels in by_part.items()}
        stated = {name: names for name, names in own.items() if names is not None}
        first, *others = stated.values()
        if any(names != first for names in others):
            union = list(dict.fromkeys(name for names in stated.values() for name in names))
            known[column] = given.get(column, union)
            _check_all_named(column, own, known[column])
            numbers[column] = {name: _places(names, known[column]) for name, names in stated.items()}
        elif column not in given:
            _check_all_named(column, own, first)
            known[column] = first
    return known, numbers


def _check_all_named(column: str, own: Mapping[str, list[str] | None], names: Sequence[str]) -> None:
    named = next(part for part, one in own.items() if one is not None)
    for part, one in own.items():
        if one is None:
            raise SourceError(
                f"{part}: column {column!r} has no class names, but {named} has: {first_five(own[named] or ())}; "
                f"class_names={{{column!r}: [...]}} names them for all"
            )
        if absent := set(one).difference(names):
            raise SourceError(
                f"{part}: column {column!r} has the classes {first_five(one)}; class_names lacks {min(absent)!r}"
            )


def _places(names: Sequence[str], among: Sequence[str]) -> NDArray[np.int64]:
    places = {name: at for at, name in enumerate(among)}
    return np.array([places[name] for name in names], np.int64)
