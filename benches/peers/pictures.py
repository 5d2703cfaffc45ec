"""Pictures of two more kinds, from the same photographs as photos.py: 12-megapixel JPEGs and gray 1024x1024 PNGs.

Enlarging invents no detail, so the noise is what a sensor of that size would add: it decides how many bytes there are
to decode. The JPEGs come to 3-4 MB at quality 90, as a phone's do, the PNGs to 500 KB, as chest X-rays do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from photos import SOURCES, available_cores, source, with_progress

MEGAPIXELS_12 = (4032, 3024)
XRAY = (1024, 1024)
VERSION = 1
Writer = Callable[[Path, str, int], None]


def large(folder: Path, count: int) -> Path:
    return _fill(folder, count, _write_large)


def xray(folder: Path, count: int) -> Path:
    return _fill(folder, count, _write_xray)


def sample(photos: Path, folder: Path, count: int) -> Path:
    """A folder of links to a few pictures, evenly from all classes."""
    files = sorted(photos.glob("*/*.*"))
    for file in files[:: max(1, len(files) // count)][:count]:
        target = folder / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.link(file, target)
    return folder


def _fill(folder: Path, count: int, write: Writer) -> Path:
    """Leaves a folder alone that an earlier run finished."""
    marker, recipe = folder.with_suffix(".json"), {"count": count, "version": VERSION}
    if marker.exists() and json.loads(marker.read_text()) == recipe:
        return folder
    names = sorted(SOURCES)
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(available_cores()) as pool:
        done = pool.map(lambda index: write(folder, names[index % len(names)], index) or 1, range(count))
        sum(with_progress(done, count, f"pictures in {folder}"))
    marker.write_text(json.dumps(recipe))
    return folder


def _write_large(folder: Path, name: str, index: int) -> None:
    rng = np.random.default_rng([12, index])
    pixels = _part(source(name), MEGAPIXELS_12, rng)
    pixels += _noise((*pixels.shape[:2], 1), rng.uniform(4.0, 7.0), rng)
    _image(pixels).save(folder / name / f"{index:04d}.jpg", quality=90, subsampling="4:2:0")


def _write_xray(folder: Path, name: str, index: int) -> None:
    rng = np.random.default_rng([13, index])
    pixels = _part(source(name).convert("L"), XRAY, rng)
    pixels += _noise(pixels.shape, rng.uniform(0.8, 1.6), rng)
    _image(pixels).save(folder / name / f"{index:04d}.png")


def _part(picture: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A random part, as large as fits, with the shape of `size` and enlarged to it."""
    shrink = min(picture.width / size[0], picture.height / size[1]) * rng.uniform(0.8, 1.0)
    width, height = size[0] * shrink, size[1] * shrink
    left, top = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - height)
    part = picture.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
    return np.asarray(part, dtype=np.float32) * np.float32(rng.uniform(0.85, 1.15))


def _noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> np.ndarray:
    return np.float32(sigma) * rng.standard_normal(shape, dtype=np.float32)


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
