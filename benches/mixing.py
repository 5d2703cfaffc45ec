"""How well a block-wise shuffle mixes: what is left of the file's order, against a uniform shuffle.

    python benches/mixing.py

Only the order counts here, so the rows are small; blocks have as many as 16 MiB hold of photographs of 64 KB, and
classes as many as ImageNet's. Once for a dataset that is stored class by class, as folders are packed only on demand,
and once for one in random order, their default. Figures are means over epochs; none depends on the machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

import fastshard as fs
from fastshard._sources import rows as _rows

ROOT = Path(__file__).resolve().parent.parent
ROWS, BLOCK = 256_000, 256
CLASS = 1280
BATCH = 256

Order = NDArray[np.int64]


def neighbours(order: Order, _: Order) -> float:
    """Share of samples behind which comes a neighbour of theirs in the file."""
    return float(np.mean(np.abs(np.diff(order)) == 1))


def same_block(order: Order, _: Order) -> float:
    """Share of samples behind which comes one of the same block."""
    return float(np.mean(np.diff(order // BLOCK) == 0))


def distance(order: Order, _: Order) -> float:
    """How far from its place in the file a sample comes, as a share of the epoch."""
    return float(np.mean(np.abs(order - np.arange(len(order)))) / len(order))


def blocks_in_batch(order: Order, _: Order) -> float:
    return fmean(len(np.unique(batch // BLOCK)) for batch in batches(order))


def classes_in_batch(order: Order, labels: Order) -> float:
    return fmean(len(np.unique(labels[batch])) for batch in batches(order))


def largest_class(order: Order, labels: Order) -> float:
    """Share of a batch that its most frequent class has."""
    return fmean(np.bincount(labels[batch]).max() for batch in batches(order)) / BATCH


def batches(order: Order) -> Order:
    return order[: len(order) // BATCH * BATCH].reshape(-1, BATCH)


MEASURES: dict[str, Callable[[Order, Order], float]] = {
    "next sample is a neighbour in the file": neighbours,
    "next sample is of the same block": same_block,
    "distance from the place in the file, of the epoch": distance,
    "blocks in a batch of 256": blocks_in_batch,
    "classes in a batch of 256": classes_in_batch,
    "share of the largest class in a batch": largest_class,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a block-wise shuffle mixes.")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench", help="shards, kept")
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "results", help="where mixing.json goes")
    options = parser.parse_args()
    path = pack(options.work / f"mixing-{ROWS}")
    orders = {name: read(path, shuffle, options.epochs) for name, shuffle in (("block", "block"), ("uniform", True))}
    by_class = np.arange(ROWS) // CLASS
    figures = {
        stored: {
            measure: {name: fmean(function(order, labels) for order in epochs) for name, epochs in orders.items()}
            for measure, function in MEASURES.items()
        }
        for stored, labels in (
            ("class by class", by_class),
            ("in random order", np.random.default_rng(0).permutation(by_class)),
        )
    }
    print(text(figures))
    options.out.mkdir(parents=True, exist_ok=True)
    settings = {"rows": ROWS, "rows a block": BLOCK, "rows a class": CLASS, "epochs": options.epochs}
    (options.out / "mixing.json").write_text(json.dumps(settings | figures, indent=2) + "\n")


def pack(path: Path) -> Path:
    if not path.exists():
        with patch.object(_rows, "_FIXED_CHUNK_BYTES", 8 * BLOCK):  # of 8 bytes a row
            fs.pack(({"row": row} for row in range(ROWS)), path, progress=False)
    blocks = {block["rows"] for shard in fs.open(path).manifest["shards"] for block in shard["blocks"]}
    if blocks != {BLOCK}:
        raise RuntimeError(f"blocks of {sorted(blocks)} rows, expected {BLOCK}")
    return path


def read(path: Path, shuffle: bool | str, epochs: int) -> list[Order]:
    loader = fs.Loader(path, 8192, shuffle=shuffle, seed=1)
    return [np.concatenate([batch["row"] for batch in loader]) for _ in range(epochs)]


def text(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = []
    for stored, measures in figures.items():
        lines += [f"Stored {stored}:", "", "| | `block` | `uniform` |", "|---|---|---|"]
        lines += [
            f"| {measure} | {found['block']:.4g} | {found['uniform']:.4g} |" for measure, found in measures.items()
        ]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
