"""Packing a table from CSV, against pyarrow only reading the same file: 11 million rows, a label and 28 features.

    python benches/pack_csv.py                    # writes a CSV of HIGGS's shape first, without a header, label first
    python benches/pack_csv.py --csv HIGGS.csv.gz # with the real one

Every run is a fresh process, they alternate, and the file is in the page cache. Packing also fuses features, computes
their statistics and checksums, and brings everything to the disk.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
from pyarrow import csv

import fastshard as fs
import machine
import tables

ROOT = Path(__file__).resolve().parent.parent
ASKED = 0.5
CHUNK = 500_000


def read_whole(path: Path, _: Path) -> int:
    """Into a table in memory, on all cores."""
    return csv.read_csv(path, csv.ReadOptions(autogenerate_column_names=True)).num_rows


def read_stream(path: Path, _: Path) -> int:
    """A piece at a time, as anything must that is not to hold it all."""
    with csv.open_csv(path, csv.ReadOptions(autogenerate_column_names=True, block_size=8 << 20)) as reader:
        return sum(batch.num_rows for batch in reader)


def pack(path: Path, target: Path) -> int:
    types = {0: "int64"}
    report = fs.pack(path, target, header=False, label=0, features="all", types=types, overwrite=True, progress=False)
    return report.rows


RUNS: dict[str, tuple[str, Callable[[Path, Path], int]]] = {
    "pack": ("fs.pack", pack),
    "whole": ("pyarrow read_csv, all in memory", read_whole),
    "stream": ("pyarrow open_csv, streaming", read_stream),
}


def main() -> None:
    options = parse()
    target = options.work / "packed-csv"
    if options.run:
        started = time.perf_counter()
        rows = RUNS[options.run][1](options.csv, target)
        print(json.dumps({"rows": rows, "seconds": time.perf_counter() - started}))
        return
    path = options.csv or generate(options.work, options.rows)
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass
    found: dict[str, list[float]] = {name: [] for name in RUNS}
    for repeat in range(options.repeats):
        for name in RUNS if repeat % 2 else reversed(RUNS):
            print(f"{RUNS[name][0]}, {repeat + 1} of {options.repeats}", file=sys.stderr)
            command = [sys.executable, __file__, "--run", name, "--csv", str(path), "--work", str(options.work)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            result = json.loads(output.splitlines()[-1])
            found[name].append(result["rows"] / result["seconds"])
    shutil.rmtree(target)
    report(path, {name: median(rates) for name, rates in found.items()}, found, options.out)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Pack a CSV, and only read it.")
    parser.add_argument("--rows", type=int, default=11_000_000, help="rows of the file that is made")
    parser.add_argument("--csv", type=Path, help="a file without a header, label first, in place of it")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench", help="where files are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "results", help="where figures go")
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    return parser.parse_args()


def generate(work: Path, rows: int) -> Path:
    folder, path = work / f"table-{rows}", work / f"table-{rows}.csv"
    if not path.exists():
        if not (folder / "features.npy").exists():
            folder.mkdir(parents=True, exist_ok=True)
            tables.generate(folder, rows)
        features, label = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("features", "label"))
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            for start in range(0, rows, CHUNK):
                columns = [label[start : start + CHUNK], *features[start : start + CHUNK].T]
                batch = pa.table([pa.array(np.ascontiguousarray(column)) for column in columns], names=list(NAMES))
                csv.write_csv(batch, file, csv.WriteOptions(include_header=False))
        partial.rename(path)
    return path


NAMES = tuple(f"f{number}" for number in range(tables.FEATURES + 1))


def report(path: Path, rates: dict[str, float], runs: dict[str, list[float]], out: Path) -> None:
    size = path.stat().st_size
    print(f"\n{path.name}, {size / 1e9:.2f} GB\n")
    for name, rate in rates.items():
        print(f"{RUNS[name][0]:34} {rate / 1e6:6.2f} Mrows/s")
    for name in ("whole", "stream"):
        share = rates["pack"] / rates[name]
        print(f"pack / {RUNS[name][0]}: {share:.2f}, at least {ASKED}: {'met' if share >= ASKED else 'MISSED'}")
    stored = {"machine": machine.describe(), "bytes": size, "rows_per_second": rates, "runs": runs}
    out.mkdir(parents=True, exist_ok=True)
    (out / "pack_csv.json").write_text(json.dumps(stored, indent=2) + "\n")


if __name__ == "__main__":
    main()
