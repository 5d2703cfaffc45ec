"""What the second trial of a search costs, when the first one left its decoded pixels: speed, start, memory.

    python benches/trials.py

Every figure comes from fresh processes that alternate, on a warm page cache, and is the median of their repeats.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import machine
from compare import warm
from job import Job
from loaders import LOADERS, TRIALS
from measure import environment, run
from own import transforms
from photos import available_cores, generate

ROOT = Path(__file__).resolve().parent.parent
# Loader, track, and how many epochs are timed.
PAIRS = [
    ("fastshard-cached", "eval", 10),
    ("take", "eval", 10),
    ("fastshard-cached", "cached-train", 4),
    ("fastshard", "eval", 1),
    ("torch-pil", "eval", 1),
    ("tf-fused-aliased", "eval", 1),
    ("tf-fused-aliased", "train", 1),
]
# (what, over what, at least)
CLAIMS = [
    (("fastshard-cached", "eval"), ("take", "eval"), 0.8),
    (("fastshard-cached", "eval"), ("torch-pil", "eval"), 25),
    (("fastshard-cached", "eval"), ("tf-fused-aliased", "eval"), 20),
    (("fastshard-cached", "cached-train"), ("tf-fused-aliased", "train"), 8),
]
# From the start of the process to the first batch in hand, as somebody who starts a script feels it.
OURS = """
import sys
import fastshard as fs
steps = {"image": [fs.Resize(256), fs.CenterCrop(224)]}
next(iter(fs.Loader(sys.argv[1], 64, transforms=steps, cache=sys.argv[2])))["image"].sum()
"""
TORCH = """
import sys
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
if __name__ == "__main__":
    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()]
    folder = datasets.ImageFolder(sys.argv[1], transforms.Compose(steps))
    next(iter(DataLoader(folder, 64, num_workers=2, multiprocessing_context="spawn")))[0].sum()
"""
TRIAL = """
import sys
import fastshard as fs
steps = {"image": [fs.Resize(256), fs.CenterCrop(224)]}
loader = fs.Loader(sys.argv[1], 64, transforms=steps, cache=sys.argv[2], num_threads=1)
for batch in loader:
    batch["image"].sum()
print("done", flush=True)
sys.stdin.read()
"""


def main() -> None:
    options = parse()
    work = options.work / str(options.count)
    photos = generate(options.work / f"photos-{options.count}", options.count)
    data = prepare(photos, work)
    rates = speeds(data, options)
    figures = {
        "machine": machine.describe(),
        "photos": options.count,
        "repeats": options.repeats,
        "images_per_second": {f"{loader} {track}": rate for (loader, track), rate in rates.items()},
        "claims": [claim(rates, *one) for one in CLAIMS],
        "start_seconds": starts(data, options.repeats),
        "memory": memory(data, options.trials),
    }
    print(text(figures))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "trials.json").write_text(json.dumps(figures, indent=2) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure trials that find their pixels decoded.")
    parser.add_argument("--count", type=int, default=1000, help="photos")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--trials", type=int, default=8, help="processes at once, for memory")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench", help="photos, shards and cache, kept")
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "results", help="where trials.json goes")
    return parser.parse_args()


def prepare(photos: Path, work: Path) -> dict[str, str]:
    """Shards, both caches, and the same pixels as one array."""
    import fastshard as fs

    packed, cache, array = work / "trials", work / "cache", work / "eval.npy"
    if not packed.exists():
        fs.pack(photos, packed, seekable=False, progress=False)
    for track in ("eval", "cached-train"):
        fs.Loader(packed, 64, transforms={"image": transforms(track)}, cache=cache).warm()
    batches = fs.Loader(packed, 64, transforms={"image": transforms("eval")}, cache=cache)
    if not array.exists():
        np.save(array, np.concatenate([batch["image"] for batch in batches]))
    warm(photos, packed, cache, work)
    return {"photos": str(photos), "packed": str(packed), "raw": "", "formats": str(work)}


def speeds(data: dict[str, str], options: argparse.Namespace) -> dict[tuple[str, str], float]:
    """Images a second, medians."""
    found: dict[tuple[str, str], list[float]] = {}
    for repeat in range(options.repeats):
        for loader, track, epochs in PAIRS[:: -1 if repeat % 2 else 1]:
            result = run(loader, Job(track, **data, workers=available_cores()), epochs * options.count)
            if result.error:
                raise RuntimeError(f"{loader} on {track}: {result.error}")
            found.setdefault((loader, track), []).append(result.rate)
            print(f"{(LOADERS | TRIALS)[loader].title}, {track}: {result.rate:,.0f} img/s", file=sys.stderr)
    return {pair: median(rates) for pair, rates in found.items()}


def claim(
    rates: dict[tuple[str, str], float], ours: tuple[str, str], theirs: tuple[str, str], least: float
) -> dict[str, Any]:
    return {"what": " ".join(ours), "over": " ".join(theirs), "ratio": rates[ours] / rates[theirs], "asked": least}


def starts(data: dict[str, str], repeats: int) -> dict[str, float]:
    """Seconds from starting a process to its first batch."""
    code = Path(data["formats"], "start_torch.py")
    code.write_text(TORCH)  # spawned workers import the script
    commands = {
        "fastshard": [sys.executable, "-c", OURS, data["packed"], f"{data['formats']}/cache"],
        "torch, 2 spawned workers": [sys.executable, str(code), data["photos"]],
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, env=environment(), stderr=subprocess.DEVNULL)
            found[name].append(time.perf_counter() - started)
    return {name: median(seconds) for name, seconds in found.items()}


def memory(data: dict[str, str], trials: int) -> dict[str, float]:
    """MiB of the cache's pages that one trial holds, and that several do together, shared pages by their share."""
    command = [sys.executable, "-c", TRIAL, data["packed"], f"{data['formats']}/cache"]
    shares = {}
    for count in (1, trials):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        running = [subprocess.Popen(command, **pipes) for _ in range(count)]
        for process in running:
            process.stdout.readline()
        shares[count] = sum(mapped_share(process.pid) for process in running) / 2**20
        for process in running:
            process.communicate()
    return {"one": shares[1], f"{trials} together": shares[trials]}


def mapped_share(process: int) -> float:
    """Proportional set size of the mapped cache, in bytes."""
    share, ours = 0, False
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            ours = line.endswith(".pixels")
        elif ours and line.startswith("Pss:"):
            share += int(line.split()[1]) * 1024
    return share


def text(figures: dict[str, Any]) -> str:
    lines = [f"{name}: {rate:,.0f} img/s" for name, rate in figures["images_per_second"].items()]
    for one in figures["claims"]:
        verdict = "holds" if one["ratio"] >= one["asked"] else "MISSED"
        lines.append(f"{verdict}: {one['what']} is {one['ratio']:.2f}x {one['over']} (asked: {one['asked']}x)")
    lines += [f"first batch, {name}: {seconds:.2f} s" for name, seconds in figures["start_seconds"].items()]
    lines += [f"pages of the cache, {name}: {share:,.0f} MiB" for name, share in figures["memory"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
