"""Trials that open, train and are killed, for as long as one wants; then nothing may have grown or be left behind.

python tests/soak.py --minutes 30

The parent opens datasets, trains a few batches, with a cache and with passes that it leaves half way, and starts
trials. Trials are processes that do the same, some with torch's workers, until they are killed. Every round counts the
parent's resident memory, descriptors, threads and mappings, and the files in the cache and in the temporary folder.
Caches and pools may fill in the first quarter of the time; a line that is fitted to the rest must not rise.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np

import fastshard as fs
from stress import make_photos

STEPS = {"image": [fs.Resize(64), fs.RandomCrop(48)]}
LIMIT = "2MB"
TRIAL = """
    import sys
    import fastshard as fs
    from torch.utils.data import DataLoader
    print("up", flush=True)
    folder, cache, workers = sys.argv[1], fs.Cache(sys.argv[2], "2MB"), int(sys.argv[3])
    for number in range(1_000_000):
        steps = {"image": [fs.Resize(60 + number % 4), fs.RandomCrop(48)]}
        loader = fs.Loader(folder, 8, shuffle=True, seed=number, transforms=steps, cache=cache)
        if workers:
            for batch in DataLoader(fs.torch.ShardDataset(loader), batch_size=None, num_workers=workers):
                pass
        for batch in loader:
            if number % 2:
                break
"""
# What may grow in an hour, from the fitted line: allocators settle slowly, and counts must not.
MAY_GROW = {
    "resident MB": 10.0,
    "descriptors": 0.5,
    "threads": 0.5,
    "mappings": 4.0,
    "temporary": 0.5,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="how long")
    parser.add_argument("--trials", type=int, default=2, help="processes at a time")
    parser.add_argument("--seed", type=int, default=0, help="of when trials are killed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        fs.pack(make_photos(root / "photos"), root / "ds", progress=False)
        wanted = pixels(root / "ds")
        samples, killed = soak(root, options, wanted)
        assert pixels(root / "ds", cache=fs.Cache(root / "cache", LIMIT)) == wanted
    return report(samples, killed)


def pixels(dataset: Path, **options: object) -> list[bytes]:
    loader = fs.Loader(dataset, 8, shuffle=True, transforms=STEPS, **options)
    return [batch["image"].tobytes() for batch in loader]


def soak(root: Path, options: argparse.Namespace, wanted: list[bytes]) -> tuple[list[dict[str, float]], int]:
    """Counts at equal distances, and how many trials were killed."""
    random = np.random.default_rng(options.seed)
    end = time.monotonic() + 60 * options.minutes
    trials: list[tuple[subprocess.Popen[bytes], float]] = []
    started, samples, killed = time.monotonic(), [], 0
    (root / "tmp").mkdir()
    try:
        while time.monotonic() < end:
            while len(trials) < options.trials:
                trials.append((start_trial(root, int(random.integers(3))), time.monotonic() + random.uniform(0.1, 6)))
            killed += kill_due(trials)
            train(root, random, wanted)
            gc.collect()
            samples.append(counts(root) | {"minutes": (time.monotonic() - started) / 60})
    finally:
        for process, _ in trials:
            kill(process)
    return samples, killed


def start_trial(root: Path, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", textwrap.dedent(TRIAL), str(root / "ds"), str(root / "cache"), str(workers)]
    environment = os.environ | {"TMPDIR": str(root / "tmp")}
    # A group of its own, so that its workers are killed with it.
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
    )


def kill_due(trials: list[tuple[subprocess.Popen[bytes], float]]) -> int:
    due = [trial for trial in trials if time.monotonic() > trial[1]]
    for trial in due:
        trials.remove(trial)
        kill(trial[0])
    return len(due)


def kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def train(root: Path, random: np.random.Generator, wanted: list[bytes]) -> None:
    """What a long-living process does in a round; batches must be right all the time."""
    cache = fs.Cache(root / "cache", LIMIT) if random.random() < 0.7 else "off"
    assert pixels(root / "ds", cache=cache) == wanted
    loader = fs.Loader(root / "ds", 8, shuffle=True, transforms=STEPS, cache=cache, num_threads=2)
    for _ in range(3):
        for at, _ in enumerate(loader):
            if at == random.integers(4):
                break
    dataset = fs.open(root / "ds")
    dataset.split([0.5, 0.5], stratify="label")
    assert not dataset.verify(progress=False)


def names(folder: str | Path) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def size_on_disk(path: Path) -> int:
    """Bytes; none where a trial has removed the file since it was listed."""
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def counts(root: Path) -> dict[str, float]:
    """What the parent holds, and what trials left."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    cached = [size_on_disk(path) for path in (root / "cache").glob("*")]
    return {
        "resident MB": resident / 2**20,
        "descriptors": len(names("/proc/self/fd")),
        "threads": len(names("/proc/self/task")),
        "mappings": len(Path("/proc/self/maps").read_text().splitlines()),
        "cache MB": sum(cached) / 2**20,
        "cache files": len(cached),
        # Torch's workers leave a folder each when they are killed.
        "temporary": len([name for name in names(root / "tmp") if "fastshard" in name]),
    }


def report(samples: list[dict[str, float]], killed: int) -> int:
    """Prints a table of the counts, and whether they grow."""
    settled = samples[len(samples) // 4 :]
    minutes = np.array([sample["minutes"] for sample in settled])
    grown = []
    print(f"{len(samples)} rounds, {killed} trials killed, {samples[-1]['minutes']:.1f} minutes\n")
    print(f"{'':16}{'first':>10}{'last':>10}{'most':>10}{'an hour':>10}{'may be':>10}")
    for name in [name for name in samples[0] if name != "minutes"]:
        values = np.array([sample[name] for sample in settled])
        slope = 60 * np.polyfit(minutes, values, 1)[0] if len(settled) > 2 else 0.0
        # A slope within the scatter of the values is none.
        rise, scatter = slope / 60 * np.ptp(minutes), 2 * np.std(values)
        limit = MAY_GROW.get(name)
        if limit is not None and slope > limit and rise > max(scatter, 1):
            grown.append(name)
        most = f"{limit:10.1f}" if limit is not None else f"{'':>10}"
        print(f"{name:16}{samples[0][name]:10.1f}{values[-1]:10.1f}{values.max():10.1f}{slope:10.1f}{most}")
    # Each of the trials that write at the same time may go over the limit by one entry.
    if samples[-1]["cache MB"] > 8:
        grown.append("cache MB")
    print(f"\n{'grows: ' + ', '.join(grown) if grown else 'nothing grows'}")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
