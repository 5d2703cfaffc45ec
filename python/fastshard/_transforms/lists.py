"""Lists in batches: cut, filled up, and brought together by length."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastshard._base import check

from .base import Transform
from .boxes import BoxStep, InstanceMasks, box_spec

if TYPE_CHECKING:
    from fastshard._rows.opened import Field
    from fastshard._rows.view import View

__all__ = [
    "Buckets",
    "ListStep",
    "PadSequence",
    "Truncate",
    "along_specs",
    "are_masks",
    "buckets_spec",
    "list_spec",
    "mask_spec",
]

_SIDES = ("left", "right")


@dataclass(frozen=True)
class Truncate(Transform):
    """Cuts lists to at most ``length`` elements; those on the ``side`` go (``"right"``: the last ones)."""

    length: int
    side: str = "right"

    def __post_init__(self) -> None:
        check.integer("length", self.length, 1)
        check.one_of("side", self.side, _SIDES)


@dataclass(frozen=True)
class PadSequence(Transform):
    """Fills lists up to one length, so that a batch is ``[batch, length, ...]``.

    ``value`` fills; ``length`` is that of the longest list in the batch, rounded up to a ``multiple_of``, or the same
    for all batches (a longer list is a DecodeError; ``Truncate`` goes before). ``side`` is the end that is filled up.
    With ``mask``, batches have a bool array ``<field>_mask`` ``[batch, length]`` as well: True for elements.
    """

    value: float = 0
    length: int | None = None
    multiple_of: int = 1
    side: str = "right"
    mask: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            raise TypeError(f"value={self.value!r}: expected a number")
        check.numbers("value", self.value)
        if self.length is not None:
            check.integer("length", self.length, 1)
            if self.multiple_of != 1:
                raise ValueError(f"length={self.length}, multiple_of={self.multiple_of}: expected one of them")
        check.integer("multiple_of", self.multiple_of, 1)
        check.one_of("side", self.side, _SIDES)
        check.boolean("mask", self.mask)


ListStep = Truncate | PadSequence | BoxStep | InstanceMasks


@dataclass(frozen=True)
class Buckets:
    """Batches of samples of like lengths in one ``field``: elements of lists, frames of audio, bytes of all others.

    The (shuffled) order is taken ``batches`` batches at a time, sorted by length, cut into batches again, and these
    change places; without shuffling they go from short to long. Each sample still comes once, and resuming stays exact.
    ``unit`` is how many samples stay together: by default a batch of all ranks.
    """

    field: str
    batches: int = 100
    unit: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.field, str):
            raise TypeError(f"field={self.field!r}: expected the name of a field")
        check.integer("batches", self.batches, 1)
        if self.unit is not None:
            check.integer("unit", self.unit, 1)


def buckets_spec(buckets: Buckets | str | None, samples: int) -> dict[str, Any] | None:
    """For the native loader; ``samples`` are those of a batch of all ranks."""
    if buckets is None:
        return None
    if isinstance(buckets, str):
        buckets = Buckets(buckets)
    if not isinstance(buckets, Buckets):
        raise TypeError(f"buckets={buckets!r}: expected the name of a field, or Buckets")
    return {"field": buckets.field, "unit": buckets.unit or samples, "units": buckets.batches}


def list_spec(field: Field, steps: Any) -> dict[str, Any]:
    """What the steps do to a list field, for the native loader: first one that cuts, then one that fills up.

    Those of boxes may be anywhere before.
    """
    listed = list(steps) if isinstance(steps, Iterable) else [steps]
    of_boxes = [step for step in listed if isinstance(step, BoxStep)] if field.type == "boxes" else []
    spec: dict[str, Any] = {"boxes": box_spec(of_boxes)} if of_boxes else {}
    listed = [step for step in listed if step not in of_boxes]
    order = [Truncate, PadSequence]
    places = [order.index(type(step)) for step in listed if type(step) in order]
    if len(places) != len(listed) or places != sorted(set(places)):
        raise ValueError(f"transforms for {field.name!r}={listed!r}: lists take a Truncate, a PadSequence, or both")
    spec |= {"truncate": None, "pad": None}
    for step in listed:
        if isinstance(step, Truncate):
            spec["truncate"] = {"length": step.length, "side": step.side}
        else:
            value = int(step.value) if float(step.value).is_integer() else step.value
            spec["pad"] = {
                "value": value,
                "length": step.length,
                "multiple_of": step.multiple_of,
                "side": step.side,
                "mask": step.mask,
            }
    return spec


def are_masks(steps: Any) -> bool:
    """Whether the steps make masks of a text field."""
    listed = steps if isinstance(steps, (list, tuple)) else [steps]
    return any(isinstance(step, InstanceMasks) for step in listed)


def mask_spec(field: Field, steps: Any) -> dict[str, Any]:
    """The same for a text field that becomes masks; nothing of cutting and filling up where no step says how."""
    first, *listed = steps if isinstance(steps, (list, tuple)) else [steps]
    if not isinstance(first, InstanceMasks) or field.type != "text":
        raise ValueError(
            f"transforms for {field.name!r}={steps!r}: InstanceMasks comes first, and only for a field of text"
        )
    masks = {"boxes": first.boxes, "normalized": first.normalized}
    return {"masks": masks, **(list_spec(field, listed) if listed else {})}


def along_specs(dataset: View, specs: dict[str, Any]) -> dict[str, Any]:
    """The specs with those of boxes for all that runs along with them and has none: cut and filled up (0) alike."""
    for field in dataset.fields:
        boxes = specs.get(field.of) if field.type == "list" and field.of else None
        if boxes is not None and field.name not in specs:
            specs[field.name] = _as_boxes(boxes)
    for spec in specs.values():
        if "masks" in spec and "pad" not in spec:
            spec |= _as_boxes(specs.get(spec["masks"]["boxes"]))
    return specs


def _as_boxes(boxes: dict[str, Any] | None) -> dict[str, Any]:
    """Cut and filled up (0) as the boxes are."""
    if boxes is None:
        return {"truncate": None, "pad": None}
    return {"truncate": boxes["truncate"], "pad": boxes["pad"] and {**boxes["pad"], "value": 0, "mask": False}}
