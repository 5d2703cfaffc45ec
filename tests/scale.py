"""Packs, verifies and loads 200,000 small files, and prints times and memory.

No test by itself, as it takes a minute: python tests/scale.py [FILES]
"""

import io
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

import fastshard as fs

CLASSES, DISTINCT = 100, 2_000


def main(files: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="fastshard-scale-"))
    try:
        source = timed("generate", lambda: generate(folder / "src", files))
        report = timed("pack", lambda: fs.pack(folder / "src", folder / "ds"))
        assert report.rows == files, report
        dataset = timed("open", lambda: fs.open(folder / "ds"))
        assert len(dataset.class_names) == CLASSES
        assert timed("verify", dataset.verify) == []
        loader = fs.Loader(dataset, batch_size=256, shuffle=True)
        count, total = timed("load all, shuffled", lambda: load(loader))
        assert (count, total) == (files, source), (count, total, source)
        size = sum(path.stat().st_size for path in (folder / "ds").iterdir())
        print(f"dataset {size / 2**20:.0f} MiB in {report.shards} shards")
    finally:
        timed("clean up", lambda: shutil.rmtree(folder))


def timed(what, work):
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what:20} {seconds:8.3f} s   peak RSS so far {peak:6.0f} MiB", flush=True)
    return result


def generate(root: Path, files: int) -> int:
    """Crops of 8 x 8 pixels, half PNG and half JPEG; returns the sum of all their pixels, as PIL decodes them."""
    photos, random = load_sample_images().images, np.random.default_rng(0)
    encoded, sums = [], []
    for i in range(DISTINCT):
        y, x = random.integers(0, 400, 2)
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(photos[i % 2][y : y + 8, x : x + 8])).save(file, ("PNG", "JPEG")[i % 2])
        encoded.append(file.getvalue())
        sums.append(int(np.asarray(Image.open(file), np.int64).sum()))
    for number in range(CLASSES):
        (root / f"class_{number:03}").mkdir(parents=True)
    for i in range(files):
        suffix = ("png", "jpg")[i % 2]
        (root / f"class_{i % CLASSES:03}" / f"{i:06}.{suffix}").write_bytes(encoded[i % DISTINCT])
    return sum(sums[i % DISTINCT] for i in range(files))


def load(loader: fs.Loader) -> tuple[int, int]:
    count = total = 0
    for batch in loader:
        count += len(batch["label"])
        total += int(batch["image"].sum(dtype=np.int64))
    return count, total


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
