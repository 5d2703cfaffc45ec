"""Boxes and what goes along with them, as fields and columns of lists."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fastshard._fastshard import SourceError

__all__ = [
    "along_boxes",
    "boxes_field",
    "has_elements",
    "image_size",
    "keypoints_field",
    "labels_field",
    "list_column",
    "small_text",
]


def boxes_field(box_format: str = "xyxy", normalized: bool = False) -> dict[str, Any]:
    """The description of the boxes in the field ``image``."""
    return {"name": "boxes", "type": "boxes", "image": "image", "format": box_format, "normalized": normalized}


def along_boxes(name: str, dtype: str, class_names: Iterable[str] = ()) -> dict[str, Any]:
    """The description of a list that has a number for each box."""
    described: dict[str, Any] = {"name": name, "type": "list", "dtype": dtype, "along": "boxes"}
    names = list(class_names)
    return described | ({"class_names": names} if names else {})


def keypoints_field(shape: Sequence[int]) -> dict[str, Any]:
    """The description of the keypoints of each box: (points, 2 or 3), in pixels."""
    return {**along_boxes("keypoints", "float32"), "shape": list(shape), "points": True}


def labels_field(class_names: Iterable[str]) -> dict[str, Any]:
    """The description of the classes of boxes."""
    return along_boxes("labels", "int64", class_names)


def list_column(counts: npt.ArrayLike, values: npt.NDArray[Any]) -> pa.ListArray:
    """Lists of ``counts`` elements each, ``values`` (numbers, or rows of numbers) taken one after the other."""
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    if offsets[-1] > np.iinfo(np.int32).max:
        raise SourceError(f"{offsets[-1]:,} boxes; expected at most 2,147,483,647")
    flat = pa.array(values.reshape(-1))
    if values.ndim == 2:
        flat = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)


def has_elements(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Which rows of a column of lists have one that isn't empty."""
    return np.asarray(pc.list_value_length(column).to_numpy()) > 0


# EXIF's orientation, and those that turn an image by a quarter.
_ORIENTATION, _QUARTERS = 0x0112, (5, 6, 7, 8)


def image_size(path: Path, upright: bool = False) -> tuple[float, float]:
    """Width and height of an image from its header; NaN for what is none, since packing says what is wrong with it.

    ``upright``: once it is turned as its EXIF data says.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                turned = upright and image.getexif().get(_ORIENTATION) in _QUARTERS
                return image.size[::-1] if turned else image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return float("nan"), float("nan")


def small_text(path: Path, most: int) -> str:
    """The text of a file of at most so many bytes; SourceError if it is larger or not UTF-8."""
    size = path.stat().st_size
    if size > most:
        raise SourceError(f"{path}: {size:,} bytes; expected at most {most >> 20} MiB")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8: {error}") from None
