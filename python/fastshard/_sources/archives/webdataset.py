"""WebDataset: tar archives in which files of one name, but for what follows its first dot, are a sample."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastshard._fastshard import SourceError
from fastshard._sources.base import Encoded
from fastshard._sources.options import SourceOptions
from fastshard._sources.rows import RowSource
from fastshard._sources.samples import PICKLES, chained, in_archive, parse_npy, rows_of, text_of
from fastshard._sources.stream import open_input
from fastshard._sources.walk import AUDIO_SUFFIXES, IMAGE_SUFFIXES

from .tar import tar_members

__all__ = ["webdataset_source"]

_IMAGES = tuple(suffix[1:] for suffix in IMAGE_SUFFIXES)
_AUDIO = tuple(suffix[1:] for suffix in AUDIO_SUFFIXES)
_FILES = ("image", "audio")
_TEXTS = ("txt", "text", "caption", "transcript")


class _Group(NamedTuple):
    """The members of a sample: what follows the first dot of their names, and their bytes or places."""

    archive: str
    key: str
    parts: dict[str, tuple[str, bytes | Encoded]]

    @property
    def place(self) -> str:
        """For errors."""
        return f"{self.archive}: {self.key}"

    @property
    def size(self) -> int:
        """Bytes of all members, places included, since those are read soon."""
        return sum(value.size if isinstance(value, Encoded) else len(value) for _, value in self.parts.values())


def webdataset_source(paths: Sequence[str], options: SourceOptions) -> RowSource:
    """The samples of archives, one archive behind the other.

    Raises SourceError that names archive, member and reason.
    """
    ignored: list[str] = []
    groups = chained(paths, lambda path: _groups(path, ignored, options.types))
    provenance = {"kind": "webdataset", "source": list(paths) if len(paths) > 1 else paths[0]}
    source = rows_of(groups, lambda first: _Plan(first, options), options, provenance)
    source.ignored_files = ignored
    return source


def _groups(path: str, ignored: list[str], types: Mapping[str, str]) -> Iterator[_Group]:
    source = open_input(path)
    try:
        seen: set[str] = set()
        group: _Group | None = None
        for name, value in tar_members(source, lambda name: _kind_of(_split(name)[1], types) in _FILES):
            key, suffix = _split(name)
            if not suffix:
                ignored.append(f"{Path(path).name}/{name}")
                continue
            if group is None or key != group.key:
                if key in seen:
                    raise SourceError(
                        f"{path}: member {name!r}: belongs to a sample that has ended before; sort by name"
                    )
                if group is not None:
                    yield group
                seen.add(key)
                group = _Group(path, key, {})
            if suffix in group.parts:
                raise SourceError(f"{path}: member {name!r}: there are two of the name {group.parts[suffix][0]!r}")
            group.parts[suffix] = name, value
        if group is not None:
            yield group
    finally:
        source.close()


def _split(name: str) -> tuple[str, str]:
    """Key and suffix: what comes before the first dot of the last part of a name, and behind it, in small letters."""
    folder, slash, last = name.removeprefix("./").rpartition("/")
    stem, _, suffix = last.partition(".")
    # Hidden files, those without a suffix, and what WebDataset keeps for itself.
    ours = stem and suffix and not (stem.startswith("__") and stem.endswith("__"))
    return (folder + slash + stem, suffix.lower()) if ours else (name, "")


def _last(name: str) -> str:
    return name.rpartition(".")[2]


class _Plan:
    """What each member becomes; the first samples decide whether JSON objects become fields of their own."""

    def __init__(self, first: Sequence[_Group], options: SourceOptions) -> None:
        self._pickles = options.pickles
        self._asked = options.types
        self._has_class_names = "label" in options.class_names
        self._flat = {} if options.types.get("json") == "text" else _flat_keys(first)
        self.types = {
            name: "bytes"
            for group in first
            for name in group.parts
            if _kind_of(name, self._asked) == "bytes" or _last(name) in PICKLES
        }
        for group in first:
            self.types |= {field: kind for _, kind, field in self._files(group) if kind == "audio"}

    def decode(self, group: _Group) -> dict[str, Any]:
        """The fields of a sample."""
        fields: dict[str, Any] = {"key": group.key}
        files = {suffix: field for suffix, _, field in self._files(group)}
        for suffix, (name, value) in group.parts.items():
            if suffix in files:
                _put(fields, files[suffix], in_archive(group.archive, name, value))
                continue
            assert isinstance(value, bytes)
            if suffix != "json" or not self._flat:
                kind = _kind_of(suffix, self._asked)
                _put(fields, "label" if suffix == "cls" else suffix, self._value(kind, name, value))
        if self._flat and "json" in group.parts:
            # Last, so that what a name becomes doesn't depend on the order of members.
            taken = set(fields)
            for field, one in self._columns(*group.parts["json"]).items():
                _put(fields, f"json.{field}" if field in taken or field.startswith("_") else field, one)
        return fields

    def _files(self, group: _Group) -> list[tuple[str, str, str]]:
        """Suffix, kind and field of a sample's images and audio; the only one of its kind is called like that."""
        kinds = {suffix: _kind_of(suffix, self._asked) for suffix in group.parts}
        found = [kind for kind in kinds.values() if kind in _FILES]
        names = {kind: kind if found.count(kind) == 1 else None for kind in found}
        return [(suffix, kind, names[kind] or suffix) for suffix, kind in kinds.items() if kind in names]

    def _value(self, kind: str, name: str, data: bytes) -> Any:
        what = f"member {name!r}"
        if kind == "pickle" and self._pickles != "bytes":
            raise SourceError(f'{what}: a pickle, which could do anything; pickles="bytes" keeps it as bytes, unread')
        if kind == "label":
            return self._label(what, text_of(what, data).strip())
        if kind in ("text", "json"):
            return text_of(what, data)
        return parse_npy(what, data) if kind == "npy" else data

    def _label(self, what: str, text: str) -> int | str:
        try:
            return int(text)
        except ValueError:
            if self._has_class_names:
                return text
            raise SourceError(f"{what}: {text[:60]!r}; expected a whole number, or class_names for 'label'") from None

    def _columns(self, name: str, data: bytes | Encoded) -> dict[str, Any]:
        """The values of a JSON object that is as flat as the first ones were."""
        what = f"member {name!r}"
        found = _flat(data) if isinstance(data, bytes) else None
        if found is None or found.keys() != self._flat.keys():
            wanted = f"an object of {', '.join(map(repr, self._flat))}, as in the first samples"
            raise SourceError(f'{what}: expected {wanted} (types={{"json": "text"}} keeps objects as text)')
        return {key: self._cast(key, found[key]) for key in self._flat}

    def _cast(self, key: str, value: Any) -> Any:
        return float(value) if self._flat[key] is float and type(value) is int else value


def _put(fields: dict[str, Any], name: str, value: Any) -> None:
    if name in fields:
        raise SourceError(f"two fields would be named {name!r}")
    fields[name] = value


def _kind_of(suffix: str, types: Mapping[str, str]) -> str:
    """What a member is, by its suffix; audio that ``types`` calls bytes stays such, whatever its codec."""
    kind = _kind(suffix)
    return "bytes" if kind == "audio" and types.get(suffix) == "bytes" else kind


@functools.lru_cache(1024)
def _kind(suffix: str) -> str:
    last = _last(suffix)
    if last in _IMAGES:
        return "image"
    if last in _AUDIO:
        return "audio"
    if last in PICKLES:
        return "pickle"
    if suffix in ("cls", "cls2", "index", "inx", "count"):
        return "label"
    return "text" if last in _TEXTS else last if last in ("json", "npy") else "bytes"


def _flat(data: bytes) -> Mapping[str, Any] | None:
    """A JSON object of texts, numbers and truth values; None for all else."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not found or "" in found:
        return None
    simple = all(type(one) in (str, int, float, bool) for one in found.values())
    small = all(type(one) is not int or -(2**63) <= one < 2**63 for one in found.values())
    return found if simple and small else None


def _flat_keys(groups: Sequence[_Group]) -> dict[str, type]:
    """The keys of JSON objects that are flat and alike in all of some samples, and the types of their values."""
    found = [
        _flat(value)
        for group in groups
        for suffix, (_, value) in group.parts.items()
        if suffix == "json" and isinstance(value, bytes)
    ]
    types: dict[str, set[type]] = {}
    for one in found:
        if one is None or one.keys() != found[0].keys():  # type: ignore[union-attr]
            return {}
        for key, value in one.items():
            types.setdefault(key, set()).add(type(value))
    if any(len(kinds) > 1 and kinds != {int, float} for kinds in types.values()):
        return {}
    return {key: float if float in kinds else next(iter(kinds)) for key, kinds in types.items()}
