"""Columns of text that must become numbers: texts that say numbers, texts that may mean some, and names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

__all__ = [
    "CATEGORY",
    "Texts",
    "first_outside",
    "floats_of",
    "is_number",
    "is_unsigned",
    "numbers_of",
    "numeric_order",
    "odd_text",
]

# The value of types= that asks for codes of a column's texts.
CATEGORY = "category"

# A leading zero marks a code, such as a postal code, which is no number.
_PLAIN = r"^(?:[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?i:nan|inf|infinity))$"
_WHOLE = r"^[+-]?(?:0|[1-9][0-9]*)$"
# What people and other programs read as a number or a date, each in its own way: 1,234 and 1,5 and 1 234, 007, 10%, $1,
# (5), 1/2, 2020-01-05, 5.1.2020, 10:30.
_NUMBER = r"\p{Nd}+(?:[.,' _\x{a0}\x{202f}]\p{Nd}+)*[.,]?(?:[eE][+-]?[0-9]+)?"
_CURRENCY = r"(?:\p{Sc}|USD|EUR|GBP|JPY|CHF|Rs\.?)"
_DATE = r"(?:[0-9]{4}[-/.][0-9]{1,2}(?:[-/.][0-9]{1,2})?|[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{2,4})"
_TIME = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?(?: ?[AaPp][Mm])?(?: ?(?:Z|UTC|[+-][0-9]{2}:?[0-9]{2}))?"
_ODD = (
    rf"^\s*(?:[+\x{{2212}}-]?\(?{_CURRENCY}?\s*[+\x{{2212}}-]?\.?{_NUMBER}\s*(?:{_CURRENCY}|[%\x{{2030}}])?\)?"
    rf"|[0-9]+/[0-9]+|{_DATE}(?:[T ]\s*{_TIME})?|{_TIME})\s*$"
)
_MAX_TEXTS = 1 << 16


@dataclass
class Texts:
    """What the texts of a column look like, counted in rows; ``counts`` of each text, up to 65,536 of them."""

    counts: Counter[str] = field(default_factory=Counter)
    plain: int = 0
    odd: int = 0
    words: int = 0
    too_many: bool = False

    def add(self, column: pa.Array) -> None:
        """Takes in values, of which none is missing."""
        found = pc.value_counts(column if pa.types.is_dictionary(column.type) else column.cast(pa.string()))
        texts, counts = found.field("values").cast(pa.string()), found.field("counts")
        rows = counts.to_numpy()
        plain = pc.match_substring_regex(texts, _PLAIN).to_numpy(zero_copy_only=False)
        odd = pc.match_substring_regex(texts, _ODD).to_numpy(zero_copy_only=False) & ~plain
        self.plain += int(rows[plain].sum())
        self.odd += int(rows[odd].sum())
        self.words += int(rows[~plain & ~odd].sum())
        if not self.too_many:
            for text, count in zip(texts.to_pylist(), rows.tolist(), strict=True):
                self.counts[text] += count
        if len(self.counts) > _MAX_TEXTS:
            self.too_many = True
            self.counts.clear()

    @property
    def are_numbers(self) -> bool:
        """Whether every text says a number, in the one way that all programs read alike."""
        return self.plain > 0 and not self.odd and not self.words

    def are_names(self, labels: bool) -> bool:
        """Whether at least half of the rows hold something that can't be meant as a number or a date.

        Dates, and numbers in any other than the plain way, are fine names of classes (``labels``).
        """
        names = self.words + (self.odd if labels else 0)
        return names * 2 >= self.plain + self.odd + self.words


def is_number(text: str) -> bool:
    """Whether a text says one."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def odd_text(column: pa.Array, *, words_only: bool = False) -> pa.Array:
    """Which texts are no plain numbers or, ``words_only``, look like none at all; missing ones are fine."""
    texts = column.cast(pa.string())
    fine = pc.match_substring_regex(texts, _PLAIN)
    if words_only:
        fine = pc.or_(fine, pc.match_substring_regex(texts, _ODD))
    return pc.fill_null(pc.invert(fine), False)


def floats_of(column: pa.Array) -> pa.Array:
    """Plain numbers in text as float64; nothing stays nothing."""
    return _without_plus(column).cast(pa.float64())


def numbers_of(column: pa.Array) -> pa.Array:
    """Plain numbers in text as int64 if all are whole, uint64 if they need that, else float64; nothing stays nothing.

    Raises OverflowError with the place of the first that is outside of int64, if not all are inside of uint64.
    """
    texts = _without_plus(column)
    if pc.all(pc.match_substring_regex(texts, _WHOLE)).as_py() is False:
        return texts.cast(pa.float64())
    outside = first_outside(texts)
    if outside is None:
        return texts.cast(pa.int64())
    try:
        return texts.cast(pa.uint64())
    except pa.ArrowInvalid:
        raise OverflowError(outside) from None


def is_unsigned(text: str) -> bool:
    """Whether a whole number is outside of int64 and inside of uint64."""
    return re.fullmatch(r"[0-9]{19,20}", text) is not None and 2**63 <= int(text) < 2**64


def first_outside(texts: pa.Array) -> int | None:
    """The place of the first whole number, in texts that are nothing else, that is outside of int64."""
    try:
        texts.cast(pa.int64())
    except pa.ArrowInvalid:
        return next(at for at, text in enumerate(texts.to_pylist()) if text is not None and _is_outside(text))
    return None


def _is_outside(text: str) -> bool:
    # Python makes no number of more than 4,300 digits.
    return len(text.lstrip("+-0")) > 19 or not -(2**63) <= int(text) < 2**63


def _without_plus(column: pa.Array) -> pa.Array:
    # pyarrow takes no plus sign.
    return pc.replace_substring_regex(column.cast(pa.string()), r"^\+", "")


def numeric_order(names: Iterable[str]) -> list[str]:
    """Names in alphabetical order or, if all are whole numbers, in the order of these."""
    names = sorted(names)
    # Python makes no number of more than 4,300 digits.
    return sorted(names, key=int) if all(re.fullmatch(r"[+-]?[0-9]{1,4000}", name) for name in names) else names
