"""A data set larger than half of the memory: does reading it stay within the stated bound?

    python benches/large.py                 # packs half of the memory and a tenth more, once, then reads it

Raw pixels are packed from an iterable, then read once shuffled and once in order, while the process's anonymous memory
is watched: what it takes beyond the mapped shards.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastshard as fs
from processes import memory_of

ROOT = Path(__file__).resolve().parent.parent
SIDE = 224
SAMPLE = SIDE * SIDE * 3
BATCH = 64
PREFETCH = 3


def main() -> None:
    options = parse()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    rows = int((options.gigabytes * 1e9 if options.gigabytes else memory * 0.55) / SAMPLE)
    target = options.work / f"large-{rows}"
    if not target.exists():
        before, started = memory_of("self")["RssAnon"], time.perf_counter()
        fs.pack(samples(rows), target)
        seconds = time.perf_counter() - started
        grown = (memory_of("self")["RssAnon"] - before) / 2**20
        print(f"packed {rows:,} rows, {rows * SAMPLE / 1e9:.1f} GB, in {seconds:.0f} s; memory grew by {grown:.0f} MiB")
    bound = PREFETCH * BATCH * SAMPLE / 2**20 + 100
    print(f"{rows * SAMPLE / memory:.0%} of the memory; the bound is {bound:.0f} MiB beyond the mapping")
    for shuffle in (True, False):
        rate, grown = epoch(target, shuffle)
        order = "shuffled" if shuffle else "in order"
        print(f"{order}: {rate:,.0f} img/s, memory beyond the mapping grew by {grown:.0f} MiB")
    if not options.keep:
        shutil.rmtree(target)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Read a data set larger than half of the memory.")
    parser.add_argument("--gigabytes", type=float, help="size (default: 55 %% of the memory)")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--keep", action="store_true", help="keep the data set")
    return parser.parse_args()


def samples(rows: int) -> Iterator[dict[str, Any]]:
    from skimage import data

    photo = data.astronaut()[:SIDE, :SIDE]
    for row in range(rows):
        yield {"image": photo ^ np.uint8(row & 31), "label": row % 10}


def epoch(path: Path, shuffle: bool) -> tuple[float, float]:
    """Images a second of one epoch, every batch touched, and MiB that anonymous memory grew by at most."""
    loader = fs.Loader(path, batch_size=BATCH, shuffle=shuffle, prefetch=PREFETCH)
    before = peak = memory_of("self")["RssAnon"]
    started = time.perf_counter()
    for number, batch in enumerate(loader):
        batch["image"][:, ::8, ::8].sum()
        if number % 64 == 0:
            peak = max(peak, memory_of("self")["RssAnon"])
    return len(loader.dataset) / (time.perf_counter() - started), (peak - before) / 2**20


if __name__ == "__main__":
    main()
