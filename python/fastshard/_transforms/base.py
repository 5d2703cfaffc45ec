"""The base of all transforms."""

from __future__ import annotations

__all__ = ["Transform"]


class Transform:
    """One step of a loader, for samples of one kind of field or for whole batches. Use its subclasses.

    All are frozen dataclasses: they are checked when they are made, compare by value, can be pickled and print as they
    are written.
    """
