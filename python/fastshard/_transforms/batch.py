"""Transforms of whole batches: native ones that mix samples, and Python functions of your own behind them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fastshard._base import check

from .base import Transform

if TYPE_CHECKING:
    from fastshard._rows.opened import Field

__all__ = ["BatchTransform", "CutMix", "Lambda", "MixUp", "batch_transform_lists", "check_batch"]

BatchFunction = Callable[[dict[str, Any]], dict[str, Any]]


class BatchTransform(Transform, ABC):
    """One native step for whole batches, for ``Loader(batch_transforms=...)``. Use its subclasses."""

    @abstractmethod
    def _batch_spec(self, fields: Sequence[Field]) -> dict[str, Any]:
        """What the native core takes, for a loader of these fields."""


@dataclass(frozen=True)
class _Mix(BatchTransform):
    num_classes: int | None = None
    alpha: float = 1.0
    image: str | None = None
    label: str | None = None
    op: ClassVar[str]

    def __post_init__(self) -> None:
        if self.num_classes is not None:
            check.integer("num_classes", self.num_classes, 1)
        check.number("alpha", self.alpha, 1e-6, 1e6)

    def _batch_spec(self, fields: Sequence[Field]) -> dict[str, Any]:
        image = self._field("image", fields, [field for field in fields if field.is_image])
        label = self._field("label", fields, [field for field in fields if field.type == "class"])
        return {
            "op": self.op,
            "image": image.name,
            "label": label.name,
            "num_classes": self._classes(label),
            "alpha": float(self.alpha),
        }

    def _field(self, role: str, fields: Sequence[Field], candidates: Sequence[Field]) -> Field:
        name = getattr(self, role)
        listed = ", ".join(field.name for field in candidates) or "none"
        if name is None:
            if len(candidates) != 1:
                kind = "image" if role == "image" else "class"
                raise ValueError(f"{self!r}: expected one {kind} field, there are: {listed}; pass {role}=")
            return candidates[0]
        loaded = {field.name: field for field in fields}
        return loaded[check.one_of(role, name, tuple(loaded))]

    def _classes(self, label: Field) -> int:
        if self.num_classes is not None:
            return self.num_classes
        if label.class_names is None:
            raise ValueError(f"{self!r}: pass num_classes, field {label.name!r} has no class names")
        return len(label.class_names)


@dataclass(frozen=True)
class MixUp(_Mix):
    """Adds every image and the one before it in the batch up, and their labels with the same weights.

    ``lambda * own + (1 - lambda) * other``, one lambda a batch, from Beta(``alpha``, ``alpha``). Labels become float32
    ``[batch, num_classes]``. Integer images are rounded to the nearest.

    ``image`` and ``label`` name the fields, by default the only image and the only class field. A label is a class
    number, or a tensor of ``num_classes`` numbers; ``num_classes`` is by default that of its class names. Lambda
    depends on the seed, the epoch and the batch's place in it, so results change with the batch size. Shuffle: the
    partner is the neighbour. Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2017, as in
    ``torchvision.transforms.v2.MixUp``.
    """

    op: ClassVar[str] = "mixup"


@dataclass(frozen=True)
class CutMix(_Mix):
    """Pastes a box of the image before it into every image, and adds their labels up by the box's share of the area.

    One box a batch; it has 1 - lambda of the area, lambda from Beta(``alpha``, ``alpha``), and is cut off at borders.
    The arguments are those of ``MixUp``. Source: Yun et al., "CutMix: Regularization Strategy to Train Strong
    Classifiers with Localizable Features", 2019, as in ``torchvision.transforms.v2.CutMix``.
    """

    op: ClassVar[str] = "cutmix"


@dataclass(frozen=True)
class Lambda(Transform):
    """Calls ``fn`` with every batch, a dict of writable arrays, and hands on the dict that it returns.

    The slow door: it runs in the thread that iterates, under Python's lock, after all native batch transforms and while
    the next batches are filled behind it. What ``fn`` raises ends the pass. A loader with it can be pickled, and so
    sent to worker processes that are spawned, if ``fn`` can. ``Loader.batch_spec`` describes what ``fn`` gets.
    """

    fn: BatchFunction

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise TypeError(f"fn={self.fn!r}: expected a function of a dict of arrays")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """``fn(batch)``, which must be a dict."""
        result = self.fn(batch)
        if not isinstance(result, dict):
            raise TypeError(f"{self!r} returned {type(result).__name__}, expected a dict of arrays")
        return result


def batch_transform_lists(value: Any, fields: Sequence[Field]) -> tuple[list[dict[str, Any]], tuple[Lambda, ...]]:
    """The native steps as the core takes them, and the Python functions behind them."""
    single = _is_native(value) or callable(value)
    if not single and (isinstance(value, (str, Mapping)) or not isinstance(value, Iterable)):
        raise TypeError(f"batch_transforms={value!r}: expected a list such as [MixUp()]")
    native: list[dict[str, Any]] = []
    functions: list[Lambda] = []
    for step in [value] if single else value:
        if isinstance(step, Lambda):
            functions.append(step)
        elif not _is_native(step):
            raise TypeError(f"batch_transforms: {step!r} {_hint(step)}")
        elif functions:
            raise ValueError(f"batch_transforms: {step!r} comes after Lambda; native ones run first, put it before")
        else:
            native.append(step._batch_spec(fields))
    return native, tuple(functions)


def _is_native(step: Any) -> bool:
    return isinstance(step, BatchTransform) or bool(getattr(step, "of_batches", False))


def _hint(step: object) -> str:
    if isinstance(step, type):
        return "is not a batch transform (an instance, with parentheses)"
    if hasattr(step, "_spec"):
        return "works on one sample: put it in transforms"
    if callable(step):
        return "is a function: wrap it in fs.Lambda"
    return "is not a batch transform"


def check_batch(batch: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
    """Raises ValueError for fields that a Lambda left out, or whose shape or dtype it changed."""
    for name, wanted in spec.items():
        if name not in batch:
            raise ValueError(f"a Lambda left out field {name!r}, received {', '.join(batch) or 'nothing'}")
        shape, dtype = getattr(batch[name], "shape", None), str(getattr(batch[name], "dtype", type(batch[name])))
        kind = "object" if wanted.dtype in ("str", "bytes") else wanted.dtype
        fits = shape is not None and len(shape) == len(wanted.shape)
        fits = fits and all(want in (None, size) for want, size in zip(wanted.shape, shape or (), strict=True))
        if not fits or dtype != kind:
            raise ValueError(
                f"a Lambda made field {name!r} {dtype} {shape}, expected {kind} {wanted.shape}, as before: here shapes "
                "and dtypes are fixed beforehand"
            )
