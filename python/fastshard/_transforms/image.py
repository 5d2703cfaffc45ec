"""Transforms: descriptions that the native threads carry out. Names, argument names and defaults follow torchvision v2.

Each is a frozen dataclass that is checked when it is made and compares by value; none of them holds pixels or code.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fastshard._base import check

from .audio import AudioTransform
from .base import Transform
from .batch import BatchTransform, Lambda

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "CenterCrop",
    "Decode",
    "Follow",
    "Grayscale",
    "ImageTransform",
    "Normalize",
    "Pad",
    "RandomCrop",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomVerticalFlip",
    "Resize",
    "ResizePad",
    "ToDtype",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of the ImageNet training images, red, green and blue on a scale of 0 to 1."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of the ImageNet training images, red, green and blue on a scale of 0 to 1."""

MAX_PIXELS = 89_478_485
_NO_CALLABLES = (
    "is a Python callable; transforms run natively, without Python, so only fastshard's own can be listed here: call "
    "functions on whole batches, with fs.Lambda in batch_transforms"
)
_MODES = {"RGB": "rgb", "L": "gray", "P": "palette"}
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")

Size = int | Sequence[int]


class ImageTransform(Transform, ABC):
    """One step for an image. Use its subclasses."""

    op: ClassVar[str]

    @abstractmethod
    def _arguments(self) -> dict[str, Any]:
        """The arguments in the form that the native core takes."""

    def _spec(self) -> dict[str, Any]:
        return {"op": self.op, **self._arguments()}

    def _replace(self, **values: object) -> None:
        """Sets checked values on the frozen instance; only for ``__post_init__``."""
        for name, value in values.items():
            object.__setattr__(self, name, value)


def transform_list(name: str, value: Any) -> list[ImageTransform]:
    """``value`` as a list: one transform or several."""
    if isinstance(value, (BatchTransform, Lambda)):
        value = [value]
    if callable(value) and not isinstance(value, type):
        raise TypeError(f"{name}: {value!r} {_NO_CALLABLES}")
    if isinstance(value, AudioTransform):
        value = [value]
    if isinstance(value, str) or not isinstance(value, (ImageTransform, Iterable)):
        raise TypeError(f"{name}={value!r}: expected a transform or a list of transforms")
    steps = [value] if isinstance(value, ImageTransform) else list(value)
    for step in steps:
        if isinstance(step, (BatchTransform, Lambda)):
            raise TypeError(f"{name}: {step!r} works on whole batches: put it in batch_transforms")
        if isinstance(step, AudioTransform):
            raise TypeError(f"{name}: {step!r} is for audio fields")
        if not isinstance(step, ImageTransform):
            if callable(step) and not isinstance(step, type):
                raise TypeError(f"{name}: {step!r} {_NO_CALLABLES}")
            hint = " (an instance, with parentheses)" if isinstance(step, type) else ""
            raise TypeError(f"{name}: {step!r} is not a fastshard transform{hint}")
    return steps


def to_json(steps: Iterable[ImageTransform]) -> str:
    """A list of transforms as the native core takes it."""
    return json.dumps([step._spec() for step in steps])


def _fill(value: object) -> tuple[int, ...]:
    values = check.items(value)
    if len(values) not in (1, 3):
        raise ValueError(f"fill={value!r}: expected one integer or three")
    return tuple(check.integer("fill", item, 0, 65535) for item in values)


def _interpolation(value: str) -> str:
    return check.one_of("interpolation", value, _INTERPOLATIONS)


def _range(name: str, value: object, high: float) -> tuple[float, float]:
    ends = check.numbers(name, value)
    if len(ends) != 2 or not 0 < ends[0] <= ends[1] <= high:
        limit = "" if high == float("inf") else f" <= {high:g}"
        raise ValueError(f"{name}={value!r}: expected (low, high) with 0 < low <= high{limit}")
    return ends[0], ends[1]


@dataclass(frozen=True)
class Decode(ImageTransform):
    """Decodes the image; put it first. Without it images are decoded with these defaults.

    ``mode`` is ``"RGB"``, ``"L"`` (gray) or ``"P"`` (the numbers in a PNG's palette, such as classes of a mask; gray
    images as with ``"L"``, other colours are a DecodeError), ``dtype`` ``"uint8"`` or, for sources that have 16 bits,
    ``"uint16"``. ``exif_orientation`` turns the image, and its boxes with it, as its EXIF or XMP data say: the same as
    ``PIL.ImageOps.exif_transpose``. Off by default. The orientation is read when the image is packed; datasets keep the
    one that they were packed with. TIFF files follow the same switch, while PIL turns them whenever it loads them: pass
    True to get PIL's pixels. Images whose header declares more than ``max_pixels`` pixels are refused before anything
    is decoded. With ``scaled``, a JPEG that is to become at least 2, 4 or 8 times smaller is decoded at 1/2, 1/4 or 1/8
    of its size, which saves most of the work; False decodes every pixel and filters those.
    """

    mode: str = "RGB"
    dtype: str = "uint8"
    exif_orientation: bool = False
    max_pixels: int = MAX_PIXELS
    scaled: bool = True
    op: ClassVar[str] = "decode"

    def __post_init__(self) -> None:
        check.one_of("mode", self.mode, tuple(_MODES))
        check.one_of("dtype", self.dtype, ("uint8", "uint16"))
        check.boolean("exif_orientation", self.exif_orientation)
        check.integer("max_pixels", self.max_pixels, 1)
        check.boolean("scaled", self.scaled)

    def _arguments(self) -> dict[str, Any]:
        return {
            "mode": _MODES[self.mode],
            "dtype": self.dtype,
            "exif_orientation": self.exif_orientation,
            "max_pixels": self.max_pixels,
            "scaled": self.scaled,
        }


@dataclass(frozen=True)
class Resize(ImageTransform):
    """Resizes: an integer is the length of the shorter side, a pair is exactly ``(height, width)``.

    ``max_size`` limits the longer side (only with an integer). ``antialias`` widens the filter when shrinking, as PIL
    does. Follows ``torchvision.transforms.v2.Resize``.
    """

    size: Size
    interpolation: str = "bilinear"
    max_size: int | None = None
    antialias: bool = True
    op: ClassVar[str] = "resize"

    def __post_init__(self) -> None:
        sides = check.items(self.size)
        if len(sides) not in (1, 2):
            raise ValueError(f"size={self.size!r}: expected an integer (shorter side) or (height, width)")
        self._replace(size=tuple(check.integer("size", side, 1) for side in sides))
        _interpolation(self.interpolation)
        check.boolean("antialias", self.antialias)
        if self.max_size is not None:
            self._check_max_size(self.max_size)

    def _check_max_size(self, max_size: int) -> None:
        sides = self._sides
        if len(sides) != 1:
            raise ValueError(f"max_size={max_size!r}: only for an integer size, received size={self.size!r}")
        check.integer("max_size", max_size, sides[0] + 1)

    @property
    def _sides(self) -> tuple[int, ...]:
        return check.items(self.size)

    def _arguments(self) -> dict[str, Any]:
        return {
            "size": list(self._sides),
            "max_size": self.max_size,
            "interpolation": self.interpolation,
            "antialias": self.antialias,
        }


@dataclass(frozen=True)
class ResizePad(ImageTransform):
    """Resizes so that the whole image fits into ``size`` and pads the rest evenly with ``fill`` (letterbox).

    ``size`` is ``(height, width)`` or one integer for a square; ``fill`` one integer or one a channel.
    """

    size: Size
    fill: int | Sequence[int] = 0
    interpolation: str = "bilinear"
    op: ClassVar[str] = "resize_pad"

    def __post_init__(self) -> None:
        self._replace(size=check.pair("size", self.size), fill=_fill(self.fill))
        _interpolation(self.interpolation)

    def _arguments(self) -> dict[str, Any]:
        return {"size": self.size, "fill": self.fill, "interpolation": self.interpolation}


@dataclass(frozen=True)
class Pad(ImageTransform):
    """Adds borders of ``fill``; ``padding`` in pixels is an integer, ``(x, y)``, or ``(left, top, right, bottom)``."""

    padding: int | Sequence[int]
    fill: int | Sequence[int] = 0
    op: ClassVar[str] = "pad"

    def __post_init__(self) -> None:
        sides = check.items(self.padding)
        if len(sides) not in (1, 2, 4):
            raise ValueError(f"padding={self.padding!r}: expected an integer, (x, y) or (left, top, right, bottom)")
        checked = [check.integer("padding", side) for side in sides]
        self._replace(padding=tuple(checked * (4 // len(checked))), fill=_fill(self.fill))

    def _arguments(self) -> dict[str, Any]:
        return {"padding": self.padding, "fill": self.fill}


@dataclass(frozen=True)
class _Crop(ImageTransform):
    size: Size

    def __post_init__(self) -> None:
        self._replace(size=check.pair("size", self.size))

    def _arguments(self) -> dict[str, Any]:
        return {"size": self.size}


@dataclass(frozen=True)
class CenterCrop(_Crop):
    """Cuts ``size`` out of the centre; smaller images are padded with 0.

    ``size`` is ``(height, width)`` or one integer for a square. Follows ``torchvision.transforms.v2.CenterCrop``.
    """

    op: ClassVar[str] = "center_crop"


@dataclass(frozen=True)
class RandomCrop(_Crop):
    """Cuts ``size``, ``(height, width)`` or one integer for a square, out at random; smaller images are an error."""

    op: ClassVar[str] = "random_crop"


@dataclass(frozen=True)
class RandomResizedCrop(ImageTransform):
    """Cuts out a random part and resizes it to ``size``; only that part of a JPEG is decoded.

    The part has ``scale`` times the area of the image and a width to height ``ratio``, both drawn from their ranges.
    Source: Szegedy et al., "Going deeper with convolutions", 2014, as in
    ``torchvision.transforms.v2.RandomResizedCrop``.
    """

    size: Size
    scale: Sequence[float] = (0.08, 1.0)
    ratio: Sequence[float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"
    antialias: bool = True
    op: ClassVar[str] = "random_resized_crop"

    def __post_init__(self) -> None:
        _interpolation(self.interpolation)
        check.boolean("antialias", self.antialias)
        self._replace(
            size=check.pair("size", self.size),
            scale=_range("scale", self.scale, 1.0),
            ratio=_range("ratio", self.ratio, float("inf")),
        )

    def _arguments(self) -> dict[str, Any]:
        return {
            "size": self.size,
            "scale": self.scale,
            "ratio": self.ratio,
            "interpolation": self.interpolation,
            "antialias": self.antialias,
        }


@dataclass(frozen=True)
class _Flip(ImageTransform):
    p: float = 0.5

    def __post_init__(self) -> None:
        self._replace(p=check.number("p", self.p, 0.0, 1.0))

    def _arguments(self) -> dict[str, Any]:
        return {"p": self.p}


@dataclass(frozen=True)
class RandomHorizontalFlip(_Flip):
    """Mirrors left and right with probability ``p``."""

    op: ClassVar[str] = "random_horizontal_flip"


@dataclass(frozen=True)
class RandomVerticalFlip(_Flip):
    """Mirrors top and bottom with probability ``p``."""

    op: ClassVar[str] = "random_vertical_flip"


@dataclass(frozen=True)
class Grayscale(ImageTransform):
    """Turns colour into gray (ITU-R BT.601 luma), with one channel or the same value in three."""

    num_output_channels: int = 1
    op: ClassVar[str] = "grayscale"

    def __post_init__(self) -> None:
        check.one_of("num_output_channels", self.num_output_channels, (1, 3))

    def _arguments(self) -> dict[str, Any]:
        return {"num_output_channels": self.num_output_channels}


@dataclass(frozen=True)
class RandomGrayscale(ImageTransform):
    """Turns colour into gray, three equal channels, with probability ``p``."""

    p: float = 0.1
    op: ClassVar[str] = "random_grayscale"

    def __post_init__(self) -> None:
        self._replace(p=check.number("p", self.p, 0.0, 1.0))

    def _arguments(self) -> dict[str, Any]:
        return {"p": self.p}


@dataclass(frozen=True)
class ToDtype(ImageTransform):
    """Converts to ``dtype``: uint8, uint16, float32, float16 or bfloat16.

    With ``scale`` the range of the old type becomes that of the new one; floats lie between 0 and 1.
    ``scale`` is True by default here, other than in torchvision. Half-precision types are computed in single precision,
    ``Normalize`` included, and rounded once. NumPy arrays of bfloat16 need the package ``ml_dtypes``; torch does not.
    """

    dtype: str = "float32"
    scale: bool = True
    op: ClassVar[str] = "to_dtype"

    def __post_init__(self) -> None:
        check.one_of("dtype", self.dtype, ("uint8", "uint16", "float32", "float16", "bfloat16"))
        check.boolean("scale", self.scale)

    def _arguments(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "scale": self.scale}


@dataclass(frozen=True)
class Normalize(ImageTransform):
    """Subtracts ``mean`` and divides by ``std``, a number a channel, on a scale of 0 to 1; gives float32.

    Integer images are scaled to 0-1 first. ``Normalize(fs.IMAGENET_MEAN, fs.IMAGENET_STD)`` is what most models trained
    on ImageNet expect, ``Normalize.mobilenet()`` (values from -1 to 1) what MobileNet expects.
    """

    mean: Sequence[float]
    std: Sequence[float]
    op: ClassVar[str] = "normalize"

    def __post_init__(self) -> None:
        mean, std = check.numbers("mean", self.mean), check.numbers("std", self.std)
        if len(mean) not in (1, 3) or len(std) != len(mean):
            raise ValueError(f"mean={self.mean!r}, std={self.std!r}: expected one number a channel (1 or 3) in both")
        if min(std) <= 0:
            raise ValueError(f"std={self.std!r}: expected numbers above 0")
        self._replace(mean=mean, std=std)

    @classmethod
    def imagenet(cls) -> Normalize:
        """The constants of ImageNet."""
        return cls(IMAGENET_MEAN, IMAGENET_STD)

    @classmethod
    def mobilenet(cls, num_channels: int = 3) -> Normalize:
        """Maps 0-1 to -1..1, as MobileNet and other models of Keras expect."""
        return cls((0.5,) * num_channels, (0.5,) * num_channels)

    def _arguments(self) -> dict[str, Any]:
        return {"mean": self.mean, "std": self.std}


@dataclass(frozen=True)
class Follow(ImageTransform):
    """Takes an image where another field's image goes, with the same random numbers: masks, and pairs of images.

    All geometry of ``field``'s transforms is done to it, sampled as ``interpolation`` says, with ``fill`` from outside;
    effects on values are left out. ``effects=True``, for images that are to look alike, does the whole list to it, but
    for ``Grayscale``, ``ToDtype`` and ``Normalize``. ``Decode`` may stand before it, ``ToDtype`` and ``Normalize``
    after it. Both images of a sample must have the same size.
    """

    field: str = "image"
    interpolation: str = "nearest"
    fill: int | Sequence[int] = 0
    effects: bool = False
    op: ClassVar[str] = "follow"

    def __post_init__(self) -> None:
        if not isinstance(self.field, str):
            raise TypeError(f"field={self.field!r}: expected the name of a field")
        _interpolation(self.interpolation)
        _fill(self.fill)
        check.boolean("effects", self.effects)

    def _arguments(self) -> dict[str, Any]:
        mask = {"interpolation": self.interpolation, "fill": list(_fill(self.fill))}
        return {"field": self.field, "mask": None if self.effects else mask}
