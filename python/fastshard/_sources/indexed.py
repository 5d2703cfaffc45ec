"""Datasets with a length and ``[]``, such as torchvision's: pairs or dicts, known by what they do."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastshard._base.records import SkippedRow
from fastshard._fastshard import SourceError

from .base import Encoded, Sample
from .columns import is_picture
from .options import SourceOptions
from .rows import RowSource

__all__ = ["indexed_source"]


class _Items(Sized):
    """The items of a dataset as samples."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._name = type(dataset).__name__
        self._names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[Sample]:
        for row in range(len(self)):
            place = f"{self._name}[{row}]"
            yield Sample(place, row, self._fields(place, self._dataset[row]))

    def _fields(self, place: str, item: Any) -> dict[str, Any]:
        if isinstance(item, Mapping):
            return {str(name): _plain(value) for name, value in item.items()}
        if not isinstance(item, (tuple, list)) or not item:
            raise SourceError(f"{place} is {type(item).__name__}; expected a pair (image, label), or a dict")
        if self._names is None:
            self._names = _names(item)
        if len(item) != len(self._names):
            raise SourceError(f"{place} has {len(item)} parts; expected {len(self._names)}, as the first")
        return {name: _plain(value) for name, value in zip(self._names, item, strict=True)}


class _Files(Sized):
    """The files that a dataset of torchvision's knows, as they are, and their classes."""

    def __init__(self, samples: Sequence[tuple[str, int]], rows: Sequence[int]) -> None:
        self._samples, self._rows = samples, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Sample]:
        for number, row in enumerate(self._rows):
            path, label = self._samples[row]
            file = Path(path)
            try:
                size = file.stat().st_size
            except OSError as error:
                raise SourceError(f"{path}: {error.strerror}") from None
            image = Encoded(f"{file.parent.name}/{file.name}", b"", str(file), 0, size)
            yield Sample(str(path), number, {"image": image, "label": int(label)})


def indexed_source(dataset: Any, options: SourceOptions) -> RowSource:
    """The items from 0 on. Files that a dataset would only open are taken as they are; other pictures become PNG."""
    whole, rows = _unwrapped(dataset)
    files = _files(whole)
    items: _Items | _Files = (
        _Items(dataset) if files is None else _Files(files, range(len(files)) if rows is None else rows)
    )
    provenance = {"kind": "indexed", "source": f"{type(dataset).__module__}.{type(dataset).__name__}"}
    skipped: list[SkippedRow] | None = [] if options.on_error == "skip" else None
    first = next(iter(items), None)
    if first is None:
        raise SourceError(f"{type(dataset).__name__}: no items")
    options = replace(options, class_names={**_class_names(whole, first), **options.class_names})
    return RowSource(
        items, options.class_names, options.shard_size, options.types, provenance=provenance, skipped=skipped
    )


def _unwrapped(dataset: Any) -> tuple[Any, Sequence[int] | None]:
    """What a subset is one of, and which of its items; subsets of subsets too."""
    rows: Sequence[int] | None = None
    while hasattr(dataset, "dataset") and isinstance(getattr(dataset, "indices", None), Sequence):
        rows = list(dataset.indices) if rows is None else [dataset.indices[row] for row in rows]
        dataset = dataset.dataset
    return dataset, rows


def _files(dataset: Any) -> Sequence[tuple[str, int]] | None:
    """Paths and classes, where items are these files and nothing that was made of them."""
    samples = getattr(dataset, "samples", None)
    made = any(getattr(dataset, name, None) is not None for name in ("transform", "target_transform", "transforms"))
    if made or not isinstance(samples, list) or not hasattr(dataset, "class_to_idx") or not hasattr(dataset, "loader"):
        return None
    sound = all(isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str) for one in samples)
    pictures = getattr(dataset.loader, "__module__", "").startswith("torchvision.")
    return samples if samples and sound and pictures and len(samples) == len(dataset) else None


def _class_names(dataset: Any, first: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """The names in ``classes`` for whole numbers that are called label."""
    classes = getattr(dataset, "classes", None)
    label = first.get("label")
    whole = hasattr(label, "__index__") and not isinstance(label, bool)
    if not whole or not isinstance(classes, (list, tuple)) or not classes:
        return {}
    return {"label": [str(name) for name in classes]}


def _names(item: Sequence[Any]) -> tuple[str, ...]:
    if len(item) == 2:
        return ("image", "label") if _is_pictorial(item[0]) else ("features", "label")
    if len(item) == 1:
        return ("image",) if _is_pictorial(item[0]) else ("features",)
    return tuple(f"field_{number}" for number in range(len(item)))


def _is_pictorial(value: Any) -> bool:
    return is_picture(value) or isinstance(value, (bytes, Encoded)) or getattr(value, "ndim", 0) in (2, 3)


def _plain(value: Any) -> Any:
    """Tensors as arrays; their numbers and NumPy's as they are."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    return value[()] if getattr(value, "ndim", None) == 0 and type(value).__module__ == "numpy" else value
