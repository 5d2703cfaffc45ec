"""Checks of options: an error names the option, the value received and what was expected."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

__all__ = ["boolean", "byte_size", "integer", "items", "number", "numbers", "one_of", "pair"]

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


# What the core reads a side as; it has limits of its own below that.
_MOST_PIXELS = 2**31 - 1
# Room for all arithmetic in 64 bits.
_MOST = 2**62


def integer(name: str, value: object, low: int = 0, high: int = _MOST) -> int:
    """``value`` as an int of at least ``low`` and at most ``high``; booleans and fractions are refused."""
    wanted = f"an integer of at least {low}" if high == _MOST else f"an integer from {low} to {high}"
    if isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: expected {wanted}")
    try:
        result = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}={value!r}: expected {wanted}") from None
    if not low <= result <= high:
        wanted = wanted if result < low else f"an integer from {low} to {high}"
        raise ValueError(f"{name}={_shown(result)}: expected {wanted}")
    return result


def _shown(number: int) -> str:
    """``number`` as text; Python refuses to write out very long ones."""
    return f"an integer of {number.bit_length()} bits" if number.bit_length() > 1000 else str(number)


def number(name: str, value: object, low: float, high: float) -> float:
    """``value`` as a float between ``low`` and ``high``."""
    result = numbers(name, [value])[0]
    if not low <= result <= high:
        raise ValueError(f"{name}={value!r}: expected a number from {low:g} to {high:g}")
    return result


def items(value: Any) -> tuple[Any, ...]:
    """``value`` as a tuple: a list or tuple as it is, anything else, text included, as a tuple of one."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)


def numbers(name: str, value: Any) -> tuple[float, ...]:
    """``value`` as a tuple of finite floats; a single number becomes a tuple of one."""
    try:
        result = tuple(float(item) for item in (value if hasattr(value, "__iter__") else (value,)))
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r}: expected numbers") from None
    except OverflowError:
        raise ValueError(f"{name}: expected finite numbers") from None
    if not result or not all(map(math.isfinite, result)):
        raise ValueError(f"{name}={value!r}: expected finite numbers")
    return result


def boolean(name: str, value: object) -> bool:
    """``value`` if it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: expected True or False")
    return value


def one_of(name: str, value: T, choices: Sequence[T]) -> T:
    """``value`` if it is one of ``choices``."""
    if value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"{name}={value!r}: expected one of {listed}")
    return value


def pair(name: str, value: object) -> tuple[int, int]:
    """``value`` as ``(height, width)``; one integer is a square."""
    sides = items(value) * (2 if len(items(value)) == 1 else 1)
    if len(sides) != 2:
        raise ValueError(f"{name}={value!r}: expected an integer or (height, width)")
    return integer(name, sides[0], 1, _MOST_PIXELS), integer(name, sides[1], 1, _MOST_PIXELS)


def byte_size(name: str, value: object) -> int:
    """``value`` in bytes: an integer, or text such as ``"256MiB"`` or ``"1GB"``."""
    if not isinstance(value, str):
        return integer(name, value, 1)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError(f"{name}={value!r}: expected bytes as an integer or as text such as '256MiB'")
    return integer(name, int(min(float(match[1]) * _UNITS[match[2].upper()], 2.0 * _MOST)), 1)
