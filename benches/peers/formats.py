"""What the loaders read, made of a folder of pictures, each in a process of its own: time and bytes on disk are told.

PYTHONPATH=benches python -m peers.formats original PHOTOS FOLDER
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from job import SIDE, list_files
from loaders import Loader

# In the order of making: the file or folder of each format, and what tables call it.
TARGETS = {
    "original": "packed",
    "seekable": "seekable",
    "raw": "raw",
    "pixels": "pixels.npy",
    "ffcv-jpeg": "ffcv-jpeg.beton",
    "ffcv-raw": "ffcv-raw.beton",
    "tar": "tar",
}
TITLES = {
    "": "files",
    "original": "shards, original bytes",
    "seekable": "shards, seekable",
    "raw": "shards, pixels",
    "pixels": "pixels",
    "ffcv-jpeg": "own file, encoded anew",
    "ffcv-raw": "own file, pixels",
    "tar": "tar",
}
TAR_FILES = 4


@dataclass(frozen=True)
class Made:
    """One format of one data set. `error` says why it could not be made."""

    dataset: str
    kind: str
    images: int = 0
    seconds: float = 0.0
    bytes: int = 0
    source_bytes: int = 0
    error: str = ""

    def __str__(self) -> str:
        if self.error:
            return f"{self.dataset}, {self.kind}: not made: {self.error}"
        rate = self.images / max(self.seconds, 1e-9)
        return (
            f"{self.dataset}, {self.kind}: {self.seconds:.1f} s ({rate:,.0f} img/s), {self.bytes / 1e6:,.1f} MB from "
            f"{self.source_bytes / 1e6:,.1f} MB"
        )


def needed(loader: Loader, track: str) -> str:
    """The format that a loader reads on a track; empty for the pictures' own files."""
    return "pixels" if track == "raw-train" and not loader.format else loader.format


def make(kind: str, photos: Path, folder: Path) -> Made:
    """Make it again even if it is there: packing time is part of the report, and fastshard may have changed."""
    command = [sys.executable, "-W", "ignore", "-m", "peers.formats", kind, str(photos), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Made(**json.loads(done.stdout.splitlines()[-1]))
    return Made(folder.name, kind, error=(done.stderr.strip().splitlines() or ["no output"])[-1])


def size_of(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _fastshard(photos: Path, target: Path, **options: Any) -> None:
    import fastshard as fs

    fs.pack(photos, target, overwrite=True, progress=False, **options)


def _pixels(target: Path) -> None:
    """The pixels of the raw shards, in their order, as one plain file."""
    import numpy as np

    import fastshard as fs

    dataset = fs.open(target.parent / "raw")
    rows = np.lib.format.open_memmap(target, "w+", np.uint8, (len(dataset), SIDE, SIDE, 3))
    for start, batch in zip(range(0, len(dataset), 64), fs.Loader(dataset, 64, fields=["image"]), strict=True):
        rows[start : start + 64] = batch["image"]
    rows.flush()


def _beton(mode: str, photos: Path, target: Path) -> None:
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    fields = {"image": RGBImageField(write_mode=mode, jpeg_quality=90), "label": IntField()}
    DatasetWriter(str(target), fields, num_workers=2).from_indexed_dataset(_Pictures(photos, mode == "raw"))


class _Pictures:
    def __init__(self, photos: Path, squash: bool) -> None:
        self.files, self.labels = list_files(photos)
        self.squash = squash

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        from PIL import Image

        image = Image.open(self.files[row]).convert("RGB")
        return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR) if self.squash else image, self.labels[row]


def _tar(photos: Path, target: Path) -> None:
    """Several files, so that workers have a share each; shuffled, as its documentation asks for."""
    target.mkdir(exist_ok=True)
    samples = list(zip(*list_files(photos), strict=True))
    random.Random(0).shuffle(samples)
    for part in range(TAR_FILES):
        with tarfile.open(target / f"{part}.tar", "w") as file:
            for path, label in samples[part::TAR_FILES]:
                name = Path(path).stem
                file.add(path, f"{name}.jpg")
                _add_text(file, f"{name}.cls", str(label))


def _add_text(file: tarfile.TarFile, name: str, text: str) -> None:
    from io import BytesIO

    entry = tarfile.TarInfo(name)
    entry.size = len(text)
    file.addfile(entry, BytesIO(text.encode()))


MAKERS: dict[str, Callable[[Path, Path], None]] = {
    "original": lambda photos, target: _fastshard(photos, target, seekable=False),
    "seekable": lambda photos, target: _fastshard(photos, target, seekable=True),
    "raw": lambda photos, target: _fastshard(photos, target, encode="raw", resize=(SIDE, SIDE)),
    "pixels": lambda _, target: _pixels(target),
    "ffcv-jpeg": lambda photos, target: _beton("jpg", photos, target),
    "ffcv-raw": lambda photos, target: _beton("raw", photos, target),
    "tar": _tar,
}


def main() -> None:
    kind, photos, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    target = folder / TARGETS[kind]
    started = time.perf_counter()
    MAKERS[kind](photos, target)
    seconds = time.perf_counter() - started
    images = len(list_files(photos)[0])
    print("\n" + json.dumps(asdict(Made(folder.name, kind, images, seconds, size_of(target), size_of(photos)))))


if __name__ == "__main__":
    main()
