"""Parts that share no group: all rows of one patient, say, on the same side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]
    Floats = NDArray[np.float64]

__all__ = ["parts_of_groups"]


def parts_of_groups(groups: Integers, counts: Floats, shares: Sequence[float], order: Integers) -> Integers:
    """The part of each row, so that no group is in two parts, and parts get about their ``shares`` of each class.

    ``groups`` numbers each row's group from 0; ``counts`` says how much of each class each group holds, ``[groups,
    classes]``. Group after group goes to where the parts are then filled most evenly, seen over all classes: the greedy
    method of scikit-learn's ``StratifiedGroupKFold``, for parts of any size. What is hardest to place comes first: the
    groups in which classes are most unequal; with a single class, the largest. ``order``, a permutation of the rows,
    decides between groups that are alike. Every part with a share gets a group.
    """
    shares_of_all = np.asarray(shares, np.float64)
    used = np.flatnonzero(shares_of_all > 0)
    if len(counts) < len(used):
        raise ValueError(f"{len(used)} parts of {len(counts)} groups: expected a group for each part at least")
    ranked = _hardest_first(counts, groups, order)
    filling = _Filling(counts, shares_of_all[used])
    part = np.empty(len(counts), np.int64)
    for group in ranked.tolist():
        part[group] = filling.place(counts[group])
    _leave_none_empty(part, len(used), ranked, np.bincount(groups))
    parts: Integers = used[part][groups]
    return parts


def _hardest_first(counts: Floats, groups: Integers, order: Integers) -> Integers:
    unevenness = counts.std(axis=1) if counts.shape[1] > 1 else counts[:, 0]
    _, first = np.unique(groups[order], return_index=True)
    chance = np.argsort(first)
    ranked: Integers = chance[np.argsort(-unevenness[chance], kind="stable")]
    return ranked


class _Filling:
    """How much of each class each part has."""

    def __init__(self, counts: Floats, shares: Floats) -> None:
        totals = counts.sum(axis=0)
        # Relative to parts of one size, so that these are filled as scikit-learn would.
        self._sizes: Floats = shares * len(shares) / shares.sum()
        self._wanted = np.where(totals == 0, 1, totals) * self._sizes[:, None]
        self._filled = np.zeros((len(shares), counts.shape[1]))
        self._each = np.eye(len(shares))[:, :, None]

    def place(self, count: Floats) -> int:
        """Puts a group into the part for which it is best, and of equally good ones into the emptiest."""
        uneven = self._uneven(count).tolist()
        full = (self._filled.sum(axis=1) / self._sizes).tolist()
        best = 0
        for at in range(1, len(uneven)):
            is_alike = abs(uneven[at] - uneven[best]) <= 1e-8 + 1e-5 * uneven[best]
            if uneven[at] < uneven[best] or (is_alike and full[at] < full[best]):
                best = at
        self._filled[best] += count
        return best

    def _uneven(self, count: Floats) -> Floats:
        """For each part, the deviation between the parts if that one gets the group, as a mean over the classes."""
        filled = (self._filled + self._each * count) / self._wanted
        parts = len(self._filled)
        # Written out, since NumPy's `std` takes longer than all the rest.
        apart = filled - np.add.reduce(filled, axis=1, keepdims=True) / parts
        deviations = np.sqrt(np.add.reduce(apart * apart, axis=1) / parts)
        uneven: Floats = np.add.reduce(deviations, axis=1) / len(count)
        return uneven


def _leave_none_empty(part: Integers, parts: int, ranked: Integers, rows: NDArray[Any]) -> None:
    """Gives each empty part the smallest group of the part that has most groups."""
    for empty in np.flatnonzero(np.bincount(part, minlength=parts) == 0).tolist():
        donor = int(np.argmax(np.bincount(part, minlength=parts)))
        theirs = ranked[part[ranked] == donor]
        part[theirs[np.argmin(rows[theirs])]] = empty
