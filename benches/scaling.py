"""How the loader gains from threads: measured where there are cores for them, simulated beyond.

    python benches/scaling.py

Three things are measured: what each photograph costs one thread, what a claim and a hand-over cost (rows of 8x8 raw
pixels, which are next to no work), and the rate with 1 to 16 threads. From the first two, a model of the queue (claims
one at a time under one lock, `prefetch` open batches, batches handed over in order) predicts the rate on as many cores.
The model knows no memory bandwidth, no shared caches and no clock that falls when all cores are busy: it says what the
queue allows, not what a machine reaches.
"""

from __future__ import annotations

import argparse
import heapq
import json
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median, stdev

import numpy as np

import fastshard as fs
import machine
from photos import available_cores, generate

ROOT = Path(__file__).resolve().parent.parent
PREFETCH = 3
THREADS = (1, 2, 4, 8, 16)
TINY_ROWS = 20_000


@dataclass(frozen=True)
class Costs:
    """Seconds: of each image, of claiming one (at most), of handing a batch over."""

    images: list[float]
    claim: float
    batch: float


def main() -> None:
    options = parse()
    photos, tiny = prepare(options.work, options.count)
    queue = [tiny_row(tiny, threads, options.repeats) for threads in THREADS]
    batch = tiny_row(tiny, 1, options.repeats, batch_size=1) - queue[0]
    costs = Costs(image_costs(photos), queue[0], max(batch, 0.0))
    cores = available_cores()
    rates = [photo_rate(photos, threads, options.batch, options.repeats) for threads in THREADS]
    predicted = [simulate(costs, threads, options.batch) for threads in THREADS]
    about = machine.describe()
    print(f"{about['cpu']}, {cores} cores; {options.count:,} photographs, batch {options.batch}, warm page cache")
    print(costs_line(costs))
    print(table(queue, rates, predicted, cores))
    options.out.mkdir(parents=True, exist_ok=True)
    stored = {
        "machine": about,
        "image_seconds": {"mean": fmean(costs.images), "stdev": stdev(costs.images)},
        "claim_seconds": costs.claim,
        "hand_over_seconds": costs.batch,
        "threads": THREADS,
        "queue_seconds_a_row": queue,
        "measured_images_a_second": rates,
        "simulated_images_a_second": predicted,
    }
    (options.out / "scaling.json").write_text(json.dumps(stored, indent=2) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure and simulate the gain from threads.")
    parser.add_argument("--count", type=int, default=1000, help="photographs, 80 KB each")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench", help="photographs and shards, kept")
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "results", help="where scaling.json goes")
    return parser.parse_args()


def prepare(work: Path, count: int) -> tuple[Path, Path]:
    folder = work / str(count)
    packed, tiny = folder / "packed", work / "tiny"
    if not packed.exists():
        fs.pack(generate(folder / "photos", count), packed, progress=False)
    if not tiny.exists():
        pixels = np.zeros((8, 8, 3), np.uint8)
        fs.pack(({"image": pixels} for _ in range(TINY_ROWS)), tiny, progress=False)
    return packed, tiny


def tiny_row(tiny: Path, threads: int, repeats: int, batch_size: int = 500) -> float:
    """Seconds a row that is next to no work; each is claimed by itself, as any image is."""
    loader = fs.Loader(tiny, batch_size, shuffle=True, layout="NCHW", num_threads=threads, prefetch=PREFETCH)
    return median(seconds(loader) for _ in range(repeats)) / TINY_ROWS


def photo_loader(photos: Path, batch_size: int, threads: int) -> fs.Loader:
    steps = [fs.RandomResizedCrop(224), fs.RandomHorizontalFlip()]
    transforms = {"image": steps}
    return fs.Loader(photos, batch_size, shuffle=True, transforms=transforms, num_threads=threads, prefetch=PREFETCH)


def image_costs(photos: Path) -> list[float]:
    """Seconds that each photograph takes one thread: the time between batches of one that are waited for."""
    arrivals = [time.perf_counter() for _ in photo_loader(photos, 1, 1)]
    # The first ones wait for the thread to start and for its buffers to grow.
    return [later - earlier for earlier, later in pairwise(arrivals[PREFETCH + 1 :])]


def photo_rate(photos: Path, threads: int, batch_size: int, repeats: int) -> float:
    loader = photo_loader(photos, batch_size, threads)
    return len(loader.dataset) / median(seconds(loader) for _ in range(repeats))


def seconds(loader: fs.Loader) -> float:
    start = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - start


def simulate(costs: Costs, threads: int, batch_size: int, batches: int = 400, seed: int = 0) -> float:
    """Images a second on as many cores as threads, by the queue's rules and the measured costs alone."""
    draw = np.random.default_rng(seed).choice(np.array(costs.images), (batches, batch_size))
    free = [0.0] * threads  # a heap of when each thread is through
    unlocked = 0.0
    taken = [0.0] * batches  # when the consumer took each batch
    for at, images in enumerate(draw):
        room = taken[at - PREFETCH] if at >= PREFETCH else 0.0
        finished = 0.0
        for image in images:
            start = max(heapq.heappop(free), unlocked, room)
            unlocked = start + costs.claim
            end = unlocked + image
            heapq.heappush(free, end)
            finished = max(finished, end)
        taken[at] = max(finished, taken[at - 1] + costs.batch if at else 0.0)
    # Without the first batches, which find all threads idle.
    first = min(2 * PREFETCH, batches // 2)
    return (batches - 1 - first) * batch_size / (taken[-1] - taken[first])


def costs_line(costs: Costs) -> str:
    share = stdev(costs.images) / fmean(costs.images)
    return (
        f"a photograph: {fmean(costs.images) * 1e6:,.0f} us of one thread (standard deviation {share:.0%}); "
        f"a claim: at most {costs.claim * 1e6:.2f} us; a hand-over: {costs.batch * 1e6:.0f} us a batch"
    )


def table(queue: list[float], rates: list[float], predicted: list[float], cores: int) -> str:
    lines = [
        "| threads | empty rows, us each | photographs, img/s | speed-up | simulated img/s | simulated speed-up |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for threads, row, rate, model in zip(THREADS, queue, rates, predicted, strict=True):
        more = "" if threads <= cores else f" on {cores} cores"
        lines.append(
            f"| {threads} | {row * 1e6:.2f} | {rate:,.0f}{more} | {rate / rates[0]:.2f} | {model:,.0f} "
            f"| {model / predicted[0]:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
