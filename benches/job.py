"""What one measurement is asked to do, in words that every loader understands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# A batch; on the track "decode" a list of pictures of different sizes.
Images = npt.NDArray[Any]
# Called once per measurement; the iterator never ends, epoch follows epoch, as in training.
Stream = Callable[[], Iterator[Images]]

TRACKS = {
    "train": "RandomResizedCrop(224) + flip, uint8 NHWC",
    "eval": "Resize(256) + CenterCrop(224), uint8 NHWC",
    "cached-train": "Resize(256) + RandomResizedCrop(224) + flip, uint8 NHWC",
    "resize": "Resize((224, 224)) + flip, uint8 NHWC",
    "float": "train + normalise, float32 NCHW",
    "raw": "224x224x3 uint8 shards, shuffled, no transform",
    "decode": "decode only, pictures of their own sizes, uint8",
    "randaugment": "train + RandAugment(2, 9), uint8 NHWC",
    "augment": "flips, rotation 0.45 of a turn, contrast 0.2, zoom 0.1, shear 0.1 at 224, NHWC",
    "large": "12-megapixel photos, RandomResizedCrop(224) + flip, uint8 NHWC",
    "large-eval": "12-megapixel photos, Resize(256) + CenterCrop(224), uint8 NHWC",
    "xray": "1024x1024 gray PNG, fitted into 512x512 and padded, uint8",
    "raw-train": "stored 224x224x3 pixels, RandomResizedCrop(224) + flip, uint8 NHWC",
}
IN_ORDER = ("eval", "decode", "large-eval", "xray")
SIDE = 224
EVAL_SIDE = 256
XRAY_SIDE = 512
SCALE = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# The augmentation set: turns, zoom and contrast as fractions, as Keras takes them; shear in degrees.
ROTATION, CONTRAST, ZOOM, SHEAR = 0.45, 0.2, 0.1, 0.1
# RandAugment, torchvision's defaults.
NUM_OPS, MAGNITUDE = 2, 9


@dataclass(frozen=True)
class Job:
    """One track over one data set: `photos` is the folder per class, `packed` and `raw` are the same as shards.

    `formats` is the folder in which peers/formats.py keeps what else it made of the photos.
    """

    track: str
    photos: str
    packed: str
    raw: str
    batch: int = 64
    workers: int = 2
    seed: int = 0
    formats: str = ""

    def __post_init__(self) -> None:
        if self.track not in TRACKS:
            raise ValueError(f"track must be one of {', '.join(TRACKS)}, got {self.track!r}")

    @property
    def shuffle(self) -> bool:
        return self.track not in IN_ORDER

    @property
    def shape(self) -> tuple[int, int, int]:
        """One picture of a batch; peers may leave out the only channel of a gray one, or put channels first."""
        return (XRAY_SIDE, XRAY_SIDE, 1) if self.track == "xray" else (SIDE, SIDE, 3)

    def is_sound(self, batch: Images) -> bool:
        """Whether a batch has pictures of the right size, and not only zeros, as a slot that was never written has."""
        if self.track == "decode":
            return all(image.ndim == 3 and image.size > SIDE * SIDE * 3 and touch(image[None]) for image in batch)
        return touch(batch) != 0.0 and batch.ndim >= 3 and batch.size == len(batch) * prod(self.shape)


def touch(batch: Images) -> float:
    """Read a little of every page or so of a batch, so that it must exist in memory."""
    return float(batch[:, ::7, ::31].sum(dtype=np.float64))


def list_files(folder: str | Path) -> tuple[list[str], list[int]]:
    """The pictures of a folder per class, sorted, and the number of each one's class."""
    classes = sorted(entry for entry in Path(folder).iterdir() if entry.is_dir())
    files = [(str(path), label) for label, name in enumerate(classes) for path in sorted(name.iterdir())]
    return [path for path, _ in files], [label for _, label in files]
