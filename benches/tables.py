"""Feeding a table to training: one of HIGGS's shape, 11 million rows of 28 float32 features and a label.

    python benches/tables.py                    # makes and packs a table with structure, then times every loader
    python benches/tables.py --csv HIGGS.csv.gz # with the real one

Batches of 1,024. Every figure is the median over fresh processes that alternate, after an epoch that nobody timed, on a
warm page cache.
What would take too long is measured on a part of an epoch and scaled, and is marked so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import fastshard as fs
import machine
from table_loaders import LOADERS

ROOT = Path(__file__).resolve().parent.parent
FEATURES = 28
CHUNK = 250_000
# (track, options of a run, loaders)
TRACKS: dict[str, tuple[list[str], list[str]]] = {
    "shuffled": (["--shuffle"], list(LOADERS)),
    "in order": ([], [name for name in LOADERS if name not in ("fastshard-block", "tf-shuffle")]),
    "training a small MLP, shuffled": (
        ["--shuffle", "--train", "--epochs", "1"],
        ["fastshard-tensors", "torch-index-select", "torch-batch-sampler", "torch-dataloader"],
    ),
}
# (track, what, over what, at least)
CLAIMS = [
    ("shuffled", "fastshard", "torch-dataloader", 150),
    ("shuffled", "fastshard-tensors", "torch-index-select", 2),
    ("shuffled", "fastshard-tensors", "fastshard", 0.9),
    ("shuffled", "fastshard-dataset", "fastshard", 0.9),
    ("shuffled", "fastshard-graph", "fastshard", 0.5),
    ("shuffled", "fastshard-tensorflow", "fastshard", 0.5),
    ("shuffled", "fastshard-tensorflow", "tf-floor", 0.5),
    ("in order", "fastshard", "torch-index-select", 1),
    ("in order", "fastshard-tensors", "torch-index-select", 1),
]


def main() -> None:
    options = parse()
    data = prepare(options)
    about = machine.describe()
    rates = {track: contest(track, data, options) for track in TRACKS}
    print(f"\n{about['cpu']}, {about['cores']} cores; {len(fs.open(data / 'packed')):,} rows, batch {options.batch}")
    for track, found in rates.items():
        print(f"\n{table(track, found, options.batch)}")
    print(f"\n{claims(rates)}")
    options.out.mkdir(parents=True, exist_ok=True)
    stored = {"machine": about, "rows": options.rows, "batch": options.batch, "rates": rates}
    (options.out / "tables.json").write_text(json.dumps(stored, indent=2) + "\n")
    plot(rates, about, options.out / "tables.svg")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare loaders of tables.")
    parser.add_argument("--rows", type=int, default=11_000_000, help="rows of the table that is made")
    parser.add_argument("--csv", type=Path, help="a CSV without a header, label first, in place of it")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=LOADERS, help="these loaders alone")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench", help="where tables are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "results", help="where figures go")
    return parser.parse_args()


def prepare(options: argparse.Namespace) -> Path:
    """A folder with the table as two NumPy files and packed, made once."""
    name = options.csv.name.partition(".")[0] if options.csv else f"table-{options.rows}"
    folder: Path = options.work / name
    if not (folder / "packed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        if options.csv:
            read_csv(options.csv, folder)
        else:
            generate(folder, options.rows)
        columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("features", "label")}
        fs.pack(fs.from_arrays(columns), folder / "packed")
    return folder


def generate(folder: Path, rows: int) -> None:
    """Events of two kinds: 21 measured quantities of decays, whose scales differ, and seven functions of them."""
    features = np.lib.format.open_memmap(folder / "features.npy", "w+", np.float32, (rows, FEATURES))
    label = np.lib.format.open_memmap(folder / "label.npy", "w+", np.int64, (rows,))
    for start in range(0, rows, CHUNK):
        random = np.random.default_rng([rows, start])
        count = min(CHUNK, rows - start)
        kind = (random.random(count) < 0.53).astype(np.int64)
        momenta = random.gamma(2 + 0.2 * kind[:, None], 0.5, (count, 7))
        angles = random.normal(0, 1, (count, 7))
        turns = random.uniform(-np.pi, np.pi, (count, 7))
        # The mass of each pair of neighbours, from momenta and the angles between them.
        apart = np.cosh(angles - np.roll(angles, 1, axis=1)) - np.cos(turns - np.roll(turns, 1, axis=1))
        masses = np.sqrt(2 * momenta * np.roll(momenta, 1, axis=1) * apart)
        features[start : start + count] = np.concatenate([momenta, angles, turns, masses], axis=1)
        label[start : start + count] = kind
    features.flush()
    label.flush()


def read_csv(path: Path, folder: Path) -> None:
    from pyarrow import csv

    table = csv.read_csv(path, csv.ReadOptions(autogenerate_column_names=True))
    columns = [column.to_numpy() for column in table.columns]
    np.save(folder / "label.npy", columns[0].astype(np.int64))
    np.save(folder / "features.npy", np.stack(columns[1:], axis=1).astype(np.float32))


def contest(track: str, data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Rows per second of every loader: medians over processes, and over the passes of each."""
    arguments, names = TRACKS[track]
    names = [name for name in names if options.only is None or name in options.only]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for repeat in range(options.repeats):
        for name in names if repeat % 2 else reversed(names):
            print(f"{track}: {LOADERS[name][0]}, {repeat + 1} of {options.repeats}", file=sys.stderr)
            found[name].append(measure(name, data, arguments, options.batch))
    return {name: summary(runs) for name, runs in found.items()}


def measure(name: str, data: Path, arguments: list[str], batch: int) -> dict[str, Any]:
    script = Path(__file__).with_name("table_loaders.py")
    command = [sys.executable, str(script), name, "--data", str(data), "--batch", str(batch), *arguments]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    rates = [median(part["rows"] / part["seconds"] for part in run["passes"]) for run in runs]
    rows = runs[0]["rows"]
    scaled = any(part["rows"] < rows for run in runs for part in run["passes"])
    return {"rows_per_second": median(rates), "runs": rates, "epoch_seconds": rows / median(rates), "scaled": scaled}


def table(track: str, found: dict[str, Any], batch: int) -> str:
    best = next(iter(found.values()))["rows_per_second"]
    lines = [
        f"| {track} | Mrows/s | range | us a batch | s an epoch | first line is faster by |",
        "|---|---|---|---|---|---|",
    ]
    for name, result in found.items():
        rate, runs = result["rows_per_second"], result["runs"]
        lines.append(
            f"| {LOADERS[name][0]} | {rate / 1e6:.2f} | {min(runs) / 1e6:.2f}-{max(runs) / 1e6:.2f} "
            f"| {batch / rate * 1e6:,.1f} | {result['epoch_seconds']:,.2f}{' (scaled)' * result['scaled']} "
            f"| {best / rate:,.2f} |"
        )
    return "\n".join(lines)


def claims(rates: dict[str, dict[str, Any]]) -> str:
    lines = []
    for track, ours, theirs, least in CLAIMS:
        if {ours, theirs} <= rates[track].keys():
            ratio = rates[track][ours]["rows_per_second"] / rates[track][theirs]["rows_per_second"]
            verdict = "met" if ratio >= least else "MISSED"
            names = f"{LOADERS[ours][0]} / {LOADERS[theirs][0]}"
            lines.append(f"{track}: {names}: {ratio:,.2f}, at least {least}: {verdict}")
    return "\n".join(lines)


def plot(rates: dict[str, dict[str, Any]], about: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(rates), 1, figsize=(8, 2 + 0.3 * sum(map(len, rates.values()))), squeeze=False)
    for axis, (track, found) in zip(axes[:, 0], rates.items(), strict=True):
        names = list(reversed(found))
        values = [found[name]["rows_per_second"] / 1e6 for name in names]
        colours = ["tab:blue" if name.startswith("fastshard") else "tab:gray" for name in names]
        axis.barh([LOADERS[name][0] for name in names], values, color=colours)
        axis.set(xscale="log", title=track, xlabel="million rows a second (logarithmic)")
    figure.suptitle(f"Batches of a table; {about['cpu']}, {about['cores']} cores")
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
