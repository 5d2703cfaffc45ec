"""Sources that are datasets already: the same rows, stored another way; or several, as one with the classes of all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fastshard._fastshard import CorruptionError, SourceError
from fastshard._rows.arrow import read_table
from fastshard._rows.verify import verify
from fastshard._rows.view import View

from .base import StreamSource, ipc_stream
from .statistics import Statistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DatasetSource", "is_dataset"]


def is_dataset(folder: Path) -> bool:
    """Whether a folder says that it is a dataset; whether it is a sound one shows when it is opened."""
    try:
        return bool(json.loads((folder / "manifest.json").read_bytes()).get("format") == "fastshard")
    except (OSError, ValueError, AttributeError):
        return False


class DatasetSource(StreamSource):
    """The rows of datasets, or of views, as record batches: a block at a time, or what a shard should hold.

    Every byte is held against its checksum first, since the rows get new ones. Raises CorruptionError for a bad row,
    and SourceError if the fields differ in more than the names of classes.
    """

    def __init__(self, datasets: Sequence[View], shard_size: int, progress: bool | None) -> None:
        self._datasets = datasets
        self._shard_size = shard_size
        self._found = Statistics()
        parts = [_provenance(dataset) for dataset in datasets]
        self.provenance = parts[0] if len(parts) == 1 else {"kind": "datasets", "parts": parts}
        self.fields = _united([_described(dataset) for dataset in datasets], datasets)
        for dataset in {id(dataset._opened): dataset for dataset in datasets}.values():
            problems = (
                verify(dataset, None, progress, decode=False) if dataset.paths else []
            )  # arrays in memory have no checksums
            if problems:
                found = f"{problems[0]}; {len(problems):,} in all: nothing is packed from it"
                raise CorruptionError(f"{dataset._opened.name}: {found}")

    def __len__(self) -> int:
        return sum(map(len, self._datasets))

    def chunks(self) -> Iterator[bytes]:
        """One Arrow IPC stream with one record batch for every chunk of rows."""
        names = [field["name"] for field in self.fields]
        for dataset in self._datasets:
            codes = self._codes(dataset)
            for block in read_table(dataset).select(names).to_batches():
                parts = -(-block.nbytes // self._shard_size)
                rows = max(1, block.num_rows // max(1, parts))
                if not dataset.paths:
                    self._look_at(block)
                for start in range(0, block.num_rows, rows):
                    yield ipc_stream(_renumbered(block.slice(start, rows), codes, dataset))

    def _look_at(self, block: pa.RecordBatch) -> None:
        """Takes in the float fields of arrays in memory, which nobody has looked at before."""
        for field in self.fields:
            if str(field.get("dtype")).startswith("float"):
                column = block.column(field["name"])
                flat = column.flatten() if isinstance(column, pa.FixedSizeListArray) else column
                values = flat.to_numpy(zero_copy_only=False)
                self._found.add(field["name"], values.reshape(block.num_rows, *field.get("shape", ())))

    def _codes(self, dataset: View) -> dict[str, NDArray[np.int64]]:
        """The new number of each class, for fields where they change."""
        changed = {}
        for field in self.fields:
            own = dataset.field(field["name"]).class_names
            if own is not None and list(own) != field["class_names"][: len(own)]:
                changed[field["name"]] = np.array([field["class_names"].index(name) for name in own])
        return changed

    def described(self) -> dict[str, Any]:
        """What is known of the fields: what one dataset knew of all of its rows, or what arrays turned out to be."""
        if len(self._datasets) == 1 and self._datasets[0]._is_whole():
            return self._datasets[0].statistics or self._found.described()
        return self._found.described()


def _provenance(source: View) -> dict[str, Any]:
    paths = [str(path) for path in source.paths]
    return {
        "kind": "dataset",
        "path": paths[0] if len(paths) == 1 else paths or source._opened.name,
        "fingerprint": source.fingerprint,
        "source": source.manifest.get("provenance"),
    }


def _described(dataset: View) -> list[dict[str, Any]]:
    described = {field["name"]: field for field in dataset.manifest["fields"]}
    return [described[field.name] for field in dataset.fields]


def _united(described: Sequence[list[dict[str, Any]]], datasets: Sequence[View]) -> list[dict[str, Any]]:
    """The fields of all, with every class that one of them has, in the order in which they first come."""
    united = [dict(field) for field in described[0]]
    for fields, dataset in zip(described[1:], datasets[1:], strict=True):
        if list(map(_but_for_classes, fields)) != list(map(_but_for_classes, united)):
            listed = [", ".join(map(str, one.fields)) for one in (dataset, datasets[0])]
            raise SourceError(f"{dataset._opened.name} has {listed[0]}; expected the fields of the first, {listed[1]}")
        for whole, field in zip(united, fields, strict=True):
            if whole["type"] == "class":
                whole["class_names"] = list(dict.fromkeys([*whole["class_names"], *field["class_names"]]))
    return united


def _but_for_classes(field: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in field.items() if name != "class_names" or field["type"] != "class"}


def _renumbered(batch: pa.RecordBatch, codes: Mapping[str, NDArray[np.int64]], dataset: View) -> pa.RecordBatch:
    for name, numbers in codes.items():
        at = batch.schema.get_field_index(name)
        old = batch.column(at).to_numpy(zero_copy_only=False)
        outside = (old < 0) | (old >= len(numbers))
        if outside.any():
            wanted = f"expected a number below {len(numbers)}"
            raise SourceError(f"{dataset._opened.name}: field {name!r} holds the class {old[outside][0]}, {wanted}")
        batch = batch.set_column(at, batch.schema.field(at), pa.array(numbers[old], batch.schema.field(at).type))
    return batch
