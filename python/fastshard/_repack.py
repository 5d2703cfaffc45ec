"""Sources that are datasets already: the same rows, stored another way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from ._dataset import Dataset
from ._fastshard import CorruptionError

__all__ = ["DatasetSource", "is_dataset"]


def is_dataset(folder: Path) -> bool:
    """Whether a folder says that it is a dataset; whether it is a sound one shows when it is opened."""
    try:
        return bool(json.loads((folder / "manifest.json").read_bytes()).get("format") == "fastshard")
    except (OSError, ValueError, AttributeError):
        return False


class DatasetSource:
    """The rows of a dataset, or of a view of one, as record batches: a block at a time, or what a shard should hold.

    Every byte is held against its checksum first, since the rows get new ones. Raises CorruptionError for a bad row.
    """

    def __init__(self, dataset: Dataset, shard_size: int, progress: bool | None) -> None:
        problems = dataset.verify(progress=progress)
        if problems:
            raise CorruptionError(f"{dataset.path}: {problems[0]}; {len(problems):,} in all: nothing is packed from it")
        self._dataset = dataset
        self._shard_size = shard_size
        described = {field["name"]: field for field in dataset.manifest["fields"]}
        self.fields: list[dict[str, Any]] = [described[field.name] for field in dataset.fields]

    def __len__(self) -> int:
        return len(self._dataset)

    def chunks(self) -> Iterator[bytes]:
        """One Arrow IPC stream with one record batch for every chunk of rows."""
        table = self._dataset.to_arrow().select([field["name"] for field in self.fields])
        for block in table.to_batches():
            parts = -(-block.nbytes // self._shard_size)
            rows = max(1, block.num_rows // max(1, parts))
            for start in range(0, block.num_rows, rows):
                yield _stream(block.slice(start, rows))

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the rows came from, kept beside where those came from."""
        source = self._dataset
        return {
            "kind": "dataset",
            "path": str(source.path),
            "fingerprint": source.fingerprint,
            "source": source.manifest.get("provenance"),
        }


def _stream(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())
