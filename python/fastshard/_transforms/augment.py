"""Transforms that change pixel values at random, alone or in lists; names and arguments follow torchvision v2.

They work on images of 8 bits. All but ``RandomErasing`` come before ``ToDtype`` and ``Normalize``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fastshard._base import check

from .batch import BatchTransform
from .image import ImageTransform, _fill, transform_list

if TYPE_CHECKING:
    from fastshard._rows.opened import Field

__all__ = [
    "AutoAugment",
    "ColorJitter",
    "GaussianBlur",
    "RandAugment",
    "RandomAdjustSharpness",
    "RandomApply",
    "RandomAutocontrast",
    "RandomChoice",
    "RandomEqualize",
    "RandomErasing",
    "RandomInvert",
    "RandomPosterize",
    "RandomSolarize",
    "TrivialAugmentWide",
]

_POLICIES = ("imagenet", "cifar10", "svhn")
_INF = float("inf")

Factor = float | Sequence[float] | None


def _jitter(name: str, value: Any, center: float, least: float, most: float) -> tuple[float, float] | None:
    """The range that ``value`` stands for; None where it leaves everything as it is."""
    if value is None:
        return None
    ends = check.numbers(name, value)
    if not hasattr(value, "__iter__"):
        check.number(name, value, 0.0, _INF)
        ends = (center - ends[0] if most < _INF else max(center - ends[0], 0.0), center + ends[0])
    if len(ends) != 2 or not least <= ends[0] <= ends[1] <= most:
        limit = f"from {least:g} to {most:g}" if most < _INF else f"of at least {least:g}"
        raise ValueError(f"{name}={value!r}: expected a number, or (low, high) {limit}")
    return None if ends[0] == ends[1] == center else (ends[0], ends[1])


def _low_high(name: str, value: Any, least: float, most: float = _INF, *, above: bool = False) -> tuple[float, float]:
    ends = check.numbers(name, value)
    if len(ends) != 2 or not least <= ends[0] <= ends[1] <= most or (above and ends[0] == least):
        limit = f"{least:g} {'<' if above else '<='} low <= high" + ("" if most == _INF else f" <= {most:g}")
        raise ValueError(f"{name}={value!r}: expected (low, high) with {limit}")
    return ends[0], ends[1]


def _probability(value: float) -> float:
    return check.number("p", value, 0.0, 1.0)


@dataclass(frozen=True)
class ColorJitter(ImageTransform):
    """Changes brightness, contrast, saturation and hue by random factors, in random order.

    A number ``x`` means factors from ``max(0, 1 - x)`` to ``1 + x``, and for ``hue`` turns from ``-x`` to ``x`` of the
    circle (at most 0.5); a pair is the range itself. Follows ``torchvision.transforms.v2.ColorJitter``.
    """

    brightness: Factor = None
    contrast: Factor = None
    saturation: Factor = None
    hue: Factor = None
    op: ClassVar[str] = "color_jitter"

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            self._replace(**{name: _jitter(name, getattr(self, name), 1.0, 0.0, _INF)})
        self._replace(hue=_jitter("hue", self.hue, 0.0, -0.5, 0.5))

    def _arguments(self) -> dict[str, Any]:
        return {
            "brightness": self.brightness,
            "contrast": self.contrast,
            "saturation": self.saturation,
            "hue": self.hue,
        }


@dataclass(frozen=True)
class GaussianBlur(ImageTransform):
    """Blurs with a Gaussian whose standard deviation, in pixels, is drawn from ``sigma``; edges are mirrored.

    ``kernel_size`` is an odd integer or, as in torchvision, ``(width, height)``; a single ``sigma`` is always taken.
    """

    kernel_size: int | Sequence[int]
    sigma: float | Sequence[float] = (0.1, 2.0)
    op: ClassVar[str] = "gaussian_blur"

    def __post_init__(self) -> None:
        kernel = check.pair("kernel_size", self.kernel_size)
        if max(kernel) > 1023 or not all(side % 2 for side in kernel):
            raise ValueError(f"kernel_size={self.kernel_size!r}: expected odd integers up to 1023")
        ends = check.numbers("sigma", self.sigma)
        sigma = _low_high("sigma", ends * 2 if len(ends) == 1 else self.sigma, 0.0, above=True)
        self._replace(kernel_size=kernel, sigma=sigma)

    def _arguments(self) -> dict[str, Any]:
        return {"kernel_size": self.kernel_size, "sigma": self.sigma}


@dataclass(frozen=True)
class RandomErasing(ImageTransform):
    """Paints a random rectangle over with probability ``p``; before ``ToDtype``, or last.

    The rectangle has ``scale`` times the image's area and a height to width ``ratio``, and is smaller than the image
    both ways. ``value`` is a number or one a channel: 0 to 255 before ``ToDtype``, and after it in the units of the
    result, so that 0 is the mean after ``Normalize``. ``"random"`` paints each value with noise: standard normal in
    floats, uniform in integers. Source: Zhong, Zheng, Kang, Li, Yang, "Random erasing data augmentation", AAAI 2020.
    """

    p: float = 0.5
    scale: Sequence[float] = (0.02, 0.33)
    ratio: Sequence[float] = (0.3, 3.3)
    value: float | Sequence[float] | str = 0.0
    op: ClassVar[str] = "random_erasing"

    def __post_init__(self) -> None:
        if isinstance(self.value, str):
            check.one_of("value", self.value, ("random",))
        else:
            values = check.numbers("value", self.value)
            if len(values) not in (1, 3):
                raise ValueError(f"value={self.value!r}: expected a number, three, or 'random'")
            self._replace(value=values)
        self._replace(
            p=_probability(self.p),
            scale=_low_high("scale", self.scale, 0.0, 1.0),
            ratio=_low_high("ratio", self.ratio, 0.0, 1e6, above=True),
        )

    def _arguments(self) -> dict[str, Any]:
        return {"p": self.p, "scale": self.scale, "ratio": self.ratio, "value": self.value}


@dataclass(frozen=True)
class _Chance(ImageTransform):
    p: float = 0.5

    def __post_init__(self) -> None:
        self._replace(p=_probability(self.p))

    def _arguments(self) -> dict[str, Any]:
        return {"p": self.p}


@dataclass(frozen=True)
class RandomInvert(_Chance):
    """Makes a negative with probability ``p``."""

    op: ClassVar[str] = "random_invert"


@dataclass(frozen=True)
class RandomAutocontrast(_Chance):
    """Stretches each channel to the whole range of values with probability ``p``."""

    op: ClassVar[str] = "random_autocontrast"


@dataclass(frozen=True)
class RandomEqualize(_Chance):
    """Flattens the histogram of each channel with probability ``p``."""

    op: ClassVar[str] = "random_equalize"


@dataclass(frozen=True)
class RandomPosterize(ImageTransform):
    """Keeps the upper ``bits`` (0 to 8) of each value with probability ``p``."""

    bits: int
    p: float = 0.5
    op: ClassVar[str] = "random_posterize"

    def __post_init__(self) -> None:
        self._replace(bits=check.integer("bits", self.bits, 0, 8), p=_probability(self.p))

    def _arguments(self) -> dict[str, Any]:
        return {"bits": self.bits, "p": self.p}


@dataclass(frozen=True)
class RandomSolarize(ImageTransform):
    """Inverts values of at least ``threshold`` (up to 255) with probability ``p``."""

    threshold: float
    p: float = 0.5
    op: ClassVar[str] = "random_solarize"

    def __post_init__(self) -> None:
        threshold = check.number("threshold", self.threshold, -_INF, 255.0)
        self._replace(threshold=threshold, p=_probability(self.p))

    def _arguments(self) -> dict[str, Any]:
        return {"threshold": self.threshold, "p": self.p}


@dataclass(frozen=True)
class RandomAdjustSharpness(ImageTransform):
    """Sharpens (``sharpness_factor`` above 1) or blurs (below 1) with probability ``p``."""

    sharpness_factor: float
    p: float = 0.5
    op: ClassVar[str] = "random_adjust_sharpness"

    def __post_init__(self) -> None:
        factor = check.number("sharpness_factor", self.sharpness_factor, 0.0, _INF)
        self._replace(sharpness_factor=factor, p=_probability(self.p))

    def _arguments(self) -> dict[str, Any]:
        return {"sharpness_factor": self.sharpness_factor, "p": self.p}


def _look(interpolation: str, fill: int | Sequence[int] | None) -> tuple[int, ...]:
    check.one_of("interpolation", interpolation, ("nearest", "bilinear"))
    return _fill(0 if fill is None else fill)


@dataclass(frozen=True)
class RandAugment(ImageTransform):
    """Applies ``num_ops`` of 14 operations, drawn anew for each image, all of the same ``magnitude``.

    The magnitude is a place among ``num_magnitude_bins``; most operations take it with a random sign. Moved images are
    ``"nearest"`` or ``"bilinear"``, and ``fill`` (None is 0) is what comes in from outside. Source: Cubuk, Zoph,
    Shlens, Le, "RandAugment: practical automated data augmentation with a reduced search space", 2020, as in
    torchvision.
    """

    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31
    interpolation: str = "nearest"
    fill: int | Sequence[int] | None = None
    op: ClassVar[str] = "rand_augment"

    def __post_init__(self) -> None:
        check.integer("num_ops", self.num_ops, 0, 100)
        check.integer("num_magnitude_bins", self.num_magnitude_bins, 2, 1000)
        check.integer("magnitude", self.magnitude, 0, self.num_magnitude_bins - 1)
        self._replace(fill=_look(self.interpolation, self.fill))

    def _arguments(self) -> dict[str, Any]:
        return {
            "num_ops": self.num_ops,
            "magnitude": self.magnitude,
            "num_magnitude_bins": self.num_magnitude_bins,
            "interpolation": self.interpolation,
            "fill": self.fill,
        }


@dataclass(frozen=True)
class TrivialAugmentWide(ImageTransform):
    """Applies one of 14 operations with one of ``num_magnitude_bins`` magnitudes, both drawn for each image.

    ``interpolation`` and ``fill`` as for ``RandAugment``. Source: Müller, Hutter, "TrivialAugment: tuning-free yet
    state-of-the-art data augmentation", ICCV 2021, as in torchvision.
    """

    num_magnitude_bins: int = 31
    interpolation: str = "nearest"
    fill: int | Sequence[int] | None = None
    op: ClassVar[str] = "trivial_augment_wide"

    def __post_init__(self) -> None:
        check.integer("num_magnitude_bins", self.num_magnitude_bins, 2, 1000)
        self._replace(fill=_look(self.interpolation, self.fill))

    def _arguments(self) -> dict[str, Any]:
        return {
            "num_magnitude_bins": self.num_magnitude_bins,
            "interpolation": self.interpolation,
            "fill": self.fill,
        }


@dataclass(frozen=True)
class AutoAugment(ImageTransform):
    """Applies one of 25 pairs of operations that were learnt on a dataset.

    ``policy`` is ``"imagenet"``, ``"cifar10"`` or ``"svhn"``; ``interpolation`` and ``fill`` as for ``RandAugment``.
    Source: Cubuk, Zoph, Mané, Vasudevan, Le, "AutoAugment: learning augmentation strategies from data", CVPR 2019, as
    in torchvision.
    """

    policy: str = "imagenet"
    interpolation: str = "nearest"
    fill: int | Sequence[int] | None = None
    op: ClassVar[str] = "auto_augment"

    def __post_init__(self) -> None:
        check.one_of("policy", self.policy, _POLICIES)
        self._replace(fill=_look(self.interpolation, self.fill))

    def _arguments(self) -> dict[str, Any]:
        return {"policy": self.policy, "interpolation": self.interpolation, "fill": self.fill}


def _nested(name: str, transforms: Any) -> tuple[ImageTransform, ...]:
    steps = tuple(transform_list("transforms", transforms))
    if not steps:
        raise ValueError(f"{name}: transforms={transforms!r}: expected at least one transform")
    for step in steps:
        if step.op in ("decode", "to_dtype", "normalize") or getattr(step, "num_output_channels", 3) == 1:
            raise ValueError(f"{name}: {step!r} changes the type of the pixels, which must be the same for all samples")
    return steps


@dataclass(frozen=True)
class RandomApply(ImageTransform):
    """Applies all of ``transforms`` with probability ``p``, and otherwise none of them.

    ``Decode``, ``ToDtype``, ``Normalize`` and ``Grayscale(1)`` can't be among them.
    """

    transforms: Sequence[ImageTransform]
    p: float = 0.5
    op: ClassVar[str] = "random_apply"

    def __post_init__(self) -> None:
        self._replace(transforms=_nested("RandomApply", self.transforms), p=_probability(self.p))

    def _arguments(self) -> dict[str, Any]:
        return {"transforms": [step._spec() for step in self.transforms], "p": self.p}


@dataclass(frozen=True)
class RandomChoice(ImageTransform):
    """Applies one of ``transforms``; ``p`` are their weights, which need not add up to 1 (None: all alike).

    All work on samples (``Decode``, ``ToDtype``, ``Normalize`` and ``Grayscale(1)`` can't be among them), or all on
    batches, such as ``RandomChoice([MixUp(), CutMix()])``, which then belongs in ``batch_transforms``.
    """

    transforms: Sequence[ImageTransform | BatchTransform]
    p: Sequence[float] | None = None
    op: ClassVar[str] = "random_choice"

    def __post_init__(self) -> None:
        steps = self.transforms if self.of_batches else _nested("RandomChoice", self.transforms)
        self._replace(transforms=tuple(steps))
        if self.p is not None:
            weights = check.numbers("p", self.p)
            if len(weights) != len(self.transforms) or min(weights) < 0 or sum(weights) == 0:
                wanted = f"{len(self.transforms)} weights of at least 0, not all of them 0"
                raise ValueError(f"p={self.p!r}: expected {wanted}")
            self._replace(p=weights)

    @property
    def of_batches(self) -> bool:
        """Whether it chooses among transforms of batches."""
        # Checked after this; a lone transform, say, has no items.
        steps: Any = self.transforms if isinstance(self.transforms, (list, tuple)) else ()
        return bool(steps) and all(isinstance(step, BatchTransform) for step in steps)

    def _arguments(self) -> dict[str, Any]:
        if self.of_batches:
            raise TypeError(f"{self!r} works on whole batches: put it in batch_transforms")
        return {
            "transforms": [step._spec() for step in self.transforms if isinstance(step, ImageTransform)],
            "p": self.p,
        }

    def _batch_spec(self, fields: Sequence[Field]) -> dict[str, Any]:
        steps = [step._batch_spec(fields) for step in self.transforms if isinstance(step, BatchTransform)]
        return {"op": self.op, "transforms": steps, "p": [1.0] * len(steps) if self.p is None else self.p}
