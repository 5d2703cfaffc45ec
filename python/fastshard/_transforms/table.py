"""Bringing the columns of tables to mean 0 and deviation 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastshard._base import check

from .base import Transform

if TYPE_CHECKING:
    from fastshard._rows.view import View

__all__ = ["Standardize"]

Numbers = float | Sequence[float]


@dataclass(frozen=True)
class Standardize(Transform):
    """(value - mean) / std for every element of a float32 field: ``transforms={"features": Standardize()}``.

    By default with the statistics that packing stored, which are those of all rows, whatever the view; else with
    ``mean`` and ``std``, one number each or one for each element. A std of 0 divides by nothing, as scikit-learn's
    ``StandardScaler`` does it. Raises ValueError for a dataset without statistics.
    """

    mean: Numbers | None = None
    std: Numbers | None = None

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError(f"Standardize(mean={self.mean!r}, std={self.std!r}): expected both or neither")
        if self.std is not None and min(_listed("std", self.std)) < 0:
            raise ValueError(f"Standardize(std={self.std!r}): expected numbers of at least 0")

    def _spec(self, dataset: View, name: str) -> dict[str, Any]:
        known = dataset.statistics.get(name, {})
        if self.mean is None and "mean" not in known:
            wanted = "pack the table again, or give mean and std"
            raise ValueError(
                f"Standardize() for field {name!r}: {dataset._opened.name} has no statistics of it; {wanted}"
            )
        mean, std = (known["mean"], known["std"]) if self.mean is None else (self.mean, self.std)
        return {"mean": _listed("mean", mean), "std": _listed("std", std)}


def _listed(name: str, values: Any) -> list[float]:
    if isinstance(values, (int, float)):
        return [float(values)]
    return list(check.numbers(name, [number for row in values for number in (row if isinstance(row, list) else [row])]))
