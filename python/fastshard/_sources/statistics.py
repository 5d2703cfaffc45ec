"""Mean, deviation and range of fields, gathered while rows stream by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Statistics"]

Values = NDArray[np.float64]


@dataclass
class _Moments:
    """Per element of a field; ``squares`` are those of the distances from the mean, summed."""

    count: Values
    mean: Values
    squares: Values
    low: Values
    high: Values

    @classmethod
    def of(cls, rows: NDArray[Any]) -> _Moments:
        values = rows.astype(np.float64)
        known = np.isfinite(values)
        count = known.sum(axis=0).astype(np.float64)
        if known.all():
            mean = values.mean(axis=0)
            return cls(count, mean, np.square(values - mean).sum(axis=0), values.min(axis=0), values.max(axis=0))
        mean = np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1)
        squares = np.where(known, np.square(np.where(known, values, 0) - mean), 0).sum(axis=0)
        low, high = np.where(known, values, np.inf).min(axis=0), np.where(known, values, -np.inf).max(axis=0)
        return cls(count, mean, squares, low, high)

    def merged(self, other: _Moments) -> _Moments:
        """Of both (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm", 1979)."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        apart = other.mean - self.mean
        return _Moments(
            count,
            self.mean + apart * share,
            self.squares + other.squares + apart**2 * self.count * share,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )


class Statistics:
    """Of every field that rows were added of; what is not finite doesn't count."""

    def __init__(self) -> None:
        self._moments: dict[str, _Moments] = {}

    def add(self, name: str, rows: NDArray[Any]) -> None:
        """Takes in rows of a field, ``[rows, ...]``."""
        moments = _Moments.of(rows)
        known = self._moments.get(name)
        self._moments[name] = moments if known is None else known.merged(moments)

    def described(self) -> dict[str, Any]:
        """``mean``, ``std`` (of the population), ``min`` and ``max`` by field, as lists or numbers for JSON."""
        return {name: _described(moments) for name, moments in self._moments.items()}


def _described(moments: _Moments) -> dict[str, Any]:
    std = np.sqrt(moments.squares / np.maximum(moments.count, 1))
    none = moments.count == 0
    low, high = np.where(none, 0, moments.low), np.where(none, 0, moments.high)
    named = {"mean": moments.mean, "std": std, "min": low, "max": high}
    return {name: values.tolist() for name, values in named.items()}
