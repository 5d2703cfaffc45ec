"""How much of the training data a trial sees, and when it sees more."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from fastshard._base import check

__all__ = ["FractionSchedule", "fraction_at", "with_rungs"]


@dataclass(frozen=True)
class FractionSchedule:
    """Parts of the training data that grow as a trial goes on: trials that are stopped early have seen little.

        fs.tune.FractionSchedule([0.1, 0.3, 1.0], epochs=[1, 3])  # from epoch 1 on 0.3, from epoch 3 on all of it

    - ``fractions``: from more than 0 to 1, none smaller than the one before. Each part lies inside the next one
      (``Dataset.subset``), so pixels that the cache has are used again.
    - ``epochs``: the epochs, counted from 0, with which the second, third ... part begin. By default those at which
      ``hyperband`` decides who goes on.

    What it trades: metrics of trials at the same epoch compare, those of different rungs do not, and a model that only
    shines with much data may be stopped before it had any.
    """

    fractions: tuple[float, ...]
    epochs: tuple[int, ...] | None = None

    def __init__(self, fractions: Sequence[float], epochs: Sequence[int] | None = None) -> None:
        parts = check.numbers("fractions", fractions)
        for part, before in zip(parts, (0.0, *parts), strict=False):
            if not 0 < part <= 1 or part < before:
                raise ValueError(f"fractions={fractions!r}: expected numbers from more than 0 to 1 that do not shrink")
        object.__setattr__(self, "fractions", parts)
        object.__setattr__(self, "epochs", None if epochs is None else _epochs(epochs, parts))

    def __str__(self) -> str:
        """In words, such as ``0.1, from epoch 1 on 0.5``."""
        later = zip(self.epochs or [], self.fractions[1:], strict=False)
        return ", ".join([f"{self.fractions[0]:g}", *(f"from epoch {epoch} on {part:g}" for epoch, part in later)])

    def at(self, epoch: int) -> float:
        """The part that epoch ``epoch``, counted from 0, sees."""
        if self.epochs is None:
            raise ValueError("epochs=None: expected epochs, because only hyperband has rungs to go by")
        return self.fractions[min(bisect.bisect_right(self.epochs, epoch), len(self.fractions) - 1)]


def _epochs(epochs: Sequence[int], parts: Sequence[float]) -> tuple[int, ...]:
    found = tuple(check.integer("epochs", epoch, 1) for epoch in epochs)
    if len(found) != len(parts) - 1 or list(found) != sorted(set(found)):
        raise ValueError(
            f"epochs={epochs!r}: expected {len(parts) - 1} growing numbers, one for each part but the first"
        )
    return found


def with_rungs(fraction: float | FractionSchedule, rungs: Sequence[int]) -> float | FractionSchedule:
    """The schedule with its epochs, where they are to be those of the rungs."""
    if not isinstance(fraction, FractionSchedule) or fraction.epochs is not None:
        return fraction
    parts = fraction.fractions[: len(rungs) + 1]
    if len(parts) < len(fraction.fractions):
        wanted = f"at most {len(rungs) + 1} fractions, because trials go through {len(rungs)} rungs, {list(rungs)}"
        raise ValueError(f"fractions={fraction.fractions!r}: expected {wanted}")
    return FractionSchedule(parts, rungs[: len(parts) - 1])


def fraction_at(fraction: float | FractionSchedule, epoch: int) -> float:
    """The part of the training data that an epoch sees."""
    return fraction.at(epoch) if isinstance(fraction, FractionSchedule) else fraction
