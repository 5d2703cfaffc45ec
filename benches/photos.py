"""Make a folder of photographs to measure on: one folder a class, each JPEG about 80 KB, no download.

The pictures are random crops of the real photographs inside the wheels of scikit-image and scikit-learn (the class is
the photograph), with sensor noise added, because upscaled crops without noise compress to a fraction of what a camera
writes, and entropy decoding is most of the cost of a JPEG. Picture `i` depends on the seed and `i` only.

    python benches/photos.py FOLDER --count 3000
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

# Read from the installed packages, never through `skimage.data`, which would download what a wheel leaves out.
SOURCES = {
    "astronaut": "skimage/data/astronaut.png",
    "chelsea": "skimage/data/chelsea.png",
    "china": "sklearn/datasets/images/china.jpg",
    "coffee": "skimage/data/coffee.png",
    "flower": "sklearn/datasets/images/flower.jpg",
    "hubble": "skimage/data/hubble_deep_field.jpg",
    "ihc": "skimage/data/ihc.png",
    "motorcycle": "skimage/data/motorcycle_left.png",
    "retina": "skimage/data/retina.jpg",
    "rocket": "skimage/data/rocket.jpg",
}
MARKER = ".photos.json"
VERSION = 1
# Standard deviation of the noise in levels, drawn per picture; chosen so that the mean file is 75-85 KB at quality 90.
NOISE = (5.0, 11.0)
MAX_UPSCALE = 1.6


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the content of the folder."""

    count: int = 3000
    classes: int = 10
    seed: int = 0
    quality: int = 90
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")
        if not 1 <= self.classes <= len(SOURCES):
            raise ValueError(f"classes must be 1 to {len(SOURCES)}, got {self.classes}")

    @property
    def names(self) -> list[str]:
        return sorted(SOURCES)[: self.classes]


def generate(folder: str | Path, count: int = 3000, classes: int = 10, seed: int = 0, quality: int = 90) -> Path:
    """Fill `folder` with `count` photographs, or leave it alone if it already holds exactly these.

    Raises FileExistsError for a folder with other content that this function did not write.
    """
    folder, recipe = Path(folder), Recipe(count, classes, seed, quality)
    if _read_marker(folder) == (recipe, True):
        return folder
    _clear(folder)
    for name in recipe.names:
        (folder / name).mkdir(parents=True)
    _write_marker(folder, recipe, complete=False)
    with ThreadPoolExecutor(available_cores()) as pool:
        # Threads suffice: NumPy and Pillow release the interpreter lock in all the long steps.
        done = pool.map(lambda index: write_photo(folder, index, recipe), range(count))
        total = sum(with_progress(done, count, f"photos in {folder}"))
    _write_marker(folder, recipe, complete=True, total_bytes=total)
    return folder


def write_photo(folder: Path, index: int, recipe: Recipe) -> int:
    """Write picture `index` and return its size in bytes."""
    name = recipe.names[index % recipe.classes]
    path = folder / name / f"{index:06d}.jpg"
    rng = np.random.default_rng([recipe.seed, index])
    make_photo(source(name), rng).save(path, quality=recipe.quality, subsampling="4:2:0")
    return path.stat().st_size


def make_photo(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Draw one photograph, 400-600 pixels wide, from a source picture."""
    width = int(rng.integers(400, 601))
    height = round(width * 0.75 * rng.uniform(0.9, 1.1))
    photo = picture.resize((width, height), Image.Resampling.BICUBIC, box=_window(picture, width, height, rng))
    if rng.random() < 0.5:
        photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _expose(photo, rng)


def _window(
    picture: Image.Image, width: int, height: int, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """A random part of the source with the photo's aspect ratio, enlarged up to `MAX_UPSCALE` where it fits so."""
    largest = min(picture.width / width, picture.height / height)
    scale = rng.uniform(min(largest, 1 / MAX_UPSCALE), min(largest, 1.5))
    left = rng.uniform(0, picture.width - width * scale)
    top = rng.uniform(0, picture.height - height * scale)
    return left, top, left + width * scale, top + height * scale


def _expose(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Vary the brightness a little and add noise: mostly luminance, a third as much in each colour."""
    pixels = np.asarray(photo, dtype=np.float32) * np.float32(rng.uniform(0.85, 1.15))
    sigma = np.float32(rng.uniform(*NOISE))
    pixels += sigma * rng.standard_normal((*pixels.shape[:2], 1), dtype=np.float32)
    pixels += sigma / 3 * rng.standard_normal(pixels.shape, dtype=np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))


@cache
def source(name: str) -> Image.Image:
    """The source photograph called `name`, decoded once."""
    package, _, inside = SOURCES[name].partition("/")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the photograph {name!r} comes with {package}, which is not installed")
    return Image.open(Path(spec.origin).parent / inside).convert("RGB")


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def with_progress(items: Iterable[int], count: int, title: str) -> Iterable[int]:
    """Pass `items` through; on a terminal, show how many went by and the time left."""
    return track(items, title, total=count, console=Console(stderr=True), disable=not sys.stderr.isatty())


def _read_marker(folder: Path) -> tuple[Recipe, bool] | None:
    """The recipe of an earlier run and whether that run finished."""
    try:
        marker = json.loads((folder / MARKER).read_text())
        return Recipe(**marker["recipe"]), bool(marker["complete"])
    except FileNotFoundError:
        return None


def _write_marker(folder: Path, recipe: Recipe, *, complete: bool, total_bytes: int = 0) -> None:
    marker = {"recipe": asdict(recipe), "complete": complete, "bytes": total_bytes}
    (folder / MARKER).write_text(json.dumps(marker, indent=2) + "\n")


def _clear(folder: Path) -> None:
    """Remove what an earlier run left, and refuse to touch anything else."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / MARKER).exists():
        raise FileExistsError(f"{folder} is not empty and was not written by this generator")
    for name in SOURCES:
        shutil.rmtree(folder / name, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Generate a folder of photographs, one folder a class.")
    parser.add_argument("folder", type=Path)
    defaults = Recipe()
    parser.add_argument("--count", type=int, default=defaults.count)
    parser.add_argument("--classes", type=int, default=defaults.classes)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--quality", type=int, default=defaults.quality)
    options = parser.parse_args()
    folder = generate(**vars(options))
    total = json.loads((folder / MARKER).read_text())["bytes"]
    print(f"{options.count:,} photos in {folder}, {total / options.count / 1000:.1f} KB on average")


if __name__ == "__main__":
    main()
