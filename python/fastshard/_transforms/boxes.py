"""Boxes: how they are declared when packing, what batches do with them, and the way back to the source's pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastshard._base import check

from .base import Transform

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BoxStep",
    "ConvertBoundingBoxFormat",
    "InstanceMasks",
    "SanitizeBoundingBoxes",
    "box_spec",
    "box_type",
    "unmap_boxes",
]

FORMATS = ("xyxy", "xywh", "cxcywh")


@dataclass(frozen=True)
class ConvertBoundingBoxFormat(Transform):
    """Batches have boxes as ``"xyxy"``, ``"xywh"`` or ``"cxcywh"``.

    They are in pixels of the batch's image, or with ``normalized`` in shares of its width and height.
    """

    format: str
    normalized: bool = False

    def __post_init__(self) -> None:
        check.one_of("format", self.format, FORMATS)
        check.boolean("normalized", self.normalized)


@dataclass(frozen=True)
class SanitizeBoundingBoxes(Transform):
    """Leaves out boxes that the image's transforms made too small, and all that runs along with them.

    ``min_size`` is the least width and height and ``min_area`` the least area, in pixels of the batch's image;
    ``min_visible`` the least share of a box that crops left, from 0 to 1. Without it, only boxes go of which nothing is
    left. After torchvision's class of this name; ``min_visible`` is ours.
    """

    min_size: float = 1.0
    min_area: float = 1.0
    min_visible: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("min_size", 1e9), ("min_area", 1e9), ("min_visible", 1.0)):
            check.number(name, getattr(self, name), 0.0, most)


@dataclass(frozen=True)
class InstanceMasks(Transform):
    """Turns the segmentations of boxes, a text field as packing COCO or YOLO makes it, into masks of the batch's image.

    Batches then have uint8 masks of 0 and 1 in the field's place: ``[boxes, height, width]`` one after the other with
    ``<field>_offsets``, or ``[batch, boxes, height, width]`` with ``PadSequence``. They go where their image's
    transforms take them; there is one for each of the ``boxes`` that is left, cut and filled up as these are unless
    steps of their own say otherwise. Both fields and the image are loaded together.

    The text of a sample is JSON: a list with, for each box, polygons ``[[x, y, x, y, ...], ...]``, a run-length
    encoding ``{"size": [height, width], "counts": ...}``, compressed or not, or null, which gives an empty mask.
    Polygons are in pixels, or with ``normalized`` in shares of width and height (by default as the boxes are). Without
    geometric transforms masks are those of pycocotools, pixel by pixel.
    """

    boxes: str = "boxes"
    normalized: bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.boxes, str):
            raise TypeError(f"boxes={self.boxes!r}: expected the name of a field")
        if self.normalized is not None:
            check.boolean("normalized", self.normalized)


BoxStep = ConvertBoundingBoxFormat | SanitizeBoundingBoxes


def box_spec(steps: list[Any]) -> dict[str, Any] | None:
    """What the steps do to a field of boxes, for the native loader."""
    spec: dict[str, Any] = {}
    for step in steps:
        if isinstance(step, ConvertBoundingBoxFormat):
            spec["format"] = [step.format, step.normalized]
        elif isinstance(step, SanitizeBoundingBoxes):
            spec |= {name: float(getattr(step, name)) for name in ("min_size", "min_area", "min_visible")}
    return spec or None


def box_type(name: str, kind: str) -> dict[str, Any] | None:
    """The field that ``"boxes[xyxy]"`` or ``"boxes[cxcywh, normalized, image]"`` stands for; None for other types."""
    match = re.fullmatch(r"boxes\[\s*(\w+)\s*(,\s*normalized\s*)?(?:,\s*([^,\]]+?)\s*)?\]", kind)
    if match is None or match[1] not in FORMATS:
        return None
    image, normalized = match[3] or "image", match[2] is not None
    return {"name": name, "type": "boxes", "image": image, "format": match[1], "normalized": normalized}


def unmap_boxes(boxes: ArrayLike, matrix: ArrayLike) -> NDArray[Any]:
    """Boxes of a batch's image in the pixels of its source: ``xyxy``, absolute, ``[..., 4]``.

    The source is upright if ``Decode(exif_orientation=True)`` turned it.

    ``matrix`` is ``batch["image_matrix"]`` of a ``Loader(..., matrices=True)``, ``[3, 3]``, or ``[..., 1, 3, 3]`` for
    several images' boxes at once. Of a box that was turned, it is the box around it that comes back.
    """
    import numpy as np

    corners = np.asarray(boxes, np.float64)[..., [[0, 1], [2, 1], [2, 3], [0, 3]]]
    places = np.concatenate([corners, np.ones((*corners.shape[:-1], 1))], axis=-1)
    mapped = np.einsum("...ij,...kj->...ki", np.asarray(matrix, np.float64), places)
    mapped = mapped[..., :2] / mapped[..., 2:]
    return np.concatenate([mapped.min(axis=-2), mapped.max(axis=-2)], axis=-1).astype(np.float32)
