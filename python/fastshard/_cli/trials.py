"""What ``fastshard bench --trials`` measures: processes one after another that share a cache, as in a search."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fastshard import _fastshard
from fastshard._dataset import Dataset
from fastshard._load.loader import Loader
from fastshard._transforms.parse import parse_transform

__all__ = ["run", "show"]

# A beginning that can be kept, and then what is random.
_DEFAULT = ("Resize(256)", "RandomResizedCrop(224)", "RandomHorizontalFlip()")


def run(
    path: Path,
    steps: Sequence[str] | None,
    count: int,
    seconds: float,
    step_ms: float,
    cache: Path | None,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Starts ``count`` processes one after another; each goes through one epoch, for ``seconds`` at most.

    ``steps`` are for all image fields; ``step_ms`` is how long training on a batch is taken to last. ``cache`` is the
    folder that they share; by default one that is empty, and removed in the end.
    """
    dataset = Dataset(path)
    if len(dataset) == 0:
        raise ValueError(f"{path}: no rows to measure")
    encoded = any(field.type == "image" for field in dataset.fields)
    default = _DEFAULT if encoded else ()
    chosen = list(default if steps is None else steps)
    folder = tempfile.TemporaryDirectory(prefix="fastshard-bench-") if cache is None else nullcontext(str(cache))
    with folder as shared:
        spec = {"path": str(path), "steps": chosen, "seconds": seconds, "step_ms": step_ms}
        spec |= {"options": options | {"cache": shared}}
        loader = _loader(spec)  # what is wrong with options shows here, and not in each process
        trials = [_in_a_process(spec) for _ in range(count)]
    return {
        "dataset": str(path),
        "rows": len(dataset),
        "transforms": chosen if any(field.is_image for field in dataset.fields) else [],
        "batch_size": loader.batch_size,
        "threads": options.get("num_threads") or _fastshard.available_threads(),
        "step_ms": step_ms,
        "trials": trials,
    }


def _in_a_process(spec: dict[str, Any]) -> dict[str, float]:
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, input=json.dumps(spec), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ChildProcessError(f"a trial failed: {said[-1]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _loader(spec: dict[str, Any]) -> Loader:
    dataset = Dataset(spec["path"])
    steps = [parse_transform(text) for text in spec["steps"]]
    images = [field.name for field in dataset.fields if field.is_image]
    return Loader(dataset, transforms=dict.fromkeys(images, steps), **spec["options"])


def _trial(spec: dict[str, Any]) -> dict[str, float]:
    started = time.perf_counter()
    loader = _loader(spec)
    first = None
    with iter(loader) as batches:
        for _ in batches:
            first = first or time.perf_counter() - started
            time.sleep(spec["step_ms"] / 1000)
            if time.perf_counter() - started - first >= spec["seconds"]:
                break
    stats = loader.stats()
    names = ("samples", "samples_per_second", "stall_percent", "cache_hits", "cache_misses")
    return {"first_batch_ms": 1000 * (first or 0.0)} | {name: stats[name] for name in names}


def show(result: dict[str, Any], console: Console) -> None:
    """Prints a result with what it means."""
    table = Table(box=None, pad_edge=False, header_style="")
    for title in ("trial", "first batch", "samples/s", "stall", "from the cache"):
        table.add_column(title, justify="right")
    for number, trial in enumerate(result["trials"], 1):
        looked = trial["cache_hits"] + trial["cache_misses"]
        table.add_row(
            str(number),
            f"{trial['first_batch_ms']:,.0f} ms",
            f"{trial['samples_per_second']:,.0f}",
            f"{trial['stall_percent']:.0f} %",
            f"{trial['cache_hits']:,.0f} of {looked:,.0f}" if looked else "nothing to keep",
        )
    console.print(table)
    steps = ", ".join(result["transforms"]) or "none"
    step = f"steps of {result['step_ms']:g} ms" if result["step_ms"] else "no training"
    work = f"batches of {result['batch_size']}, {result['threads']} threads, {step}"
    lines = [
        f"Each trial: a new process, one epoch, {work}.",
        f"Transforms {steps}; what comes before the first random one is decoded once, for all trials.",
        "First batch: from opening the dataset. Stall: the share of the time that training would have waited.",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    print(json.dumps(_trial(json.load(sys.stdin))))
