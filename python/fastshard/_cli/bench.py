"""What ``fastshard bench`` measures: the loader alone, on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from fastshard import _fastshard
from fastshard._dataset import Dataset
from fastshard._load.loader import Batches, Loader
from fastshard._transforms.audio import AudioTransform, Mono, RandomWindow, Resample
from fastshard._transforms.image import ImageTransform, RandomHorizontalFlip, RandomResizedCrop

Step = ImageTransform | AudioTransform

__all__ = ["measure", "show"]


def measure(path: Path, steps: Sequence[Step] | None, seconds: float, options: dict[str, Any]) -> dict[str, Any]:
    """Opens the dataset, waits for the first batch, then counts samples for ``seconds``, over epochs if need be.

    ``steps`` are for all image fields, or else all audio fields; by default a random resized crop to 224 and a flip if
    images are encoded, and of audio two random seconds, at 16 kHz.
    """
    memory = _own_memory()
    started = time.perf_counter()
    dataset = Dataset(path)
    images = [field for field in dataset.fields if field.is_image]
    encoded = any(field.type == "image" for field in images)
    default: list[Step] = [RandomResizedCrop(224), RandomHorizontalFlip()] if encoded else []
    if not images:
        images = [field for field in dataset.fields if field.type == "audio"]
        default = [Mono(), Resample(16_000), RandomWindow(seconds=2)]
    chosen = default if steps is None else list(steps)
    loader = Loader(dataset, transforms={field.name: chosen for field in images}, **options)
    if len(dataset) == 0:
        raise ValueError(f"{path}: no rows to measure")
    batches = iter(loader)
    next(batches)
    first = time.perf_counter() - started
    samples, elapsed, peak = _count(loader, batches, seconds)
    return {
        "dataset": str(path),
        "rows": len(dataset),
        "transforms": [repr(step) for step in chosen] if images else [],
        "batch_size": loader.batch_size,
        "threads": options.get("num_threads") or _fastshard.available_threads(),
        "samples": samples,
        "seconds": elapsed,
        "samples_per_second": samples / elapsed,
        "first_batch_ms": first * 1000,
        "peak_memory_mib": None if peak is None or memory is None else max(0, peak - memory) / 2**20,
    }


def _count(loader: Loader, batches: Batches, seconds: float) -> tuple[int, float, int | None]:
    """Samples, seconds and the largest memory seen, from the second batch on."""
    started = time.perf_counter()
    samples, elapsed, peak = 0, 0.0, _own_memory()
    while elapsed < seconds:
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            continue
        samples += len(next(iter(batch.values())))
        elapsed = time.perf_counter() - started
        peak = max(peak, _own_memory() or 0) if peak is not None else None
    batches.close()
    return samples, elapsed, peak


def _own_memory() -> int | None:
    """Bytes of memory that are this process's own, without mapped files; None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def show(result: dict[str, Any], console: Console) -> None:
    """Prints a result with what it means."""
    steps = ", ".join(result["transforms"]) or "none"
    memory = result["peak_memory_mib"]
    lines = [
        f"{result['samples_per_second']:,.0f} samples/s   {result['samples']:,} samples in {result['seconds']:.1f} s",
        f"{result['first_batch_ms']:.0f} ms   from opening the dataset to its first batch",
        "peak memory unknown on this system"
        if memory is None
        else f"{memory:,.0f} MiB   peak memory beyond that of Python and of the mapped files",
        f"Measured: the bare loader, batches of {result['batch_size']} as NumPy arrays, {result['threads']} threads,",
        f"transforms {steps}. No model and no framework. What the system had cached was not read from disk again.",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
