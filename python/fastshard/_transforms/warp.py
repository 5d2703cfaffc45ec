"""Random rotations, affine maps, perspectives and mosaics. Names, argument names and defaults follow torchvision v2.

Consecutive ones, with the crops and flips between them, are multiplied into one map and resampled once: faster, and
sharper than one after the other. That needs the same ``interpolation``, ``fill`` and ``padding_mode`` throughout, and
no crop in between whose edge a ``padding_mode`` other than ``"constant"`` would repeat; with such a mode, what one of
them moves out of sight can come back with the next. Resizing is a step of its own: it averages where it shrinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fastshard._base import check

from .image import ImageTransform, Size, _fill, _interpolation

__all__ = ["Mosaic", "RandomAffine", "RandomPerspective", "RandomRotation"]

_INTERPOLATIONS = ("nearest", "bilinear")
_PADDING_MODES = ("constant", "edge", "reflect", "symmetric")


def _angles(name: str, value: object, lengths: tuple[int, ...] = (2,)) -> tuple[float, ...]:
    """Ranges of degrees; one number is the range to either side of 0."""
    ends = check.numbers(name, value)
    if not hasattr(value, "__iter__"):
        if ends[0] < 0:
            raise ValueError(f"{name}={value!r}: expected a number of at least 0, or (low, high)")
        ends = (-ends[0], ends[0])
    if len(ends) not in lengths:
        raise ValueError(f"{name}={value!r}: expected one number or {' or '.join(map(str, lengths))} of them")
    for low, high in zip(ends[::2], ends[1::2], strict=True):
        if low > high:
            raise ValueError(f"{name}={value!r}: expected low <= high")
    return ends


def _two(name: str, value: object) -> tuple[float, float]:
    numbers = check.numbers(name, value)
    if len(numbers) != 2:
        raise ValueError(f"{name}={value!r}: expected two numbers")
    return numbers[0], numbers[1]


def _center(value: object) -> tuple[float, float] | None:
    return None if value is None else _two("center", value)


def _check_sampling(interpolation: str, padding_mode: str) -> None:
    check.one_of("interpolation", interpolation, _INTERPOLATIONS)
    check.one_of("padding_mode", padding_mode, _PADDING_MODES)


@dataclass(frozen=True)
class RandomRotation(ImageTransform):
    """Turns the image by a random angle, counter-clockwise; ``degrees`` is ``(low, high)`` or ``d`` for ``(-d, d)``.

    ``interpolation`` is ``"nearest"`` or ``"bilinear"``. ``expand`` makes the result as large as it takes, so sizes
    differ and a resize or crop must follow. ``center`` is ``(x, y)`` from the upper left corner, the middle by default.
    Outside of the image is ``fill``, one integer or one a channel; or, as an addition to torchvision's arguments, what
    ``padding_mode`` says: ``"edge"`` repeats the last pixel, ``"reflect"`` mirrors at it, ``"symmetric"`` behind it.
    Follows ``torchvision.transforms.v2.RandomRotation``.
    """

    degrees: float | Sequence[float]
    interpolation: str = "nearest"
    expand: bool = False
    center: Sequence[float] | None = None
    fill: int | Sequence[int] = 0
    padding_mode: str = "constant"
    op: ClassVar[str] = "random_rotation"

    def __post_init__(self) -> None:
        _check_sampling(self.interpolation, self.padding_mode)
        check.boolean("expand", self.expand)
        self._replace(degrees=_angles("degrees", self.degrees), center=_center(self.center), fill=_fill(self.fill))

    def _arguments(self) -> dict[str, Any]:
        return {
            "degrees": self.degrees,
            "interpolation": self.interpolation,
            "expand": self.expand,
            "center": self.center,
            "fill": self.fill,
            "padding_mode": self.padding_mode,
        }


@dataclass(frozen=True)
class RandomAffine(ImageTransform):
    """Turns (clockwise), shifts, scales and shears the image at random, around ``center``, the middle by default.

    ``degrees`` and ``shear`` are ranges of degrees; a number ``d`` is ``(-d, d)``, and four of ``shear`` are the ranges
    along x and y. ``translate`` holds the largest fractions of width and height, ``scale`` a range of factors (a zoom).
    ``interpolation``, ``fill`` and ``padding_mode`` are those of :class:`RandomRotation`. Follows
    ``torchvision.transforms.v2.RandomAffine``.
    """

    degrees: float | Sequence[float]
    translate: Sequence[float] | None = None
    scale: Sequence[float] | None = None
    shear: float | Sequence[float] | None = None
    interpolation: str = "nearest"
    fill: int | Sequence[int] = 0
    center: Sequence[float] | None = None
    padding_mode: str = "constant"
    op: ClassVar[str] = "random_affine"

    def __post_init__(self) -> None:
        _check_sampling(self.interpolation, self.padding_mode)
        self._replace(degrees=_angles("degrees", self.degrees), center=_center(self.center), fill=_fill(self.fill))
        if self.translate is not None:
            self._replace(translate=self._fractions(self.translate))
        if self.scale is not None:
            self._replace(scale=self._factors(self.scale))
        if self.shear is not None:
            self._replace(shear=_angles("shear", self.shear, (2, 4)))

    @staticmethod
    def _fractions(value: Sequence[float]) -> tuple[float, float]:
        fractions = _two("translate", value)
        if not all(0 <= fraction <= 1 for fraction in fractions):
            raise ValueError(f"translate={value!r}: expected fractions from 0 to 1")
        return fractions

    @staticmethod
    def _factors(value: Sequence[float]) -> tuple[float, float]:
        low, high = _two("scale", value)
        if not 0 < low <= high:
            raise ValueError(f"scale={value!r}: expected (low, high) with 0 < low <= high")
        return low, high

    def _arguments(self) -> dict[str, Any]:
        shear = None if self.shear is None else (*check.numbers("shear", self.shear), 0.0, 0.0)
        return {
            "degrees": self.degrees,
            "translate": self.translate,
            "scale": self.scale,
            "shear": shear and (shear[:2], shear[2:4]),
            "interpolation": self.interpolation,
            "fill": self.fill,
            "center": self.center,
            "padding_mode": self.padding_mode,
        }


@dataclass(frozen=True)
class RandomPerspective(ImageTransform):
    """Moves the corners of the image inwards at random, with probability ``p``, as if it were seen from another side.

    ``distortion_scale``, from 0 to 1, says how far: at 1 up to the middle. ``interpolation``, ``fill`` and
    ``padding_mode`` are those of :class:`RandomRotation`. Follows ``torchvision.transforms.v2.RandomPerspective``.
    """

    distortion_scale: float = 0.5
    p: float = 0.5
    interpolation: str = "bilinear"
    fill: int | Sequence[int] = 0
    padding_mode: str = "constant"
    op: ClassVar[str] = "random_perspective"

    def __post_init__(self) -> None:
        _check_sampling(self.interpolation, self.padding_mode)
        self._replace(
            distortion_scale=check.number("distortion_scale", self.distortion_scale, 0.0, 1.0),
            p=check.number("p", self.p, 0.0, 1.0),
            fill=_fill(self.fill),
        )

    def _arguments(self) -> dict[str, Any]:
        return {
            "distortion_scale": self.distortion_scale,
            "p": self.p,
            "interpolation": self.interpolation,
            "fill": self.fill,
            "padding_mode": self.padding_mode,
        }


@dataclass(frozen=True)
class Mosaic(ImageTransform):
    """Joins each image with three others of the dataset in one, with their boxes and instance masks.

    All four are fitted to ``size`` (``(height, width)`` or one integer), and meet at a random place of a canvas twice
    as wide and as high, the sample's own above and on the left; what reaches beyond the canvas is cut off, between
    them is ``fill``. As YOLO is trained, ``RandomAffine`` and ``CenterCrop(size)`` follow. With probability 1 - ``p``
    an image stays alone, in the middle of the canvas, where ``CenterCrop(size)`` gives what ``ResizePad(size)`` does.

    The others are drawn anew for each sample and epoch from all rows that the loader runs over, with its weights if it
    has some, and may be the same one twice; so ``shuffle="block"`` no longer reads only what lies together. Boxes, and
    what runs along with them, come from all four, one image after the other; a field that follows this one does as it
    does; every other field, such as a label, is the sample's own.
    Only ``Decode`` and what moves pixels may stand before it, and is done to each of the four, with draws of its own.
    Source: Bochkovskiy et al., "YOLOv4: Optimal Speed and Accuracy of Object Detection", 2020.
    """

    size: Size
    p: float = 1.0
    fill: int | Sequence[int] = 114
    interpolation: str = "bilinear"
    op: ClassVar[str] = "mosaic"

    def __post_init__(self) -> None:
        size = check.pair("size", self.size)
        if min(size) < 2:
            raise ValueError(f"size={self.size!r}: expected sides of at least 2 pixels")
        self._replace(size=size, p=check.number("p", self.p, 0.0, 1.0), fill=_fill(self.fill))
        _interpolation(self.interpolation)

    def _arguments(self) -> dict[str, Any]:
        return {"size": self.size, "p": self.p, "fill": self.fill, "interpolation": self.interpolation}
