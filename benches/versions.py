"""Two builds of fastshard side by side: is the new one as fast as the old one, in what people do most?

    python benches/versions.py OLD_CHECKOUT [NEW_CHECKOUT]

Each checkout has a built extension. Both pack the same photographs, each in its own format. Then processes of both take
turns (old, new, new, old ...), each measuring one track, and a ratio is that of two neighbours in time. A track reads
everything once before the clock starts, so what is measured is the second epoch and later ones; `first` measures the
epoch in which a process sees the data for the first time, in which chunks are compared with their checksums.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import fastshard as fs

ROOT = Path(__file__).resolve().parent.parent
ROWS = 2_000_000
Track = Callable[[Path, float], float]


def main() -> None:
    options = parse()
    if options.child:
        track, work, seconds = options.child
        print(json.dumps(TRACKS[track](Path(work), float(seconds))))
        return
    sides = {"old": options.old.resolve(), "new": options.new.resolve()}
    for name, checkout in sides.items():
        run(checkout, "prepare", options.work / name, options.count, options.work)
    ratios: dict[str, list[float]] = {track: [] for track in options.only}
    for repeat in range(options.repeats):
        for track, found in ratios.items():
            order = list(sides)[:: 1 if repeat % 2 == 0 else -1]
            rates = {name: run(sides[name], track, options.work / name, options.seconds) for name in order}
            found.append(rates["new"] / rates["old"])
            print(f"{track:24} {rates['old']:14,.0f} {rates['new']:14,.0f}  {found[-1]:.3f}", flush=True)
    import machine

    table = {track: {"median": median(found), "ratios": found} for track, found in ratios.items()}
    for track, row in table.items():
        print(f"{track:24} {row['median']:.3f}x  ({min(row['ratios']):.3f} to {max(row['ratios']):.3f})")
    stored = {"machine": machine.describe(), "photos": options.count, "rows": ROWS, "ratios": table}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "versions.json").write_text(json.dumps(stored, indent=2) + "\n")


def parse() -> argparse.Namespace:
    tracks = [track for track in TRACKS if track != "prepare"]
    parser = argparse.ArgumentParser(description="Compare two builds of fastshard.")
    parser.add_argument("old", type=Path, nargs="?", help="checkout of the old version, with a built extension")
    parser.add_argument("new", type=Path, nargs="?", default=ROOT, help="that of the new one; this one by default")
    parser.add_argument("--count", type=int, default=1500, help="photographs")
    parser.add_argument("--repeats", type=int, default=7, help="pairs of processes for each track")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement")
    parser.add_argument("--only", nargs="+", choices=tracks, default=tracks, help="tracks to measure")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench" / "versions", help="data, made anew")
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "results", help="where versions.json goes")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.child and options.old is None:
        parser.error("OLD_CHECKOUT is missing")
    return options


def run(checkout: Path, track: str, work: Path, *values: Any) -> float:
    """Runs a track in a process that imports the checkout's fastshard."""
    path = os.pathsep.join([str(checkout / "python"), str(ROOT / "benches")])
    value = ":".join(map(str, values))
    command = [sys.executable, __file__, "--child", track, str(work), value if track != "prepare" else "0"]
    environment = {**os.environ, "PYTHONPATH": path, "VERSIONS": value}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{track} of {checkout} failed:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def prepare(work: Path, _: float) -> float:
    """Packs everything that the tracks read."""
    from photos import generate

    count, shared = os.environ["VERSIONS"].split(":")
    photos = generate(Path(shared) / "photos", int(count))
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    fs.pack(photos, work / "seekable", seekable=True, progress=False)
    fs.pack(photos, work / "raw", encode="raw", resize=(224, 224), progress=False)
    random = np.random.default_rng(0)
    features = random.random((ROWS, 28), np.float32)
    labels = random.integers(0, 2, ROWS)
    fs.pack(fs.from_arrays({"features": features, "label": labels}), work / "table", progress=False)
    tar = Path(shared) / "photos.tar"
    if not tar.exists():
        with tarfile.open(tar, "w") as archive:
            for path in sorted(Path(photos).rglob("*.jpg")):
                archive.add(path, path.name)
    return 0.0


def rate(epochs: Callable[[], Any], seconds: float, warm: bool = True) -> float:
    """Samples a second, over whole epochs."""
    if warm:
        for _ in epochs():
            pass
    samples, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for batch in epochs():
            samples += len(next(iter(batch.values())) if isinstance(batch, dict) else batch[0])
        if not warm:
            break
    return samples / (time.perf_counter() - start)


def crops(work: Path, seconds: float) -> float:
    steps = {"image": [fs.RandomResizedCrop(224), fs.RandomHorizontalFlip()]}
    loader = fs.Loader(work / "seekable", 64, shuffle=True, transforms=steps)
    return rate(lambda: loader, seconds)


def cached(work: Path, seconds: float) -> float:
    steps = {"image": [fs.Resize(256), fs.CenterCrop(224)]}
    loader = fs.Loader(work / "seekable", 64, shuffle=True, transforms=steps, cache=work / "cache")
    return rate(lambda: loader, seconds)


def raw(work: Path, seconds: float) -> float:
    loader = fs.Loader(work / "raw", 64, shuffle=True)
    return rate(lambda: loader, seconds)


def raw_first(work: Path, seconds: float) -> float:
    loader = fs.Loader(work / "raw", 64, shuffle=True)
    return rate(lambda: loader, seconds, warm=False)


def table(work: Path, seconds: float) -> float:
    import fastshard.torch

    loader = fastshard.torch.TensorLoader(fs.open(work / "table"), batch_size=1024, shuffle=True)
    return rate(lambda: loader, seconds)


def table_first(work: Path, seconds: float) -> float:
    import fastshard.torch

    loader = fastshard.torch.TensorLoader(fs.open(work / "table"), batch_size=1024, shuffle=True)
    return rate(lambda: loader, seconds, warm=False)


def tar(work: Path, _: float) -> float:
    source = work.parent / "photos.tar"
    fs.pack([{"x": 1.0}], work / "first", overwrite=True, progress=False)  # imports what packing needs
    shutil.rmtree(work / "from_tar", ignore_errors=True)
    os.sync()
    start = time.perf_counter()
    fs.pack(source, work / "from_tar", seekable=False, progress=False)
    return source.stat().st_size / (time.perf_counter() - start)


TRACKS: dict[str, Track] = {
    "prepare": prepare,
    "seekable crops": crops,
    "cached eval": cached,
    "raw, shuffled": raw,
    "raw, first epoch": raw_first,
    "TensorLoader": table,
    "TensorLoader, first": table_first,
    "tar to shards": tar,
}

if __name__ == "__main__":
    main()
