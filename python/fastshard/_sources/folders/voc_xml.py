"""An annotation of Pascal VOC: the objects of one XML file.

Strangers' XML is read with the bare expat parser: a DOCTYPE is refused, so there are no entities, and nothing is ever
fetched. Depth and size are bounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

from fastshard._fastshard import SourceError

__all__ = ["FLAGS", "VocAnnotation", "VocObject", "read_voc_xml"]

FLAGS = ("difficult", "truncated", "occluded")

_MAX_BYTES = 16 << 20
_MAX_DEPTH = 32
_OBJECT = ("annotation", "object")
_SIZE = ("annotation", "size")
_BOX = ("xmin", "ymin", "xmax", "ymax")
_KEPT = {
    *((*_SIZE, name) for name in ("width", "height")),
    *((*_OBJECT, name) for name in ("name", "pose", *FLAGS)),
    *((*_OBJECT, "bndbox", name) for name in _BOX),
}


@dataclass(frozen=True)
class VocObject:
    """A box as x1, y1, x2, y2 from 0, its class, and what VOC says of it. Flags are 0 where they aren't given."""

    name: str
    box: tuple[float, float, float, float]
    pose: str
    flags: dict[str, int]


class VocAnnotation(NamedTuple):
    """The objects of a file, in its order, and the width and height that it says its image has, or 0."""

    objects: list[VocObject]
    size: tuple[int, int]


def read_voc_xml(path: str, *, zero_based: bool) -> VocAnnotation:
    """What a file says. SourceError names the file and the object, which count from 1."""
    size = Path(path).stat().st_size
    if size > _MAX_BYTES:
        raise SourceError(f"{path}: {size:,} bytes; expected an annotation in at most 16 MiB")
    texts = _Texts(path)
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = texts.doctype
    parser.StartElementHandler = texts.start
    parser.EndElementHandler = texts.end
    parser.CharacterDataHandler = texts.characters
    parser.buffer_text = True
    try:
        parser.Parse(Path(path).read_bytes(), True)
    except expat.ExpatError as error:
        raise SourceError(f"{path}: {error}") from None
    if not texts.is_annotation:
        raise SourceError(f"{path}: no annotation in it; expected Pascal VOC's XML")
    numbered = enumerate(texts.objects, start=1)
    objects = [_object(f"{path}: object {number}", found, zero_based) for number, found in numbered]
    return VocAnnotation(objects, (_side(texts.size.get("width", "")), _side(texts.size.get("height", ""))))


def _side(text: str) -> int:
    """A number of pixels; what is none says nothing, since not every tool fills it in."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


@dataclass
class _Texts:
    """Collects the texts of the elements that are asked for, of each object."""

    file: str
    objects: list[dict[str, str]] = field(default_factory=list)
    size: dict[str, str] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    is_annotation: bool = False

    def doctype(self, *_: object) -> None:
        raise SourceError(f"{self.file}: has a DOCTYPE; expected plain XML without one")

    def start(self, name: str, _: dict[str, str]) -> None:
        self.path = (*self.path, name)
        if len(self.path) > _MAX_DEPTH:
            raise SourceError(f"{self.file}: elements lie {len(self.path)} deep; expected at most {_MAX_DEPTH}")
        self.is_annotation = self.is_annotation or self.path == _OBJECT[:1]
        if self.path == _OBJECT:
            self.objects.append({})
        if self.path in _KEPT:
            if name in self._texts:
                where = "" if self._texts is self.size else f" object {len(self.objects)}:"
                raise SourceError(f"{self.file}:{where} several {name}")
            self._texts[name] = ""

    def end(self, _: str) -> None:
        self.path = self.path[:-1]

    def characters(self, text: str) -> None:
        if self.path in _KEPT:
            self._texts[self.path[-1]] += text

    @property
    def _texts(self) -> dict[str, str]:
        """Those that the present element belongs to."""
        return self.size if self.path[:2] == _SIZE else self.objects[-1]


def _object(where: str, found: dict[str, str], zero_based: bool) -> VocObject:
    found = {name: text.strip() for name, text in found.items()}
    if not found.get("name"):
        raise SourceError(f"{where}: no name")
    flags = {}
    for name in FLAGS:
        if name in found:
            if found[name] not in ("0", "1"):
                raise SourceError(f"{where}: {name} is {found[name]!r}; expected 0 or 1")
            flags[name] = int(found[name])
    return VocObject(found["name"], _box(where, found, zero_based), found.get("pose", ""), flags)


def _box(where: str, found: dict[str, str], zero_based: bool) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (_number(where, name, found.get(name)) for name in _BOX)
    if x2 < x1 or y2 < y1:
        raise SourceError(f"{where}: from {x1:g}, {y1:g} to {x2:g}, {y2:g}; a box can't be smaller than nothing")
    if not zero_based and min(x1, y1) < 1:
        raise SourceError(
            f"{where}: begins at {x1:g}, {y1:g}, but VOC counts pixels from 1; zero_based=True is for sets that count "
            "from 0, and keeps their numbers"
        )
    return (x1, y1, x2, y2) if zero_based else (x1 - 1, y1 - 1, x2, y2)


def _number(where: str, name: str, text: str | None) -> float:
    if text is None:
        raise SourceError(f"{where}: no {name} in its bndbox")
    try:
        value = float(text)
    except ValueError:
        raise SourceError(f"{where}: {name} is {text[:40]!r}; expected a number") from None
    if not math.isfinite(value) or abs(value) > 1e9:
        raise SourceError(f"{where}: {name} is {text[:40]}; expected a finite number")
    return value
