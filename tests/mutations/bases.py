"""The datasets that are mutated: small, of every type of field, codec and version of the format."""

from __future__ import annotations

import io
import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

import fastshard as fs

__all__ = ["BASES", "Base"]

DATA = Path(__file__).parents[1] / "data"


@dataclass(frozen=True)
class Base:
    """How a dataset is made, and how it is trained from."""

    make: Callable[[Path], object]
    train: dict = field(default_factory=dict)
    cached: dict = field(default_factory=dict)
    mosaic: dict = field(default_factory=dict)
    exports: tuple[str, ...] = ("webdataset", "parquet", "tfrecord")


def picture(width: int, height: int, seed: int, kind: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    """A small smooth picture as a file."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


FILES = (
    {"width": 150, "height": 40},
    {"kind": "JPEG", "progressive": True, "subsampling": "4:4:4"},
    {"kind": "JPEG", "mode": "L"},
    {"kind": "JPEG", "mode": "CMYK"},
    {"kind": "PNG"},
    {"kind": "PNG", "mode": "P"},
    {"kind": "PNG", "mode": "I;16"},
    {"kind": "PNG", "mode": "L"},
    {"kind": "WEBP"},
    {"kind": "WEBP", "mode": "RGBA", "lossless": True},
    {"kind": "BMP", "width": 120, "height": 100},
    {"kind": "GIF"},
    {"kind": "TIFF", "compression": "tiff_lzw"},
    {"kind": "TIFF", "mode": "L", "width": 190, "height": 180},
    {"width": 128, "height": 64},
)


def make_photos(path: Path, seekable: bool = True) -> None:
    rows = []
    for number, options in enumerate(FILES):
        size = {"width": 40 + number, "height": 36}
        rows.append(
            {
                "image": picture(seed=number, **(size | options)),
                "label": number % 3,
                "caption": f"caption {number} " * (number % 4),
                "blob": bytes([number]) * (number % 9),
                "x": np.float32(number) / 7,
                "ok": bool(number % 2),
                "t": np.arange(6, dtype=np.float32).reshape(2, 3) + number,
                "ids": np.arange(number % 6, dtype=np.int64) + number,
                "group": f"g{number % 5}",
            }
        )
    types = {"ids": "list[int64]"}
    names = {"label": ["ant", "bee", "cat"]}
    fs.pack(rows, path, types=types, class_names=names, seekable=seekable, shard_size="64KiB", progress=False)


def make_folder(path: Path) -> None:
    """Files in folders of classes, stored as they are, some of which EXIF data turns."""
    source = path.with_name("folder.src")
    for number in range(8):
        exif = Image.Exif()
        exif[0x0112] = 1 + number
        file = source / "ab"[number % 2] / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(160 + number, 120, number, exif=exif, quality=95, subsampling="4:4:4"))
    fs.pack(source, path, seekable=False, shard_size="64KiB", progress=False)


def make_coco(path: Path) -> None:
    """Boxes with labels, key points, areas and segmentations of each kind."""
    source = path.with_name("coco.src")
    (source / "images").mkdir(parents=True, exist_ok=True)
    images, objects = [], []
    for number in range(8):
        width, height = 150 + number, 90 + 2 * number
        (source / f"images/{number}.jpg").write_bytes(picture(width, height, number, quality=95))
        images.append({"id": number, "file_name": f"{number}.jpg", "width": width, "height": height})
        for at in range(number % 4):
            x, y = 3 + at, 4 + at
            polygon = [[x, y, x + 20, y, x + 20, y + 16, x, y + 16]]
            runs = {"size": [height, width], "counts": [height * 10, height * 5, height * width - height * 15]}
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": number,
                    "category_id": 1 + at % 2,
                    "bbox": [x, y, 20, 16],
                    "area": 320,
                    "iscrowd": at % 2,
                    "segmentation": runs if at % 2 else polygon,
                    "keypoints": [x, y, 2, x + 5, y + 5, 1],
                }
            )
    categories = [{"id": one, "name": f"c{one}", "keypoints": ["a", "b"]} for one in (1, 2)]
    content = {"images": images, "annotations": objects, "categories": categories}
    (source / "instances.json").write_text(json.dumps(content))
    fs.pack(
        source / "images",
        path,
        annotations=source / "instances.json",
        seekable=True,
        shard_size="64KiB",
        progress=False,
    )


def make_audio(path: Path) -> None:
    import soundfile

    rows = []
    for number, (kind, channels) in enumerate(itertools.product(("WAV", "FLAC", "OGG", "MP3"), (1, 2))):
        time = np.arange(4000 + 100 * number)[:, None] / 8000
        samples = 0.4 * np.sin(2 * np.pi * (300 + 40 * number) * time + np.arange(channels))
        stream = io.BytesIO()
        soundfile.write(stream, samples.astype(np.float32), 8000, format=kind)
        rows.append({"audio": stream.getvalue(), "label": number % 3})
    names = {"label": ["x", "y", "z"]}
    fs.pack(rows, path, types={"audio": "audio"}, class_names=names, shard_size="64KiB", progress=False)


def make_table(path: Path) -> None:
    """Rows of a fixed size, in several blocks and shards."""
    rows = [
        {
            "x": np.arange(90, dtype=np.float32) + number,
            "label": number % 4,
            "weight": np.float64(number),
            "u": np.uint16(number),
        }
        for number in range(250)
    ]
    names = {"label": ["k", "l", "m", "n"]}
    fs.pack(rows, path, class_names=names, shard_size="64KiB", progress=False)


def make_lists(path: Path) -> None:
    """Rows of all lengths without files."""
    rows = [
        {
            "text": "täxt " * (number % 5),
            "blob": bytes(range(256)) * (number % 11),
            "ids": np.arange(number % 6, dtype=np.int32),
            "points": np.full((number % 3, 2), number, np.float32),
            "flags": np.arange(number % 4) % 2 == 0,
            "label": number % 2,
        }
        for number in range(80)
    ]
    types = {"ids": "list[int32]", "points": "list[float32, 2]", "flags": "list[bool]"}
    fs.pack(rows, path, types=types, class_names={"label": ["no", "yes"]}, shard_size="64KiB", progress=False)


def make_pixels(path: Path) -> None:
    """Raw pixels with boxes."""
    rows = [
        {
            "image": picture(24, 20, number, "PNG"),
            "boxes": np.array([[1, 2, 10 + number, 12]] * (number % 3), np.float32).reshape(-1, 4),
            "labels": np.arange(number % 3),
        }
        for number in range(60)
    ]
    types = {"boxes": "boxes[xyxy]", "labels": "list[int64] along boxes"}
    fs.pack(rows, path, types=types, encode="raw", resize=(20, 24), shard_size="64KiB", progress=False)


def make_blocks(path: Path) -> None:
    """Two blocks in one shard, which takes more than 65,536 rows of variable length."""
    rows = ({"text": "ab"[: number % 3], "u": np.uint8(number % 251)} for number in range(66_000))
    fs.pack(rows, path, progress=False)


def make_version_1(path: Path) -> None:
    shutil.copytree(DATA / "version-1", path)


CROPS = {"image": [fs.RandomResizedCrop(24), fs.RandomHorizontalFlip()]}
CACHED = {"image": [fs.Resize(28), fs.RandomCrop(24)]}
MOSAIC = {"image": [fs.Mosaic(32), fs.RandomAffine(10), fs.CenterCrop(24)]}
MASKS = {"segmentation": fs.InstanceMasks()}
PADDED = {"boxes": fs.PadSequence(-1)}

BASES = {
    "photos": Base(make_photos, CROPS, CACHED, MOSAIC),
    "folder": Base(make_folder, CROPS, CACHED, MOSAIC, ("folder", "parquet")),
    "coco": Base(make_coco, CROPS | MASKS, CACHED | MASKS, MOSAIC | MASKS, ("coco", "parquet", "webdataset")),
    "audio": Base(make_audio, {"audio": [fs.Mono(), fs.Resample(6000), fs.RandomWindow(seconds=0.1)]}),
    "table": Base(make_table, {"x": fs.Standardize(mean=1.0, std=2.0)}),
    "lists": Base(make_lists, {"ids": fs.PadSequence(-1), "points": fs.Truncate(1)}),
    "pixels": Base(make_pixels, CROPS | PADDED, {}, MOSAIC | PADDED),
    "blocks": Base(make_blocks, exports=("parquet",)),
    "version-1": Base(make_version_1, CROPS, CACHED, MOSAIC, ("folder", "parquet")),
}
