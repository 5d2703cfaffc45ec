"""What starting costs: the import, opening a data set of a million rows, its first batch, and memory in an epoch.

    python benches/startup.py

Every figure comes from fresh processes, on a warm page cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import machine

ROOT = Path(__file__).resolve().parent.parent

IMPORT = """
import json, sys, time
started = time.perf_counter()
import fastshard
seconds = time.perf_counter() - started
heavy = [name for name in ("torch", "tensorflow", "keras") if name in sys.modules]
print(json.dumps({"import_ms": seconds * 1000, "frameworks": heavy}))
"""
FIRST_BATCH = """
import json, sys, time
import numpy  # a training script has it; its own import takes as long as fastshard's
import fastshard as fs
path, shuffle = sys.argv[1], sys.argv[2] == "shuffled"
started = time.perf_counter()
dataset = fs.open(path)
opened = time.perf_counter()
batch = next(iter(fs.Loader(dataset, batch_size=1024, shuffle=shuffle)))
float(batch["x"].sum())
done = time.perf_counter()
print(json.dumps({"open_ms": (opened - started) * 1000, "first_batch_ms": (done - opened) * 1000}))
"""
EPOCH = """
import json, sys, time
import fastshard as fs
from processes import memory_of
loader = fs.Loader(fs.open(sys.argv[1]), batch_size=1024, shuffle=True)
before = peak = memory_of("self")["RssAnon"]
started = time.perf_counter()
for number, batch in enumerate(loader):
    float(batch["x"].sum())
    if number % 16 == 0:
        peak = max(peak, memory_of("self")["RssAnon"])
seconds = time.perf_counter() - started
print(json.dumps({"growth_mib": (peak - before) / 2**20, "mrows_per_s": len(loader.dataset) / seconds / 1e6}))
"""


def main() -> None:
    options = parse()
    dataset = prepare(options.work / f"rows-{options.rows}", options.rows)
    imports = [call(IMPORT) for _ in range(options.repeats)]
    figures = {
        "import_ms": median(run["import_ms"] for run in imports),
        "frameworks": sorted({name for run in imports for name in run["frameworks"]}),
        "in_order": medians([call(FIRST_BATCH, str(dataset), "in order") for _ in range(options.repeats)]),
        "shuffled": medians([call(FIRST_BATCH, str(dataset), "shuffled") for _ in range(options.repeats)]),
        "epoch": medians([call(EPOCH, str(dataset)) for _ in range(3)]),
    }
    print(text(figures, options.rows))
    options.out.mkdir(parents=True, exist_ok=True)
    stored = {"machine": machine.describe(), "rows": options.rows, **figures}
    (options.out / "startup.json").write_text(json.dumps(stored, indent=2) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure import, opening, first batch and memory.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench", help="the packed rows, kept")
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "results", help="where startup.json goes")
    return parser.parse_args()


def prepare(target: Path, rows: int) -> Path:
    """Pack the rows, unless an earlier run did: packing is atomic, so a folder that is there is complete."""
    if not target.exists():
        import fastshard as fs

        print(f"packing {rows:,} rows into {target}, once", file=sys.stderr)
        target.parent.mkdir(parents=True, exist_ok=True)
        fs.pack(samples(rows), target, progress=False)
    return target


def samples(rows: int) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(0)
    for start in range(0, rows, 4096):
        values = rng.standard_normal((min(4096, rows - start), 8), dtype=np.float32)
        yield from ({"x": row, "label": (start + index) % 10} for index, row in enumerate(values))


def call(code: str, *arguments: str) -> dict[str, Any]:
    """Run `code` in a fresh process, in this folder so that it finds its neighbours, and read its one line of JSON."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"a measured process failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def medians(runs: list[dict[str, Any]]) -> dict[str, float]:
    return {key: median(run[key] for run in runs) for key in runs[0]}


def text(figures: dict[str, Any], rows: int) -> str:
    lines = [f"import fastshard: {figures['import_ms']:.0f} ms, frameworks imported: {figures['frameworks'] or 'none'}"]
    for order in ("in_order", "shuffled"):
        run = figures[order]
        both = run["open_ms"] + run["first_batch_ms"]
        lines.append(
            f"{rows:,} rows, {order.replace('_', ' ')}: open {run['open_ms']:.1f} ms + first batch "
            f"{run['first_batch_ms']:.1f} ms = {both:.1f} ms"
        )
    epoch = figures["epoch"]
    lines.append(
        f"an epoch, shuffled: {epoch['mrows_per_s']:.2f} Mrows/s, memory beyond the mapping grew by "
        f"{epoch['growth_mib']:.1f} MiB"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
