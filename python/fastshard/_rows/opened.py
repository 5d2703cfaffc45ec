"""What datasets and all their views share: the mapped folder, or several behind each other, and its fields."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastshard import _fastshard
from fastshard._base.escape import printable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Field", "Opened"]

_DTYPES = {
    "image": "uint8",
    "audio": "float32",
    "class": "int64",
    "boxes": "float32",
    "text": "str",
    "bytes": "bytes",
}
_SHAPES: dict[str, tuple[int, ...] | None] = {"image": None, "audio": None, "boxes": (4,)}


@dataclass(frozen=True)
class Field:
    """One named, typed column of a dataset.

    ``type`` is image, audio, class, tensor, scalar, list, boxes, text or bytes; ``dtype`` a NumPy name, or ``"str"``
    and ``"bytes"``; ``shape`` that of one sample, None where it differs between samples, or of one element of a list;
    ``class_names`` in the order of their numbers. ``of``: the field of the image that boxes lie in, or of the boxes
    that a list runs along; ``format``: what the numbers of a box are, such as ``"xyxy"`` or ``"cxcywh, normalized"``.
    """

    name: str
    type: str
    dtype: str
    shape: tuple[int, ...] | None
    class_names: tuple[str, ...] | None = None
    of: str | None = None
    format: str | None = None

    @classmethod
    def _from_manifest(cls, entry: Mapping[str, Any]) -> Field:
        kind = entry["type"]
        dtype = _DTYPES.get(kind) or entry["dtype"]
        shape = _SHAPES[kind] if kind in _SHAPES else tuple(entry.get("shape") or ())
        names = None if entry.get("class_names") is None else tuple(entry["class_names"])
        of = entry["image"] if kind == "boxes" else entry.get("along")
        numbers = entry["format"] + ", normalized" * bool(entry.get("normalized")) if kind == "boxes" else None
        return cls(entry["name"], kind, dtype, shape, names, of, numbers)

    @property
    def is_list(self) -> bool:
        """Whether samples have as many elements as each needs: lists, and boxes."""
        return self.type in ("list", "boxes")

    @property
    def is_file(self) -> bool:
        """Whether samples are stored as whole files: encoded images, and audio."""
        return self.type in ("image", "audio")

    @property
    def is_image(self) -> bool:
        """Whether transforms apply: encoded images, and raw ones, which are tensors ``[height, width, 1 or 3]``."""
        raw = self.type == "tensor" and self.dtype in ("uint8", "uint16") and self.class_names is None
        return self.type == "image" or (
            raw and self.shape is not None and len(self.shape) == 3 and self.shape[2] in (1, 3)
        )

    def __str__(self) -> str:
        shape = "" if not self.shape else str(list(self.shape))
        classes = "" if self.class_names is None else f" ({len(self.class_names):,} classes)"
        along = f" along {self.of}" if self.type == "list" and self.of else ""
        if self.type == "boxes":
            return printable(f"{self.name}: boxes in {self.of} ({self.format})")
        return printable(f"{self.name}: {self.type}{shape} {self.dtype}{classes}{along}")


class Opened:
    """What a dataset and all its views share."""

    def __init__(self, native: _fastshard.Dataset, paths: tuple[str, ...], parts: tuple[Opened, ...] = ()) -> None:
        self.native = native
        self.paths = paths
        self._parts = parts

    @classmethod
    def folder(cls, path: str) -> Opened:
        return cls(_fastshard.Dataset(path), (os.path.abspath(path),))

    @classmethod
    def join(cls, parts: Sequence[Opened]) -> Opened:
        """Folders behind each other; a single one as it is."""
        if len(parts) == 1:
            return parts[0]
        native = _fastshard.Dataset.concat([part.native for part in parts])
        return cls(native, tuple(path for part in parts for path in part.paths), tuple(parts))

    @property
    def parts(self) -> tuple[Opened, ...]:
        """The folders; itself if it is one."""
        return self._parts or (self,)

    def told_replaced(self, error: _fastshard.CorruptionError) -> _fastshard.CorruptionError:
        """The error, or what explains it: a folder that was overwritten after it was opened."""
        for path, fingerprint in self.sources:
            try:
                now = _fastshard.Dataset(path).sources()[0][1]
            except (_fastshard.FastshardError, OSError):
                continue  # damaged, or away
            if now != fingerprint:
                message = f"{path}: replaced by another dataset since it was opened; open it again"
                return _fastshard.CorruptionError(message)
        return error

    @functools.cached_property
    def sources(self) -> list[tuple[str, str]]:
        """Folder and fingerprint of each part."""
        fingerprints = (fingerprint for _, fingerprint in self.native.sources())
        return list(zip(self.paths, fingerprints, strict=True))

    @property
    def name(self) -> str:
        return " + ".join(self.paths)

    @property
    def key(self) -> tuple[str, str]:
        """The same for what holds the same rows."""
        path, content = self.native.sources()[0]
        return str(path), content

    def tables(self, columns: Sequence[str] | None = None, rows: range | None = None) -> Iterator[pa.Table]:
        """A table of each shard, not copied; ``columns`` and ``rows``, by default all of them, pick some.

        Values are those that a loader reads: found by the manifest, offsets checked, compared with their checksums.
        Only the bytes of files (images and audio) are not compared here.
        """
        import pyarrow as pa

        fields = list(self.fields if columns is None else [name for name in columns if name in self.fields])
        wanted = range(self.native.num_rows) if rows is None else rows
        block = start = 0
        for shard in self.manifest["shards"]:
            batches = []
            for entry in shard["blocks"]:
                first, last = max(start, wanted.start), min(start + entry["rows"], wanted.stop)
                if first < last:
                    batch = pa.record_batch(self.native.block(block, fields))
                    batches.append(batch.slice(first - start, last - first))
                block, start = block + 1, start + entry["rows"]
            if batches:
                table = pa.Table.from_batches(batches)
                yield table if columns is None else table.select(columns)

    def schema(self) -> pa.Schema:
        """The columns of the tables."""
        import pyarrow as pa

        return pa.schema(self.native.schema)

    def copied_on_write(self) -> Opened:
        """The same in a mapping whose pages become this process's own when somebody writes to an array over them."""
        if self._parts:
            return Opened.join([part.copied_on_write() for part in self._parts])
        opened = Opened(_fastshard.Dataset(self.paths[0], True), self.paths)
        opened.expect(self.sources)
        return opened

    def expect(self, sources: list[tuple[str, str]]) -> None:
        """Raises FormatError unless the folder is still the one that it was."""
        for (path, expected), (_, found) in zip(sources, self.sources, strict=True):
            if found != expected:
                message = f"{path}: changed since it was opened: fingerprint {found}, expected {expected}"
                raise _fastshard.FormatError(message)

    def need_files(self, what: str) -> None:
        """Raises ValueError where there are no files."""

    @functools.cached_property
    def manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads(self.native.manifest())
        return manifest

    @functools.cached_property
    def fields(self) -> dict[str, Field]:
        return {entry["name"]: Field._from_manifest(entry) for entry in self.manifest["fields"]}
