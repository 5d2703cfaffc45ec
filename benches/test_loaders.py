"""Every loader on every track as a pytest-benchmark, grouped by track.

    pytest benches --benchmark-only

A few epochs of a small set each: good for seeing what a change did (`--benchmark-compare`). compare.py, with its
repeats in alternating order, is what to quote.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from job import SIDE, Job
from loaders import LOADERS
from photos import available_cores, generate
from remote import RemoteLoader

COUNT = 512
ROUNDS = 3
RAW_EPOCHS = 20
PAIRS = [pytest.param(name, track, id=f"{track}-{name}") for name, spec in LOADERS.items() for track in spec.tracks]
NEEDS = {"torch": "torchvision", "tf": "tensorflow", "keras": "tensorflow"}


@pytest.fixture(scope="session")
def data() -> dict[str, Any]:
    """Paths of the photographs as a folder, as packed JPEGs and as packed pixels; kept between runs."""
    fs = pytest.importorskip("fastshard")
    work = Path(__file__).resolve().parent.parent / "build" / "bench" / str(COUNT)
    photos = generate(work / "photos", COUNT)
    fs.pack(photos, work / "packed", overwrite=True, progress=False)
    fs.pack(photos, work / "raw", encode="raw", resize=(SIDE, SIDE), overwrite=True, progress=False)
    return {"photos": str(photos), "packed": str(work / "packed"), "raw": str(work / "raw")}


@pytest.mark.parametrize(("name", "track"), PAIRS)
def test_loader(name: str, track: str, data: dict[str, Any], benchmark: Any) -> None:
    skip_without_framework(name)
    benchmark.group = track
    images = COUNT * (RAW_EPOCHS if track == "raw" else 1)
    with RemoteLoader(name, Job(track, workers=available_cores(), **data)) as loader:
        seen = benchmark.pedantic(loader.read, args=(images,), rounds=ROUNDS, warmup_rounds=1, iterations=1)
    assert seen >= images
    if benchmark.stats:  # None under --benchmark-disable
        benchmark.extra_info["images_per_second"] = round(seen / benchmark.stats.stats.median)


def skip_without_framework(name: str) -> None:
    for part in name.split("-"):
        if part in NEEDS and not find_spec(NEEDS[part]):
            pytest.skip(f"{NEEDS[part]} is not installed")
