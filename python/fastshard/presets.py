"""Lists of transforms that do what other libraries' augmentations do, for moving a training script over.

    transforms={"image": [*fs.presets.keras_augment(rotation=0.45, contrast=0.2, zoom=0.1), fs.Resize((224, 224))]}

They are plain lists: look at them, change them, put more before and after. All of the geometry is one resampling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ._base import check
from ._transforms.augment import ColorJitter
from ._transforms.image import ImageTransform, RandomHorizontalFlip, RandomVerticalFlip
from ._transforms.warp import RandomAffine

__all__ = ["image_data_generator", "keras_augment"]

Range = float | Sequence[float]

_FILL_MODES = {"constant": "constant", "nearest": "edge", "reflect": "symmetric"}
_FLIPS = ("horizontal_and_vertical", "horizontal", "vertical", None)


def keras_augment(
    *,
    flip: str | None = "horizontal_and_vertical",
    rotation: Range = 0.0,
    zoom: Range = 0.0,
    contrast: float = 0.0,
    shear: float = 0.0,
    fill_mode: str = "reflect",
    fill_value: int = 0,
) -> list[ImageTransform]:
    """Keras's layers ``RandomFlip``, ``RandomRotation``, ``RandomZoom``, ``RandomShear`` and ``RandomContrast``.

    ``rotation`` is a fraction of a full turn, ``zoom`` a fraction of the size, positive outwards; a number is the range
    to either side of 0, a pair the range itself. ``contrast`` is the range of the factor around 1. ``shear`` is the
    most that a pixel moves along either axis, as a fraction of its distance on the other. ``fill_mode`` is
    ``"reflect"``, ``"nearest"`` or ``"constant"``, with Keras's meaning.

    What differs: contrast comes last, wherever it stood, so that all geometry is resampled once, and is taken around
    the mean of the gray image instead of each channel's; factors of zoom are uniform in size, not its inverse; shears
    keep the middle in place, and their angle is what is uniform.
    """
    turns, zooms = _around(0.0, "rotation", rotation), _around(1.0, "zoom", zoom)
    steps = _flips("horizontal" in (check.one_of("flip", flip, _FLIPS) or ""), "vertical" in (flip or ""))
    # Keras turns the other way.
    degrees = (-360 * turns[1], -360 * turns[0])
    angle = math.degrees(math.atan(check.number("shear", shear, 0.0, 1.0)))
    steps += _affine(degrees, zooms, fill_mode, fill_value, shear=(-angle, angle, -angle, angle) if angle else 0.0)
    if check.number("contrast", contrast, 0.0, 1.0):
        steps.append(ColorJitter(contrast=contrast))
    return steps


def image_data_generator(
    *,
    rotation_range: float = 0.0,
    width_shift_range: float = 0.0,
    height_shift_range: float = 0.0,
    shear_range: float = 0.0,
    zoom_range: Range = 0.0,
    horizontal_flip: bool = False,
    vertical_flip: bool = False,
    fill_mode: str = "nearest",
    cval: int = 0,
) -> list[ImageTransform]:
    """The geometry of ``keras.preprocessing.image.ImageDataGenerator`` with these arguments.

    ``rotation_range`` and ``shear_range`` are degrees, shifts are fractions of width and height, ``zoom_range`` is a
    fraction of the size or ``(low, high)`` around 1, larger than 1 outwards. ``rescale=1/255`` is :class:`ToDtype`.

    What differs: zoom keeps the proportions, where Keras draws a factor for each axis; shifts are whole pixels; flips
    come first.
    """
    zooms = _around(1.0, "zoom_range", zoom_range) if _is_number(zoom_range) else _pair("zoom_range", zoom_range)
    flips = _flips(check.boolean("horizontal_flip", horizontal_flip), check.boolean("vertical_flip", vertical_flip))
    shift = (
        check.number("width_shift_range", width_shift_range, 0.0, 1.0),
        check.number("height_shift_range", height_shift_range, 0.0, 1.0),
    )
    degrees, shear = (
        check.number("rotation_range", rotation_range, 0.0, 360.0),
        check.number("shear_range", shear_range, 0.0, 89.0),
    )
    return flips + _affine((-degrees, degrees), zooms, fill_mode, cval, shift, shear)


def _is_number(value: object) -> bool:
    return not hasattr(value, "__iter__")


def _pair(name: str, value: object) -> tuple[float, float]:
    ends = check.numbers(name, value)
    if len(ends) != 2 or ends[0] > ends[1]:
        raise ValueError(f"{name}={value!r}: expected a number or (low, high)")
    return ends[0], ends[1]


def _around(middle: float, name: str, value: Range) -> tuple[float, float]:
    """The ends of a range that is given as a distance to either side of ``middle``, or as two."""
    if not _is_number(value):
        low, high = _pair(name, value)
    else:
        high = check.number(name, value, 0.0, 1.0)
        low = -high
    return middle + low, middle + high


def _flips(horizontal: bool, vertical: bool) -> list[ImageTransform]:
    steps: list[ImageTransform] = [RandomHorizontalFlip()] if horizontal else []
    return [*steps, RandomVerticalFlip()] if vertical else steps


def _affine(
    degrees: tuple[float, float],
    zooms: tuple[float, float],
    fill_mode: str,
    fill: int,
    shift: tuple[float, float] = (0.0, 0.0),
    shear: Range = 0.0,
) -> list[ImageTransform]:
    """One transform for all; zooms are factors on the way from the result to the image, so 2 makes it half as large."""
    padding_mode = _FILL_MODES[check.one_of("fill_mode", fill_mode, tuple(_FILL_MODES))]
    if zooms[0] <= 0:
        raise ValueError(f"zoom from {zooms[0]:g} to {zooms[1]:g} of the size: expected more than 0")
    if not any(degrees) and zooms == (1.0, 1.0) and not any(shift) and not shear:
        return []
    return [
        RandomAffine(
            degrees,
            translate=shift if any(shift) else None,
            scale=None if zooms == (1.0, 1.0) else (1 / zooms[1], 1 / zooms[0]),
            shear=shear or None,
            interpolation="bilinear",
            fill=fill,
            padding_mode=padding_mode,
        )
    ]
