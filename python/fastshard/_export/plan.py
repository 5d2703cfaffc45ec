"""What all formats share: which fields go where, what is refused before a byte is written, and images as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastshard import _fastshard
from fastshard._base.names import safe_name
from fastshard._base.png import png
from fastshard._fastshard import SourceError
from fastshard._rows.opened import Field
from fastshard._rows.view import View

from .rows import Block

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Plan", "Writer", "check_codes", "encoded", "file_name", "is_pixels", "suffix_of"]

# The first is written where the name that was packed has another; the rest are as good.
_SUFFIXES = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "png": (".png",),
    "webp": (".webp",),
    "bmp": (".bmp",),
    "gif": (".gif",),
    "tiff": (".tif", ".tiff"),
    "wav": (".wav", ".wave"),
    "flac": (".flac",),
    "mp3": (".mp3",),
    "ogg": (".ogg", ".oga"),
}


class Writer(Protocol):
    """One format: takes blocks in their order, and has counted what it wrote when it is finished."""

    notes: list[str]

    @property
    def columns(self) -> Sequence[str]:
        """What it needs of fastshard's own columns."""

    @property
    def files(self) -> int:
        """Those written."""

    @property
    def bytes(self) -> int:
        """Of all of them."""

    def write(self, block: Block) -> None:
        """Writes some rows."""

    def finish(self) -> None:
        """Writes what comes at the end."""

    def close(self) -> None:
        """Lets go of files and threads, also after an error."""


@dataclass(frozen=True)
class Plan:
    """What is to be exported, as options that have been checked."""

    dataset: View
    fields: tuple[Field, ...]
    label: str | None
    name: str
    shard_size: int
    categories: Sequence[Mapping[str, Any]] | None
    num_threads: int

    @classmethod
    def of(cls, dataset: View, fields: Sequence[str] | None, **options: Any) -> Plan:
        """With the fields of these names in the dataset's order; all for None."""
        if isinstance(fields, str):
            raise TypeError(f"fields={fields!r}: expected a list of names")
        wanted = {dataset.field(name).name for name in (fields or ())}
        if fields is not None and not wanted:
            raise ValueError(f"fields={fields!r}: expected at least one name")
        return cls(dataset, tuple(one for one in dataset.fields if fields is None or one.name in wanted), **options)

    def image(self, to: str) -> Field:
        """The one field of images."""
        return self._only(to, "images", self._images())

    def file(self, to: str) -> Field:
        """The one field of images or, where there are none, of audio."""
        images = self._images()
        audio = [one for one in self.fields if one.type == "audio"]
        return self._only(to, "images or audio", images or audio)

    def _images(self) -> list[Field]:
        return [one for one in self.fields if one.type == "image"] or [one for one in self.fields if one.is_image]

    def _only(self, to: str, what: str, found: Sequence[Field]) -> Field:
        if len(found) != 1:
            listed = ", ".join(one.name for one in found) or "none"
            raise ValueError(
                f"to={to!r} needs one field of {what}, there are: {listed}; name all to export with fields="
            )
        return found[0]

    def class_field(self) -> Field | None:
        """The field whose classes become folders, if there is one."""
        classes = [one for one in self.fields if one.type == "class"]
        if self.label is not None:
            chosen = [one for one in classes if one.name == self.label]
        else:
            chosen = classes if len(classes) == 1 else [one for one in classes if one.name == "label"]
        if not chosen and (classes or self.label is not None):
            listed = ", ".join(one.name for one in classes) or "none"
            raise ValueError(f"label={self.label!r}: expected one of the fields with classes: {listed}")
        return chosen[0] if chosen else None


def check_codes(block: Block, of: Field) -> NDArray[np.int64]:
    """The numbers of classes. SourceError for one that is none."""
    codes = np.asarray(block.values(of))
    outside = (codes < 0) | (codes >= len(of.class_names or ()))
    if outside.any():
        at = int(np.argmax(outside))
        wanted = f"expected a number below {len(of.class_names or ())}"
        raise SourceError(f"row {block.rows[at]}: field {of.name!r} holds the class {codes[at]}, {wanted}")
    return codes


def is_pixels(of: Field) -> bool:
    """Whether a field's images are raw pixels."""
    return of.is_image and of.type == "tensor"


def encoded(value: Any, of: Field) -> bytes | memoryview:
    """The bytes of an image, or audio, as a file: as they are stored, or raw pixels as PNG."""
    return png(value) if is_pixels(of) else value[0]


def suffix_of(data: bytes | memoryview, row: int, of: Field) -> str:
    """``.jpg`` and so on, by what the image or audio is. SourceError if it is none."""
    kind = _fastshard.audio_format(bytes(data)) if of.type == "audio" else _fastshard.image_format(bytes(data[:64]))
    if kind is None:
        raise SourceError(f"row {row}: field {of.name!r} holds no {of.type} of a known format")
    return _SUFFIXES[kind][0]


def file_name(path: str, suffix: str, place: int) -> tuple[str, str]:
    """Stem and suffix for a file that came from ``path``; without one it is named after its place in the export."""
    name = PurePosixPath(path.replace("\\", "/")).name
    own = PurePosixPath(name).suffix
    same = next(known for known in _SUFFIXES.values() if suffix in known)
    known = {one for several in _SUFFIXES.values() for one in several}
    stem = name[: -len(own)] if own.lower() in known else name
    return safe_name(stem, f"{place:08d}"), own if own.lower() in same else suffix
