"""A table three times larger than the memory it may use: block-wise shuffling against reading the files in order.

    sudo python benches/beyond_memory.py      # makes a control group, which takes root

Each run is a process of its own in a control group with a limit, page cache included, and begins with nothing cached.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np

import fastshard as fs
import machine
from processes import memory_of
from tables import generate

ROOT = Path(__file__).resolve().parent.parent
GROUPS = Path("/sys/fs/cgroup")
PARTS = 3
BATCH = 1024
READ = 8 << 20
RUNS = ("read", "block", "uniform")


def main() -> None:
    options = parse()
    if options.run:
        print(json.dumps(one(options.run, folders(options), options.seconds)))
        return
    prepare(options)
    size = sum(path.stat().st_size for path in shards(options))
    limit = size // 3
    found: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    with group(limit) as tasks:
        for repeat in range(options.repeats):
            for name in RUNS if repeat % 2 else reversed(RUNS):
                found[name].append(limited(name, tasks, options))
    rates = {name: median(run["bytes"] / run["seconds"] for run in runs) for name, runs in found.items()}
    about = machine.describe()
    print(f"{about['cpu']}, {about['cores']} cores; {size / 1e9:.2f} GB on disk, limit {limit / 1e9:.2f} GB")
    for name, runs in found.items():
        resident = max(run["resident"] for run in runs) / 2**20
        speed = f"{rates[name] / 1e6:8,.0f} MB/s, {rates[name] / rates['read']:.2f}x"
        print(f"{name:8} {speed}, at most {resident:,.0f} MiB resident")
    options.out.mkdir(parents=True, exist_ok=True)
    stored = {"machine": about, "bytes": size, "limit": limit, "bytes_per_second": rates, "runs": found}
    (options.out / "beyond_memory.json").write_text(json.dumps(stored, indent=2) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Shuffle a table that doesn't fit in memory.")
    parser.add_argument("--rows", type=int, default=11_000_000, help="rows of each of three parts, 120 bytes each")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30, help="a run ends after so many")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench", help="where tables are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "results", help="where figures go")
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    return parser.parse_args()


def folders(options: argparse.Namespace) -> list[Path]:
    return [options.work / f"table-{options.rows}" / f"part{number}" for number in range(PARTS)]


def shards(options: argparse.Namespace) -> list[Path]:
    return [path for folder in folders(options) for path in sorted(folder.glob("*.arrow"))]


def prepare(options: argparse.Namespace) -> None:
    folder = options.work / f"table-{options.rows}"
    if not (folder / "label.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        generate(folder, options.rows)
    columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("features", "label")}
    for part in folders(options):
        if not part.exists():
            fs.pack(fs.from_arrays(columns), part)


@contextlib.contextmanager
def group(limit: int) -> Iterator[Path]:
    """A control group with a limit of memory, of either version; the file that takes in processes."""
    first = (GROUPS / "memory").is_dir()
    folder = GROUPS / ("memory" if first else "") / f"fastshard-{os.getpid()}"
    folder.mkdir()
    try:
        (folder / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(limit))
        yield folder / "cgroup.procs"
    finally:
        folder.rmdir()


def limited(name: str, tasks: Path, options: argparse.Namespace) -> dict[str, float]:
    """One run in the group, after the system has forgotten the files."""
    for path in shards(options):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    script = [sys.executable, __file__, "--run", name, "--rows", str(options.rows), "--work", str(options.work)]
    enter = 'echo $$ > "$0" && exec "$@"'
    command = ["sh", "-c", enter, str(tasks), *script, "--seconds", str(options.seconds)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return result


def one(name: str, parts: list[Path], seconds: float) -> dict[str, float]:
    """Bytes that came in so many seconds, or until the end, and the most that was resident."""
    sizes = read(parts) if name == "read" else shuffled(parts, "block" if name == "block" else True)
    count = resident = 0
    started = time.perf_counter()
    for number, size in enumerate(sizes):
        count += size
        if number % 256 == 0:
            resident = max(resident, memory_of("self")["VmRSS"])
            if time.perf_counter() - started > seconds:
                break
    return {"bytes": count, "seconds": time.perf_counter() - started, "resident": resident}


def read(parts: list[Path]) -> Iterator[int]:
    """The files from their beginning to their end, as large pieces."""
    buffer = bytearray(READ)
    for part in parts:
        for path in sorted(part.glob("*.arrow")):
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(buffer):
                    yield count


def shuffled(parts: list[Path], shuffle: str | bool) -> Iterator[int]:
    loader = fs.Loader(fs.concat(fs.open(part) for part in parts), BATCH, shuffle=shuffle)
    for batch in loader:
        yield sum(values.nbytes for values in batch.values())


if __name__ == "__main__":
    main()
