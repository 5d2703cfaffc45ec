"""A table larger than memory: how fast a block-wise shuffle is, against reading the same file from end to end.

    python benches/beyond_memory.py                # needs root and the memory controller, to set the limit

Each measurement is a process of its own in a control group whose memory, page cache included, is a third of the table.
First the file is read as fast as ``read`` can, then an epoch of each shuffle is timed, both with a cold page cache, in
turn. What the process held at most is the group's own figure and that of its own pages.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import fastshard as fs
import machine
import tables

ROOT = Path(__file__).resolve().parent.parent
GROUPS = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
# Name, shuffle, and batches where an epoch would take hours: each row of a uniform shuffle is a read of its own.
LOADERS = {
    "block-wise shuffle": ("block", None),
    "in order": (False, None),
    "uniform shuffle": (True, 2),
}
ASKED = 0.7


def main() -> None:
    options = parse()
    if options.run:
        print(json.dumps(RUNS[options.run](options)))
        return
    data = prepare(options)
    size = sum(path.stat().st_size for path in data.glob("*.arrow"))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ["read", *LOADERS]}
    for _ in range(options.repeats):
        for name in found:
            print(name, file=sys.stderr)
            found[name].append(measure(name, data, size // 3, options))
            print(found[name][-1], file=sys.stderr)
    rows = {name: summary(runs) for name, runs in found.items()}
    print(f"\n{size / 1e9:.2f} GB in a group of {size / 3e9:.2f} GB\n")
    print(f"{'':20} {'MB/s':>8} {'of read':>8} {'resident':>10} {'of it anonymous':>16}")
    for name, row in rows.items():
        share = row["bytes_per_second"] / rows["read"]["bytes_per_second"]
        held, own = row["resident"] / 1e9, row["anonymous"] / 1e9
        print(f"{name:20} {row['bytes_per_second'] / 1e6:8.0f} {share:8.2f} {held:7.2f} GB {own:13.2f} GB")
    share = rows["block-wise shuffle"]["bytes_per_second"] / rows["read"]["bytes_per_second"]
    print(f"\nblock-wise / read: {share:.2f}, at least {ASKED} {'ok' if share >= ASKED else 'MISSED'}")
    stored = {"machine": machine.describe(), "bytes": size, "limit": size // 3, "rates": rows}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "beyond_memory.json").write_text(json.dumps(stored, indent=2) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Shuffle a table that is larger than memory.")
    parser.add_argument("--rows", type=int, default=33_000_000, help="rows of 28 float32 features and a label")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench", help="where tables are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "results", help="where figures go")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def prepare(options: argparse.Namespace) -> Path:
    folder: Path = options.work / f"table-{options.rows}"
    if not (folder / "packed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        tables.generate(folder, options.rows)
        arrays = {name: folder / f"{name}.npy" for name in ("features", "label")}
        fs.pack(arrays, folder / "packed")
        for path in arrays.values():
            path.unlink()
    return folder / "packed"


def measure(name: str, data: Path, limit: int, options: argparse.Namespace) -> dict[str, Any]:
    """In a group of its own, with nothing of the table in the page cache."""
    for path in data.glob("*.arrow"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    group = Group(limit)
    try:
        run = [sys.executable, __file__, "--run", name, "--data", str(data), "--batch", str(options.batch)]
        output = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True, preexec_fn=group.enter).stdout
        result: dict[str, Any] = json.loads(output.splitlines()[-1])
        return result
    finally:
        group.remove()


class Group:
    """A control group with a limit for memory, of version 1 or 2."""

    def __init__(self, limit: int) -> None:
        parent = next((group for group in GROUPS if (group / "cgroup.procs").exists()), None)
        if parent is None:
            raise SystemExit("no memory control groups here")
        self.path = parent / f"fastshard-{os.getpid()}"
        try:
            self.path.mkdir()
            files = [self.path / name for name in ("memory.limit_in_bytes", "memory.max")]
            next(file for file in files if file.exists()).write_text(str(limit))
        except (OSError, StopIteration) as error:
            raise SystemExit(f"can't limit memory: {error}; this benchmark needs root") from None

    def enter(self) -> None:
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self) -> None:
        self.path.rmdir()


def read(options: argparse.Namespace) -> dict[str, Any]:
    buffer = bytearray(1 << 20)
    started, total = time.perf_counter(), 0
    for path in sorted(options.data.glob("*.arrow")):
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while count := file.readinto(buffer):
                total += count
    return {"bytes_per_second": total / (time.perf_counter() - started), **held()}


def load(options: argparse.Namespace) -> dict[str, Any]:
    shuffle, batches = LOADERS[options.run]
    loader = fs.Loader(options.data, options.batch, shuffle=shuffle)
    started, total, touched = time.perf_counter(), 0, 0.0
    for number, batch in enumerate(loader):
        total += sum(values.nbytes for values in batch.values())
        if not shuffle:  # views, of which nothing has been read yet
            touched += float(batch["features"].sum())
        if number + 1 == batches:
            break
    return {"bytes_per_second": total / (time.perf_counter() - started), **held()}


def held() -> dict[str, int]:
    """The most that was resident so far, and what of it is no page of a file."""
    status = Path("/proc/self/status").read_text()
    anonymous = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"resident": peak * 1024, "anonymous": int(anonymous.split()[1]) * 1024}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: median(run[name] for run in runs) for name in runs[0]} | {"runs": runs}


RUNS = {"read": read, **dict.fromkeys(LOADERS, load)}

if __name__ == "__main__":
    main()
