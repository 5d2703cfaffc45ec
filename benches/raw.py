"""Raw 224x224x3 uint8 shards against NumPy's own gather, in one process, in alternating order.

    python benches/raw.py

Shuffled: the loader's batches against `np.take` from an `np.memmap` of the same pixels into one reused buffer; a
permutation of all rows an epoch each. In order: batches are views of the mapped shards and cost microseconds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

import fastshard as fs
import machine
from job import SIDE
from photos import generate

ROOT = Path(__file__).resolve().parent.parent
Pixels = npt.NDArray[np.uint8]
# One pass over the data: returns seconds and a sum of pixels, the same for every contender.
Pass = Callable[[int], tuple[float, int]]


def main() -> None:
    options = parse()
    shards, memmap = prepare(options.work, options.count)
    rates, sums = contest(contenders(shards, memmap, options), options.repeats, len(memmap))
    views = in_order(shards, options.batch, options.repeats)
    about = machine.describe()
    print(f"{about['cpu']}, {about['cores']} cores; {len(memmap):,} images, batch {options.batch}, warm page cache")
    print(table(rates))
    print(views_line(views))
    print("same pixels in all: " + ("yes" if len(set(sums)) == 1 else f"NO, sums differ: {sums}"))
    options.out.mkdir(parents=True, exist_ok=True)
    stored = {"machine": about, "images": len(memmap), "batch": options.batch, "rates": rates, "in_order": views}
    (options.out / "raw.json").write_text(json.dumps(stored, indent=2) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare raw shards with np.take from a memmap.")
    parser.add_argument("--count", type=int, default=6000, help="images, 147 KiB each")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench", help="photographs and shards, kept")
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "results", help="where raw.json goes")
    return parser.parse_args()


def prepare(work: Path, count: int) -> tuple[Path, Pixels]:
    """The shards, and the same pixels in the same order as one plain file, both made once and read into the cache."""
    folder = work / str(count)
    shards, plain = folder / "raw", folder / "raw.npy"
    if not plain.exists():
        photos = generate(folder / "photos", count)
        fs.pack(photos, shards, encode="raw", resize=(SIDE, SIDE), overwrite=True, progress=False)
        copy_pixels(shards, plain)
    memmap = np.load(plain, mmap_mode="r")
    for start in range(0, len(memmap), 64):
        memmap[start : start + 64].max()
    return shards, memmap


def copy_pixels(shards: Path, plain: Path) -> None:
    dataset = fs.open(shards)
    partial = plain.with_suffix(".partial")
    target = np.lib.format.open_memmap(partial, "w+", np.uint8, (len(dataset), SIDE, SIDE, 3))
    row = 0
    for batch in fs.Loader(dataset, batch_size=64, fields=["image"]):
        target[row : row + len(batch["image"])] = batch["image"]
        row += len(batch["image"])
    target.flush()
    partial.rename(plain)


def contenders(shards: Path, memmap: Pixels, options: argparse.Namespace) -> dict[str, Pass]:
    """Ours as it comes, with one thread, and without checksums; NumPy's gather in its faster and its default mode."""
    return {
        "fastshard": gather_ours(shards, options.batch),
        "fastshard, 1 thread": gather_ours(shards, options.batch, num_threads=1),
        "fastshard, verify=False": gather_ours(shards, options.batch, verify=False),
        'np.take, mode="clip"': gather_numpy(memmap, options.batch, "clip"),
        'np.take, mode="raise" (copies twice)': gather_numpy(memmap, options.batch, "raise"),
    }


def gather_ours(shards: Path, batch_size: int, **options: Any) -> Pass:
    loader = fs.Loader(fs.open(shards), batch_size, shuffle=True, drop_last=False, fields=["image"], **options)

    def epoch(number: int) -> tuple[float, int]:
        loader.set_epoch(number)
        total = 0
        started = time.perf_counter()
        for batch in loader:
            total += look(batch["image"])
        return time.perf_counter() - started, total

    return epoch


def gather_numpy(memmap: Pixels, batch_size: int, mode: Any) -> Pass:
    buffer = np.empty((batch_size, SIDE, SIDE, 3), np.uint8)

    def epoch(number: int) -> tuple[float, int]:
        total = 0
        started = time.perf_counter()
        order = np.random.default_rng(number).permutation(len(memmap))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            total += look(np.take(memmap, rows, axis=0, out=buffer[: len(rows)], mode=mode))
        return time.perf_counter() - started, total

    return epoch


def look(images: Pixels) -> int:
    """One pixel an image: the gather has touched the rest, and looking at more would time the looking."""
    return int(images[:, SIDE // 2, SIDE // 2, 0].sum(dtype=np.int64))


def contest(passes: dict[str, Pass], repeats: int, count: int) -> tuple[dict[str, list[float]], list[int]]:
    """Images per second of every pass: one unmeasured round, then forwards and backwards in turn."""
    rates: dict[str, list[float]] = {name: [] for name in passes}
    sums: list[int] = []
    for number in range(repeats + 1):
        for name in passes if number % 2 else reversed(passes):
            seconds, total = passes[name](number)
            sums.append(total)
            if number:
                rates[name].append(count / seconds)
    return rates, sums


def in_order(shards: Path, batch: int, repeats: int) -> dict[str, float | bool]:
    """Microseconds a batch in stored order, merely taken and then looked at, and whether a batch is mapped memory."""
    loader = fs.Loader(fs.open(shards), batch, fields=["image"])
    taken, looked = [], []
    for _ in range(repeats):
        started = time.perf_counter()
        for _batch in loader:
            pass
        middle = time.perf_counter()
        for values in loader:
            look(values["image"])
        taken.append((middle - started) / len(loader) * 1e6)
        looked.append((time.perf_counter() - middle) / len(loader) * 1e6)
    mapped = is_mapped(next(iter(loader))["image"], shards)
    return {"taken_us": median(taken), "looked_us": median(looked), "mapped": mapped}


def is_mapped(images: Pixels, shards: Path) -> bool:
    """Does the array's memory lie in the mapping of a shard? Asked of the system, not of us."""
    address = images.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            return str(shards.resolve()) in line
    return False


def table(rates: dict[str, list[float]]) -> str:
    best = max(median(values) for name, values in rates.items() if name.startswith("np."))
    lines = [f"{'shuffled':38} {'img/s':>9}  {'spread':>17}  {'GB/s':>5}  of the best np.take"]
    for name, values in rates.items():
        rate = median(values)
        spread = f"{min(values):,.0f}-{max(values):,.0f}"
        lines.append(f"{name:38} {rate:9,.0f}  {spread:>17}  {rate * SIDE * SIDE * 3 / 1e9:5.1f}  {rate / best:.2f}x")
    return "\n".join(lines)


def views_line(views: dict[str, float | bool]) -> str:
    where = "views of the mapped shards" if views["mapped"] else "NOT views of the mapped shards"
    return f"in order: {views['taken_us']:.1f} us a batch, {views['looked_us']:.1f} us when looked at; {where}"


if __name__ == "__main__":
    main()
